// Why deliveries that are due are not sent: their webhook is paused or held, or its breaker is open.

import { waitOf } from "../data/replay.js";

const FRESH_MILLISECONDS = 10_000;
const STATS_SECONDS = 60; // the shortest window: only how a webhook stands now is wanted
const WEBHOOKS_MAX = 500;

/** What webhooks wait for, as it was at most ten seconds ago. Only what is looked at is asked for. */
export class Holds {
  constructor(api) {
    this._api = api;
    this._known = new Map(); // by webhook_id: {at, wait}
  }

  /** Returns why the webhook of a row waits (a text for `words`, and a time or null), or null as far as is known. */
  of(row, now) {
    const known = this._known.get(row.webhook_id);
    if (known && now - known.at < FRESH_MILLISECONDS) return known.wait;
    if (this._known.size >= WEBHOOKS_MAX) this._known.clear();
    const asked = { at: now, wait: known?.wait ?? null };
    this._known.set(row.webhook_id, asked);
    this._ask(row, now).then((wait) => (asked.wait = wait), () => (asked.wait = null)); // then the row says that it is due
    return asked.wait;
  }

  async _ask({ webhook_id: id, customer_id: customerId }, now) {
    const path = `/api/webhooks/${id}`;
    const customer = `?customer_id=${customerId}`;
    const start = new Date(now - STATS_SECONDS * 1000).toISOString();
    const [webhook, stats] = await Promise.all([this._api.get(path + customer), this._api.get(`${path}/stats${customer}&start_time=${start}`)]);
    return waitOf(webhook, stats, now);
  }
}
