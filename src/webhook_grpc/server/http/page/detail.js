// One delivery: where it stands in a sentence, its attempts with request and answer, and the event's data; and one event
// with what it means for each webhook. Both stay live.

import { acts } from "./acts.js";
import { explain, outcomeText } from "./explain.js";
import { icon } from "./icons.js";
import { memberText, parse, pretty, visible } from "./json-text.js";
import { element } from "./look.js";
import { COLOURS, SHAPES, STATUSES } from "./store.js";
import { LiveStream } from "./stream.js";
import { iso, milliseconds, relative, seconds, span } from "./time.js";

const TRIGGERS = { scheduled: "Scheduled", manual: "Manual", replay: "Replay", test: "Test" };
const PRETTY_CHARACTERS_MAX = 64 * 1024; // a larger text is shown as it is, in pieces
const PIECE_CHARACTERS = 16 * 1024;
const RELOAD_MILLISECONDS = 200;

export const LOOK = `
.panel { border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; }
.detail { display: grid; gap: 12px; overflow: auto; align-content: start; }
.title { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; font-size: 16px; margin: 0; }
.story { font-size: 16px; margin: 8px 0; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 24px; color: var(--muted); }
.facts b { font-weight: 400; color: var(--ink); }
.attempts { display: grid; grid-template-columns: minmax(280px, 2fr) 3fr; gap: 16px; }
.attempts ol { list-style: none; margin: 0; padding: 0; }
.attempts li > button { display: grid; grid-template-columns: 32px 16px 1fr 72px; gap: 8px; align-items: center; width: 100%; text-align: left; border-color: transparent; }
.attempts li > button[aria-selected="true"] { border-color: var(--accent); }
.attempts .wait-between { padding-left: 48px; color: var(--muted); font-size: 12px; }
.attempts svg { width: 12px; height: 12px; }
pre { margin: 0; padding: 12px; background: var(--surface); border-radius: 6px; overflow: auto; max-height: 480px; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 8px 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 14px; margin: 8px 0 4px; }
.ok { color: var(--ok); } .wait { color: var(--wait); } .bad { color: var(--bad); } .off { color: var(--off); }
.state { display: flex; gap: 6px; align-items: center; }
.buttons { display: flex; flex-wrap: wrap; gap: 8px; }
.why { list-style: none; padding: 0; margin: 0; display: grid; gap: 8px; }
.why li { display: grid; grid-template-columns: 200px 1fr; gap: 12px; }
@media (max-width: 720px) { .attempts, .why li { grid-template-columns: 1fr; } }
`;

/** Shows one delivery. `page` is what all views share; returns the element and how to end it. */
export function deliveryView(page, { id, filter, fragment }) {
  return followed(page, "", async (signal) => {
    const query = filter.customer_id ? `?customer_id=${encodeURIComponent(filter.customer_id)}` : "";
    const delivery = await page.api.get(`/api/deliveries/${id}${query}`, { signal });
    const customer = `customer_id=${delivery.customer_id}`;
    const [attempts, event, explanation, webhook] = await Promise.all([
      page.api.get(`/api/deliveries/${id}/attempts?${customer}`, { signal }),
      eventOf(page, `/api/events/${delivery.event_id}?${customer}`, signal).catch(unlessAborted(null)),
      page.api.get(`/api/events/${delivery.event_id}:explain?${customer}`, { signal }).catch(unlessAborted({ webhooks: [] })),
      page.api.get(`/api/webhooks/${delivery.webhook_id}?${customer}`, { signal }).catch(unlessAborted({})),
    ]);
    const nodes = deliveryNodes(page, { delivery, attempts: attempts.attempts, event, explanation, webhook, fragment });
    return { nodes, eventId: delivery.event_id, customerId: delivery.customer_id };
  });
}

/** Shows one event and what it means for each webhook of its customer. */
export function eventView(page, { id, filter }) {
  return followed(page, id, async (signal) => {
    const query = filter.customer_id ? `?customer_id=${encodeURIComponent(filter.customer_id)}` : "";
    const event = await eventOf(page, `/api/events/${id}${query}`, signal);
    const customer = `customer_id=${event.customer_id}`;
    const explanation = await page.api.get(`/api/events/${id}:explain?${customer}`, { signal });
    const webhooks = await named(page, explanation, customer, signal);
    return { nodes: eventNodes(page, event, explanation, webhooks), eventId: id, customerId: event.customer_id };
  });
}

/** Returns an event with its data as text, to the byte. */
async function eventOf(page, path, signal) {
  const text = await page.api.text(path, { signal });
  return { ...parse(text), data_text: memberText(text, "data") ?? "" };
}

