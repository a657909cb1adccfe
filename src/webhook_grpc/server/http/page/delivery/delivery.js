// One delivery: where it stands in a sentence, its attempts with request and answer, and the event's data. It stays live.

import { explain } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { milliseconds } from "../data/time.js";
import { ACTS_LOOK, acts } from "./acts.js";
import { ATTEMPTS_LOOK, Attempts } from "./attempts.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { fact, stateNode } from "../shared/facts.js";
import { followed, unlessAborted } from "../shared/followed.js";
import { icon } from "../shared/icons.js";
import { copyText, element } from "../shared/look.js";
import { dataNode, eventOf } from "../shared/payload.js";

export const LOOK = `${DETAIL_LOOK}${ACTS_LOOK}${ATTEMPTS_LOOK}`;

/** Shows one delivery. `page` is what all views share. */
export function view(page, route) {
  return new DeliveryView(page, route);
}

class DeliveryView {
  constructor(page, route) {
    this._page = page;
    this._id = route.id;
    this._query = route.filter.customer_id ? `?customer_id=${encodeURIComponent(route.filter.customer_id)}` : "";
    this._chosen = { number: 0, isHex: false }; // written by Attempts
    this._fragment = route.fragment; // until it was shown
    this._followed = followed(page, "", (signal) => this._load(signal));
    this.node = this._followed.node;
  }

  stop() {
    this._followed.stop();
  }

  /** Shows what another fragment of the same delivery names. */
  update({ id, fragment }) {
    if (id !== this._id) return false;
    this._fragment = fragment;
    this._showFragment();
    return true;
  }

  /** Takes a key: brackets go from attempt to attempt, arrows open and close the headers. */
  key({ key }) {
    if (key === "[" || key === "]") return Boolean(this._attempts?.step(key === "]" ? 1 : -1));
    if (key === "ArrowRight" || key === "ArrowLeft") return Boolean(this._attempts?.unfold(key === "ArrowRight"));
    return false;
  }

  async _load(signal) {
    const { api } = this._page;
    const delivery = await api.get(`/api/deliveries/${this._id}${this._query}`, { signal });
    const customer = `customer_id=${delivery.customer_id}`;
    const [{ attempts }, event, explanation, webhook] = await Promise.all([
      api.get(`/api/deliveries/${this._id}/attempts?${customer}`, { signal }),
      this._event ?? eventOf(this._page, `/api/events/${delivery.event_id}?${customer}`, signal).catch(unlessAborted(null)),
      api.get(`/api/events/${delivery.event_id}:explain?${customer}`, { signal }).catch(unlessAborted({ webhooks: [] })),
      api.get(`/api/webhooks/${delivery.webhook_id}?${customer}`, { signal }).catch(unlessAborted({})),
    ]);
    if (event !== this._event || !this._data) this._data = dataNode(this._page, event);
    this._event = event ?? undefined; // what was published does not change
    const answers = [delivery, attempts, explanation, webhook];
    const nodes = () => {
      this._attempts = new Attempts(this._page, { ...delivery, next_attempt_time: nextTime(delivery, explanation) }, attempts, this._chosen);
      return [headNode(this._page, { delivery, event, explanation, webhook }), this._attempts.node, this._data];
    };
    const { event_id: eventId, customer_id: customerId, status } = delivery;
    return { nodes, answers, isPending: status === "pending", eventId, customerId, shown: () => this._showFragment() };
  }

  _showFragment() {
    const number = Number(/^attempt-(\d+)$/.exec(this._fragment)?.[1] ?? 0);
    if (number) this._attempts.select((this._chosen.number = number));
    const wanted = number ? this._attempts.node : this.node.querySelector(["headers", "data"].includes(this._fragment) ? `#${this._fragment}` : ":not(*)");
    wanted?.scrollIntoView();
    this._fragment = "";
  }
}

/** Returns when the next attempt may come at the earliest: what holds the delivery back may last longer than its own wait. */
function nextTime({ next_attempt_time: due, webhook_id: id }, { webhooks }) {
  const until = webhooks.find((one) => one.webhook_id === id)?.until_time;
  return due && milliseconds(until) > milliseconds(due) ? until : due;
}

function headNode(page, { delivery, event, explanation, webhook }) {
  const { words } = page;
  const entry = explanation.webhooks.find((one) => one.webhook_id === delivery.webhook_id);
  const name = visible(webhook.name ?? entry?.name ?? "");
  return element(
    "section",
    { className: "panel" },
    element("h2", { className: "title" }, stateNode(page, delivery.status), element("code", {}, delivery.event_type), element("span", {}, "→"), webhookLink(delivery, name)),
    element("p", { className: "story" }, entry ? explain(entry, delivery, words, page.clock, webhook) : ""),
    acts(page, delivery, event, webhook),
    element(
      "p",
      { className: "facts" },
      fact("webhook-id", element("code", {}, delivery.event_id)),
      copyIdNode(page, delivery.event_id),
      fact(words("Published"), page.clock(milliseconds(delivery.create_time))),
      ...(event?.occur_time ? [fact(words("Occurred"), page.clock(milliseconds(event.occur_time)))] : []),
      ...(delivery.replay_id ? [fact(words("Replay"), replayLink(delivery))] : []),
    ),
  );
}

function copyIdNode(page, id) {
  const button = element("button", { type: "button", title: page.words("Copy the id"), ariaLabel: page.words("Copy the id") }, icon("copy"));
  button.dataset.act = "copy-id";
  button.addEventListener("click", () => copyText(page, id));
  return button;
}

function replayLink(delivery) {
  return element("a", { href: `/replays/${delivery.replay_id}?customer_id=${delivery.customer_id}` }, String(delivery.replay_id));
}

function webhookLink(delivery, name) {
  return element("a", { href: `/webhooks/${delivery.webhook_id}?customer_id=${delivery.customer_id}` }, `${name} #${delivery.webhook_id}`);
}
