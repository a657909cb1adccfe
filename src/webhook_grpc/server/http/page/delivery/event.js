// One event: its data, and for each webhook whether the event went to it, and why not. It stays live.

import { explain } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { milliseconds } from "../data/time.js";
import { eventItems } from "../shared/copy-items.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { fact } from "../shared/facts.js";
import { followed, unlessAborted } from "../shared/followed.js";
import { element } from "../shared/look.js";
import { LOOK as MENU_LOOK, copyMenu } from "../shared/menu.js";
import { dataNode, eventOf } from "../shared/payload.js";

export const LOOK = `${DETAIL_LOOK}${MENU_LOOK}`;

/** Shows one event and what it means for each webhook of its customer. */
export function view(page, { id, filter }) {
  return followed(page, id, async (signal) => {
    const query = filter.customer_id ? `?customer_id=${encodeURIComponent(filter.customer_id)}` : "";
    const event = await eventOf(page, `/api/events/${id}${query}`, signal);
    const customer = `customer_id=${event.customer_id}`;
    const explanation = await page.api.get(`/api/events/${id}:explain?${customer}`, { signal });
    const webhooks = await named(page, explanation, customer, signal);
    const nodes = () => eventNodes(page, event, explanation, webhooks);
    const answers = [event, explanation, [...webhooks]];
    const isPending = explanation.webhooks.some((entry) => entry.delivery?.status === "pending");
    return { nodes, answers, isPending, eventId: id, customerId: event.customer_id };
  });
}

/** Returns what is known of the webhooks of an explanation whose sentence needs more than the explanation has. */
async function named(page, explanation, customer, signal) {
  const needed = explanation.webhooks.filter((entry) => ["type_not_subscribed", "created_later"].includes(entry.verdict)).slice(0, 20);
  const found = await Promise.all(
    needed.map((entry) => page.api.get(`/api/webhooks/${entry.webhook_id}?${customer}`, { signal }).catch(unlessAborted({}))),
  );
  return new Map(found.map((webhook, index) => [needed[index].webhook_id, webhook]));
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
      ...(event.publisher ? [fact(words("Published by"), element("code", {}, visible(event.publisher)))] : []),
      ...(event.occur_time ? [fact(words("Occurred"), page.clock(milliseconds(event.occur_time)))] : []),
      ...Object.entries(event.attributes ?? {}).map(([name, value]) => fact(visible(name), visible(value))),
    ),
  );
  head.append(element("div", { className: "buttons" }, copyMenu(page, eventItems(words, event))));
  const matchedFirst = [...explanation.webhooks].sort((a, b) => (b.verdict === "matched") - (a.verdict === "matched"));
  const why = element("ul", { className: "why" });
  for (const entry of matchedFirst) {
    why.append(element("li", {}, markNode(words, entry), nameNode(event, entry), element("span", {}, explain(entry, event, words, page.clock, webhooks.get(entry.webhook_id)))));
  }
  const heading = element("h3", { id: "why" }, words("Which webhooks it went to, and why"));
  return [head, element("section", { className: "panel", "aria-labelledby": "why" }, heading, why), dataNode(page, event)];
}

/** Returns whether the event matched a webhook, as a mark. */
function markNode(words, { verdict }) {
  const isMatched = verdict === "matched";
  return element("span", { className: isMatched ? "ok" : "off", role: "img", "aria-label": words(isMatched ? "matched" : "not matched") }, isMatched ? "✓" : "–");
}

function nameNode(event, { name, webhook_id: id, delivery }) {
  const text = `${visible(name)} #${id}`;
  return delivery ? element("a", { href: `/deliveries/${delivery.delivery_id}?customer_id=${event.customer_id}` }, text) : element("span", {}, text);
}
