// What a running replay waits for, and why: the webhooks whose receivers are down, held or paused.

import { visible } from "../data/json-text.js";
import { waitOf } from "../data/replay.js";
import { absolute } from "../data/time.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";

const FRESH_MILLISECONDS = 10_000;
const WEBHOOKS_MAX = 20; // that are asked about; a replay may have a hundred
const STATS_SECONDS = 60; // the shortest window: only how they stand now is wanted

/** Says which webhooks of a replay wait; asks each ten seconds while the page is visible. */
export class Waits {
  constructor(page, replay) {
    this._page = page;
    this._customerId = replay.customer_id;
    this._ids = (replay.webhook_ids ?? []).slice(0, WEBHOOKS_MAX);
    this._abort = new AbortController();
    this.node = element("ul", { className: "why-it-waits", hidden: true });
  }

  /** Begins or ends to ask. */
  update(isRunning) {
    if (!isRunning) this.stop();
    this.node.hidden = !isRunning;
    if (!isRunning || this._timer) return;
    this._timer = setInterval(() => document.hidden || this._load(), FRESH_MILLISECONDS);
    this._load();
  }

  stop() {
    this._abort.abort();
    clearInterval(this._timer);
  }

  async _load() {
    try {
      const webhooks = await this._webhooks();
      const found = await Promise.all(webhooks.map((webhook) => this._standing(webhook)));
      this.node.replaceChildren(...this._items(found));
    } catch (error) {
      if (error.name !== "AbortError") this.node.replaceChildren(element("li", {}, problemNode(this._page, error, () => this._load())));
    }
  }

  async _webhooks() {
    const { api } = this._page;
    const customer = `customer_id=${this._customerId}`;
    if (this._ids.length) return Promise.all(this._ids.map((id) => api.get(`/api/webhooks/${id}?${customer}`, this._abort)));
    const found = await api.get(`/api/webhooks?${customer}&page_size=${WEBHOOKS_MAX}`, this._abort);
    return found.webhooks;
  }

  async _standing(webhook) {
    const start = new Date(this._page.now() - STATS_SECONDS * 1000).toISOString();
    const path = `/api/webhooks/${webhook.webhook_id}/stats?customer_id=${this._customerId}&start_time=${start}`;
    return { webhook, wait: waitOf(webhook, await this._page.api.get(path, this._abort), this._page.now()) };
  }

  _items(found) {
    const { words, options } = this._page;
    const name = (webhook) => `${visible(webhook.name)} #${webhook.webhook_id}`;
    const items = found
      .filter(({ wait }) => wait)
      .map(({ webhook, wait: [why, until] }) => {
        const time = until ? ` ${words("until {time}", { time: absolute(until, { ...options, fraction: false }) })}` : "";
        return element("li", { className: "wait" }, `${name(webhook)}: ${words(why)}${time}`);
      });
    const rest = found.filter(({ wait }) => !wait).map(({ webhook }) => name(webhook));
    if (items.length && rest.length) items.push(element("li", {}, words("goes on with {names}", { names: rest.join(", ") })));
    return items;
  }
}