/** Returns what is known of the webhooks of an explanation whose sentence needs more than the explanation has. */
async function named(page, explanation, customer, signal) {
  const needed = explanation.webhooks.filter((entry) => ["type_not_subscribed", "created_later"].includes(entry.verdict)).slice(0, 20);
  const found = await Promise.all(
    needed.map((entry) => page.api.get(`/api/webhooks/${entry.webhook_id}?${customer}`, { signal }).catch(unlessAborted({}))),
  );
  return new Map(found.map((webhook, index) => [needed[index].webhook_id, webhook]));
}

const unlessAborted = (instead) => (error) => {
  if (error.name === "AbortError") throw error;
  return instead;
};

/** Loads what `load` returns, and again with each change of the event; a problem is shown with a way to try again. */
function followed(page, eventId, load) {
  const node = element("main", { className: "detail" }, element("div", { className: "note" }, "…"));
  const abort = new AbortController();
  let stream;
  let timer;
  const show = async () => {
    try {
      const found = await load(abort.signal);
      node.replaceChildren(...found.nodes);
      stream ??= follow(page, found, again);
    } catch (error) {
      if (error.name !== "AbortError") node.replaceChildren(problemNode(page, error, show));
    }
  };
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(show, RELOAD_MILLISECONDS);
  };
  node.addEventListener("acted", again);
  show();
  return { node, stop: () => (abort.abort(), clearTimeout(timer), stream?.stop()) };
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

/** Returns a problem as a panel of its own, with its reason, its request id and a way to try again. */
export function problemNode(page, error, retry) {
  const { title = "", reason = "", request_id: requestId = "" } = error.document ?? {};
  const button = element("button", {}, page.words("Try again"));
  button.addEventListener("click", retry);
  return element(
    "div",
    { className: "panel", role: "alert" },
    element("div", { className: "bad" }, `${title} ${error.message}`.trim()),
    element("div", { className: "muted" }, `${reason}  ${page.words("Request id")} ${requestId}`),
    button,
  );
}

// --- the parts -----------------------------------------------------------------------------------------------------

function deliveryNodes(page, { delivery, attempts, event, explanation, webhook, fragment }) {
  const { words } = page;
  const entry = explanation.webhooks.find((one) => one.webhook_id === delivery.webhook_id);
  const name = visible(webhook.name ?? entry?.name ?? "");
  const head = element(
    "section",
    { className: "panel" },
    element("h2", { className: "title" }, stateNode(page, delivery.status), element("code", {}, delivery.event_type), element("span", {}, "→"), webhookLink(delivery, name)),
    element("p", { className: "story" }, entry ? explain(entry, delivery, words, page.clock, webhook) : ""),
    acts(page, delivery, event),
    element(
      "p",
      { className: "facts" },
      fact("webhook-id", element("code", {}, delivery.event_id)),
      fact(words("Published"), page.clock(milliseconds(delivery.create_time))),
      ...(event?.occur_time ? [fact(words("Occurred"), page.clock(milliseconds(event.occur_time)))] : []),
      ...(delivery.replay_id ? [fact(words("Replay"), String(delivery.replay_id))] : []),
    ),
  );
  return [head, attemptsNode(page, delivery, attempts, fragment), dataNode(page, event)];
}

function webhookLink(delivery, name) {
  return element("a", { href: `/webhooks/${delivery.webhook_id}?customer_id=${delivery.customer_id}` }, `${name} #${delivery.webhook_id}`);
}

function fact(name, value) {
  return element("span", {}, `${name} `, element("b", {}, value));
}

function stateNode(page, status) {
  const word = STATUSES[status] ? page.words(STATUSES[status]) : status;
  return element("span", { className: `state ${COLOURS[status] ?? "off"}` }, icon(status), word);
}

function attemptsNode(page, delivery, attempts, fragment) {
  const { words } = page;
  const shown = element("div", {});
  const list = element("ol", { role: "listbox" });
  const select = (attempt) => {
    for (const button of list.querySelectorAll("button")) button.setAttribute("aria-selected", String(button.number === attempt.attempt_number));
    shown.replaceChildren(...attemptNodes(page, attempt));
  };
  if (delivery.next_attempt_time) {
    list.append(element("li", { className: "muted" }, `${words("Next attempt")}: ${page.clock(milliseconds(delivery.next_attempt_time))}`));
  }
  attempts.forEach((attempt, index) => list.append(...attemptItems(page, attempt, attempts[index + 1], select)));
  const wanted = attempts.find((attempt) => fragment === `attempt-${attempt.attempt_number}`) ?? attempts[0];
  if (wanted) select(wanted);
  else shown.append(words("not tried yet"));
  return element("section", { className: "panel attempts" }, list, shown);
}

