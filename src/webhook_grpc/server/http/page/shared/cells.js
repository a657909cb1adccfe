// What the rows of lists show: each function returns the contents of a cell, nodes or text.

import { outcomeText } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { SHAPES, rowOf, shapesOf } from "../data/store.js";
import { countdown, heldText, iso, milliseconds, relative, seconds, span } from "../data/time.js";
import { icon } from "./icons.js";
import { element } from "./look.js";

const NAMES_MAX = 2000;

/** Returns a type or an id as code. */
export function code(text) {
  return element("code", {}, visible(text));
}

/** Returns how an attempt ended: its HTTP status, or words. */
export function answer({ words }, attempt) {
  if (!attempt?.outcome) return "–";
  const isAnswered = attempt.outcome === "succeeded" || attempt.outcome === "http_error";
  return isAnswered ? String(attempt.response_status) : outcomeText(attempt, words);
}

/** Returns the shape and the words of an attempt's outcome, in its colour. */
export function outcome({ words }, attempt) {
  const colour = { disc: "ok", square: "bad" }[SHAPES[attempt.outcome]] ?? "wait";
  return element("span", { className: `state ${colour}` }, icon(SHAPES[attempt.outcome] ?? "dot"), outcomeText(attempt, words));
}

/** Returns how long an attempt took. */
export function latency(attempt) {
  return attempt ? span(seconds(attempt.latency)) : "–";
}

/** Returns the attempts of a delivery as shapes; those of which only the number is known are dots. */
export function trail({ words }, delivery) {
  const { shapes, count } = shapesOf(delivery.trail ? delivery : rowOf(delivery));
  const more = count > shapes.length ? [`×${count}`] : [];
  return element("span", { className: "trail", role: "img", "aria-label": words("{n} attempts", { n: count }) }, ...shapes.map(icon), ...more);
}

/** Returns a time relative to now; it is written again each second by the list. */
export function when(page, text) {
  return clockNode(text, (at) => relative(Math.min(at, page.now()), page.now(), page.words, page.options));
}

/** Returns when the next attempt of a delivery is due, or that it is held, or when it was last changed. */
export function next(page, delivery, holds) {
  if (delivery.status !== "pending" || !delivery.next_attempt_time) return when(page, delivery.update_time);
  return clockNode(delivery.next_attempt_time, (at) => {
    const wait = page.now() > at ? holds.of(delivery, page.now()) : null;
    return wait ? heldText(wait, page.now(), page.words) : countdown(at, page.now(), page.words, page.options);
  });
}

function clockNode(text, say) {
  const at = milliseconds(text);
  if (Number.isNaN(at)) return "–";
  const node = element("time", { dateTime: iso(at), title: iso(at) }, say(at));
  node.tick = () => {
    if (Math.abs(Date.now() - at) < 86_400_000) node.textContent = say(at); // an older one is absolute, and stays
  };
  return node;
}

/** Returns the column of customers, for a caller who sees those of all. */
export function customerColumn(page) {
  if (page.caller?.customer_id !== undefined) return [];
  return [{ word: "Customer", width: "88px", cell: (row) => String(row.customer_id), isSpare: true }];
}

/** Names of webhooks, for rows that do not wait for them. */
export class Names {
  constructor(api) {
    this._api = api;
    this._asked = new Map();
    this._abort = new AbortController();
  }

  stop() {
    this._abort.abort();
  }

  /** Returns the webhook of a row: its id at once, its name when it is known. */
  nodeOf({ webhook_id: id, customer_id: customerId }) {
    const node = element("span", {}, `#${id}`);
    this._nameOf(id, customerId).then((name) => (node.textContent = name ? `${name} #${id}` : `#${id}`));
    return node;
  }

  _nameOf(id, customerId) {
    if (!this._asked.has(id)) {
      if (this._asked.size >= NAMES_MAX) this._asked.clear();
      const asked = this._api.get(`/api/webhooks/${id}?customer_id=${customerId}`, this._abort);
      this._asked.set(id, asked.then((webhook) => visible(webhook.name)).catch(() => "")); // it is deleted: the id says enough
    }
    return this._asked.get(id);
  }
}
