// The deliveries that the live list shows, in memory: merged, bounded, counted. Nothing here touches the document.

import { milliseconds } from "./time.js";

export const ROWS_MAX = 10_000;
export const TRAIL_MAX = 8;
export const RATE_SECONDS = 5;
export const RATE_BINS = 60;

/** The word and the colour of each status; any other one has the colour `off`. */
export const STATUSES = { pending: "Pending", succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", expired: "Expired" };
export const COLOURS = { pending: "wait", succeeded: "ok", failed: "bad" };

/** Shapes of the trail: an outcome is seen without its colour. */
export const SHAPES = {
  succeeded: "disc",
  http_error: "square",
  timeout: "triangle",
  connection_error: "triangle",
  tls_error: "triangle",
  protocol_error: "triangle",
  blocked: "rhomb",
  internal_error: "rhomb",
};

/**
 * Deliveries by id, the latest change first. While `frozen`, rows that are shown keep their place, what is new waits,
 * and the contents of rows go on changing. Dividers stand among the rows, in the order in which things happened.
 */
export class DeliveryStore {
  /** `accepts` says which deliveries are shown; the others are counted and kept, because a later change may show them. */
  constructor({ rowsMax = ROWS_MAX, accepts = () => true } = {}) {
    this.rowsMax = rowsMax;
    this.keep = 0; // how many rows of a frozen list stay whatever comes: those that are seen, and the ones above
    this._accepts = accepts;
    this.clear();
  }

  /** Forgets all rows and counts. */
  clear() {
    this._rows = new Map(); // by id; the latest change is the last one
    this._ids = null; // in the order of the list; null when something has changed
    this._shown = null; // ids in their places while frozen
    this._shownIds = null; // the same, to look them up
    this._new = 0; // deliveries that came while frozen
    this._newFailed = new Set();
    this._bins = new Map(); // attempts by outcome, by the number of their five seconds
    this.behindSeconds = 0;
  }

  get size() {
    return this._rows.size;
  }

  get frozen() {
    return this._shown !== null;
  }

  /** How many new rows wait for the list to go on, and how many of them have failed. */
  get waiting() {
    return { count: this._new, failed: this._newFailed.size };
  }

  freeze() {
    if (this._shown) return;
    this._shown = [...this.ids];
    this._shownIds = new Set(this._shown);
  }

  release() {
    this._shown = this._shownIds = this._ids = null;
    this._new = 0;
    this._newFailed.clear();
  }

  get(id) {
    return this._rows.get(id);
  }

  /** The ids of the rows in the order in which they are to be shown. */
  get ids() {
    return this._shown ?? (this._ids ??= this._order());
  }

  /** Returns the rows as they are to be shown. */
  rows() {
    return this.ids.map((id) => this._rows.get(id));
  }

  _order() {
    const found = [];
    for (const [id, row] of this._rows) if (row.divider || this._accepts(row)) found.push(id);
    return found.reverse();
  }

  /** Takes a page of a list, which may be older than what the stream has brought. */
  load(deliveries) {
    for (const delivery of deliveries) {
      const before = this._rows.get(delivery.delivery_id);
      if (before && milliseconds(before.update_time) >= milliseconds(delivery.update_time)) continue;
      this._rows.set(delivery.delivery_id, rowOf(delivery, before));
    }
    const rows = [...this._rows.values()];
    rows.sort((a, b) => milliseconds(a.update_time) - milliseconds(b.update_time));
    this._rows = new Map(rows.map((row) => [row.delivery_id, row]));
    this._ids = null;
    if (this._shown) this._showOlder();
    this._trim();
  }

  /** What is older than all rows of a frozen list goes below them: nothing moves by that. */
  _showOlder() {
    const order = this._order();
    const older = order.slice(order.findLastIndex((id) => this._shownIds.has(id)) + 1);
    this._shown.push(...older);
    for (const id of older) this._shownIds.add(id);
  }

  /** Puts a line between what comes from now on and the rows that are there. */
  divide(text, now) {
    const id = `divider ${now}`;
    this._rows.set(id, { delivery_id: id, divider: text, update_time: new Date(now).toISOString() });
    this._ids = null;
    this._trim();
  }

  /** Takes a change that the stream has brought: its row is the first one, unless the list is frozen. */
  change(delivery, now) {
    const id = delivery.delivery_id;
    const before = this._rows.get(id);
    if (before && isRepeated(before, delivery)) return;
    this._count(delivery, before);
    const row = rowOf(delivery, before);
    row.since = before ? before.since : now;
    this._rows.delete(id);
    this._rows.set(id, row);
    this._ids = null;
    this.behindSeconds = Math.max(0, (now - milliseconds(delivery.update_time)) / 1000);
    if (this._shown?.length === 0 && this._accepts(row)) {
      this._shown.push(id); // nothing is there that could move
      this._shownIds.add(id);
    }
    if (this._shown && !this._shownIds.has(id) && this._accepts(row)) this._waits(row, !before || !this._accepts(before));
    this._trim();
  }

  _waits(row, isNew) {
    if (isNew) this._new += 1;
    if (hasFailed(row)) this._newFailed.add(row.delivery_id);
    else this._newFailed.delete(row.delivery_id);
    if (this._newFailed.size > this.rowsMax) this._newFailed.delete(this._newFailed.values().next().value);
  }

  /** The oldest leave first; of a frozen list, those below what is seen, and then what waits. */
  _trim() {
    while (this._rows.size > this.rowsMax) {
      const id = this._shown?.length > this.keep ? this._shown.pop() : this._oldest();
      this._shownIds?.delete(id);
      this._rows.delete(id);
    }
  }

  _oldest() {
    for (const id of this._rows.keys()) if (!this._shownIds?.has(id)) return id;
    throw new Error("all rows are shown, and more than there may be");
  }

  _count(delivery, before) {
    const attempt = delivery.last_attempt;
    if (!attempt?.outcome || attempt.attempt_number === before?.last_attempt?.attempt_number) return;
    const bin = binOf(milliseconds(delivery.update_time));
    const counts = this._bins.get(bin) ?? {};
    counts[attempt.outcome] = (counts[attempt.outcome] ?? 0) + 1;
    this._bins.set(bin, counts);
    for (const old of this._bins.keys()) if (old <= bin - 2 * RATE_BINS) this._bins.delete(old);
  }

  /** Returns the attempts of the last five minutes, a list of counts by outcome for each five seconds. */
  attempts(now) {
    const last = binOf(now);
    return Array.from({ length: RATE_BINS }, (_, index) => this._bins.get(last - RATE_BINS + 1 + index) ?? {});
  }

  /** Returns the attempts a second, over the last ten whole seconds or more. */
  rate(now) {
    const last = binOf(now);
    const sum = [last - 1, last - 2].flatMap((bin) => Object.values(this._bins.get(bin) ?? {})).reduce((a, b) => a + b, 0);
    return sum / (2 * RATE_SECONDS);
  }
}

function binOf(at) {
  return Math.floor(at / 1000 / RATE_SECONDS);
}

function isRepeated(before, delivery) {
  return (
    before.update_time === delivery.update_time &&
    before.status === delivery.status &&
    before.attempt_count === delivery.attempt_count
  );
}

/** Returns a row: the delivery without what a row does not show, and the outcomes that were seen, the oldest first. */
export function rowOf(delivery, before) {
  const attempt = delivery.last_attempt;
  return {
    delivery_id: delivery.delivery_id,
    customer_id: delivery.customer_id,
    webhook_id: delivery.webhook_id,
    event_id: delivery.event_id,
    event_type: delivery.event_type,
    status: delivery.status,
    attempt_count: delivery.attempt_count,
    next_attempt_time: delivery.next_attempt_time,
    create_time: delivery.create_time,
    update_time: delivery.update_time,
    replay_id: delivery.replay_id,
    last_attempt: attempt && {
      attempt_number: attempt.attempt_number,
      outcome: attempt.outcome,
      response_status: attempt.response_status,
      latency: attempt.latency,
      trigger: attempt.trigger,
    },
    trail: trailOf(delivery, before),
  };
}

function trailOf(delivery, before) {
  const trail = [...(before?.trail ?? [])];
  const attempt = delivery.last_attempt;
  if (attempt?.outcome) trail[attempt.attempt_number - 1] = attempt.outcome;
  trail.length = Math.max(delivery.attempt_count, 0);
  return Array.from(trail, (outcome) => outcome ?? "");
}

/** Returns the shapes of a row's attempts, the oldest first: at most eight, and how many there were in all. */
export function shapesOf(row) {
  const shapes = row.trail.slice(-TRAIL_MAX).map((outcome) => SHAPES[outcome] ?? "dot");
  return { shapes: shapes.length ? shapes : ["dot"], count: row.attempt_count };
}

/** Returns whether a delivery is a problem: its last attempt failed, or it ended otherwise than well. */
export function isProblem(row) {
  const outcome = row.last_attempt?.outcome;
  return Boolean(outcome && outcome !== "succeeded") || ["failed", "cancelled", "expired"].includes(row.status);
}

function hasFailed(delivery) {
  return delivery.status === "failed";
}
