// One delivery: where it stands in a sentence, its attempts with request and answer, and the event's data. It stays live.

import { explain, outcomeText } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { SHAPES } from "../data/store.js";
import { iso, milliseconds, relative, seconds, span } from "../data/time.js";
import { ACTS_LOOK, acts } from "../parts/acts.js";
import { DETAIL_LOOK } from "../parts/detail-look.js";
import { fact, stateNode } from "../parts/facts.js";
import { followed, unlessAborted } from "../parts/followed.js";
import { icon } from "../parts/icons.js";
import { element } from "../parts/look.js";
import { dataNode, eventOf } from "../parts/payload.js";

const TRIGGERS = { scheduled: "Scheduled", manual: "Manual", replay: "Replay", test: "Test" };

export const LOOK = `${DETAIL_LOOK}${ACTS_LOOK}`;

/** Shows one delivery. `page` is what all views share. Returns the element and how to end it. */
export function view(page, { id, filter, fragment }) {
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
    const answers = [delivery, attempts, event, explanation, webhook];
    return { nodes, answers, isPending: delivery.status === "pending", eventId: delivery.event_id, customerId: delivery.customer_id };
  });
}

function deliveryNodes(page, { delivery, attempts, event, explanation, webhook, fragment }) {
  const { words } = page;
  const entry = explanation.webhooks.find((one) => one.webhook_id === delivery.webhook_id);
  const name = visible(webhook.name ?? entry?.name ?? "");
  const head = element(
    "section",
    { className: "panel" },
    element("h2", { className: "title" }, stateNode(page, delivery.status), element("code", {}, delivery.event_type), element("span", {}, "→"), webhookLink(delivery, name)),
    element("p", { className: "story" }, entry ? explain(entry, delivery, words, page.clock, webhook) : ""),
    acts(page, delivery, event, webhook),
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
