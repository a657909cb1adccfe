// A view that stays live: loaded again with each change of one event.

import { LiveStream } from "../data/stream.js";
import { element } from "./look.js";
import { problemNode } from "./problem.js";

const RELOAD_MILLISECONDS = 200;
const PENDING_MILLISECONDS = 5000; // what waits changes by time alone: a breaker opens, a pause of the receiver ends

/**
 * Loads what `load` returns: {nodes, answers, isPending, eventId, customerId}. Loads again with each change of the event,
 * and from time to time while something is pending. Equal answers change nothing; a problem is shown with a way to try again.
 */
export function followed(page, eventId, load) {
  const node = element("main", { className: "detail" }, element("div", { className: "note" }, "…"));
  const abort = new AbortController();
  let stream;
  let timer;
  let shown;
  let isPending = false;
  const show = async () => {
    try {
      const found = await load(abort.signal);
      const answers = JSON.stringify(found.answers);
      if (answers !== shown) replaced(node, found.nodes());
      shown = answers;
      isPending = found.isPending;
      found.shown?.();
      stream ??= follow(page, found, again);
    } catch (error) {
      if (error.name === "AbortError") return;
      shown = undefined;
      node.replaceChildren(problemNode(page, error, show));
    }
  };
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(show, RELOAD_MILLISECONDS);
  };
  node.addEventListener("acted", again);
  const clock = setInterval(() => isPending && !document.hidden && again(), PENDING_MILLISECONDS);
  show();
  return { node, stop: () => (abort.abort(), clearTimeout(timer), clearInterval(clock), stream?.stop()) };
}

/** Puts new nodes in the place of those of before; the focus goes to the node that stands where it was. */
function replaced(node, nodes) {
  const path = [];
  for (let at = node.getRootNode().activeElement; at && at !== node && node.contains(at); at = at.parentElement) {
    path.unshift([[...at.parentElement.children].indexOf(at), at.tagName]);
  }
  node.replaceChildren(...nodes);
  let found = node;
  for (const [index, tag] of path) found = found?.children[index]?.tagName === tag ? found.children[index] : null;
  if (path.length) found?.focus({ preventScroll: true });
}

function follow(page, { eventId, customerId }, changed) {
  const quiet = () => undefined;
  const stream = new LiveStream(page.api, `/api/deliveries:watch?event_id=${eventId}&customer_id=${customerId}`, {
    opened: ({ isResumed }) => isResumed && changed(),
    message: (message) => message.deliveries.length && changed(),
    interrupted: quiet,
    restarted: changed,
    refused: quiet,
  });
  stream.run();
  return stream;
}

/** Returns a handler of errors that answers with `instead`, unless the view has ended. */
export const unlessAborted = (instead) => (error) => {
  if (error.name === "AbortError") throw error;
  return instead;
};