/** Returns an attempt as an item of the list, and the wait between it and the one before. */
function attemptItems(page, attempt, before, select) {
  const { words } = page;
  const button = element(
    "button",
    { role: "option" },
    element("span", {}, String(attempt.attempt_number)),
    icon(SHAPES[attempt.outcome]),
    element("span", {}, `${outcomeText(attempt, words)} · ${words(TRIGGERS[attempt.trigger] ?? attempt.trigger ?? "")}`),
    element("span", {}, span(seconds(attempt.latency))),
  );
  button.number = attempt.attempt_number;
  button.title = page.clock(milliseconds(attempt.start_time));
  button.addEventListener("click", () => select(attempt));
  const items = [element("li", {}, button)];
  if (before) {
    const waited = (milliseconds(attempt.start_time) - milliseconds(before.start_time)) / 1000 - seconds(before.latency);
    items.push(element("li", { className: "wait-between" }, `┆ ${span(Math.max(0, waited))}`));
  }
  return items;
}

function attemptNodes(page, attempt) {
  const { words } = page;
  const started = milliseconds(attempt.start_time);
  const nodes = [
    element("h3", {}, `${words("Attempt {n}", { n: attempt.attempt_number })} · ${words(TRIGGERS[attempt.trigger] ?? attempt.trigger ?? "")}`),
    element("div", { className: "muted" }, element("time", { dateTime: iso(started), title: iso(started) }, `${page.clock(started)} (${relative(started, page.now(), words, page.options)})`)),
    element("div", {}, `POST, ${attempt.request_bytes || "?"} bytes`),
    headersNode(attempt.request_headers),
    element("h3", {}, `${words("Response")}: ${outcomeText(attempt, words)}, ${span(seconds(attempt.latency))}`),
  ];
  if (attempt.error_message) nodes.push(element("div", { className: "bad" }, attempt.error_message));
  nodes.push(headersNode(attempt.response_headers));
  if (attempt.response_text) nodes.push(element("pre", {}, visible(attempt.response_text)));
  return nodes;
}

function headersNode(headers = {}) {
  const list = element("dl", {});
  for (const [name, value] of Object.entries(headers).sort()) {
    list.append(element("dt", { className: "code" }, visible(name)), element("dd", { className: "code" }, visible(value)));
  }
  return list;
}

/** Returns an event's data: indented, or as it was published; a large one in pieces. */
export function dataNode(page, event) {
  const { words } = page;
  if (!event) return element("section", { className: "panel muted" }, words("Expired: {story}; the event is no longer kept.", { story: "–" }));
  const text = event.data_text;
  const box = element("pre", {});
  const more = element("button", { hidden: true });
  const indented = text.length <= PRETTY_CHARACTERS_MAX ? pretty(text) : null;
  let length = PIECE_CHARACTERS;
  const show = (isPretty) => {
    const whole = isPretty && indented !== null ? indented : text;
    box.textContent = visible(whole.slice(0, length));
    more.hidden = whole.length <= length;
    more.textContent = `${Math.round(length / 1024)} / ${Math.round(whole.length / 1024)} KiB +`;
  };
  const buttons = element("div", { className: "buttons" });
  for (const [word, isPretty] of [["Pretty", true], ["Raw", false]]) {
    const button = element("button", { disabled: isPretty && indented === null }, words(word));
    button.addEventListener("click", () => show(isPretty));
    buttons.append(button);
  }
  more.addEventListener("click", () => ((length += PIECE_CHARACTERS), show(false)));
  show(true);
  return element("section", { className: "panel" }, element("h3", {}, words("Data")), buttons, box, more);
}

function eventNodes(page, event, explanation, webhooks) {
  const { words } = page;
  const head = element(
    "section",
    { className: "panel" },
    element("h2", { className: "title" }, element("code", {}, event.event_type)),
    element(
      "p",
      { className: "facts" },
      fact("event_id", element("code", {}, event.event_id)),
      fact(words("Customer"), String(event.customer_id)),
      fact(words("Published"), page.clock(milliseconds(event.create_time))),
      ...Object.entries(event.attributes ?? {}).map(([name, value]) => fact(visible(name), visible(value))),
    ),
  );
  const matchedFirst = [...explanation.webhooks].sort((a, b) => (b.verdict === "matched") - (a.verdict === "matched"));
  const why = element("ul", { className: "why" });
  for (const entry of matchedFirst) {
    const link = element("a", { href: entry.delivery ? `/deliveries/${entry.delivery.delivery_id}?customer_id=${event.customer_id}` : "#" }, `${visible(entry.name)} #${entry.webhook_id}`);
    const name = entry.delivery ? link : element("span", {}, `${visible(entry.name)} #${entry.webhook_id}`);
    why.append(element("li", {}, name, element("span", {}, explain(entry, event, words, page.clock, webhooks.get(entry.webhook_id)))));
  }
  return [head, element("section", { className: "panel" }, why), dataNode(page, event)];
}
