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
 * and the contents of rows go on changing.
 */
export class DeliveryStore {
  constructor({ rowsMax = ROWS_MAX } = {}) {
    this.rowsMax = rowsMax;
    this.clear();
  }

  /** Forgets all rows and counts. */
  clear() {
    this._rows = new Map(); // by id; the latest change is the last one
    this._shown = null; // ids in their places while frozen
    this._waiting = new Set(); // ids that came while frozen
    this._waitingFailed = new Set();
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
    return { count: this._waiting.size, failed: this._waitingFailed.size };
  }

  freeze() {
    this._shown ??= this._order();
  }

  release() {
    this._shown = null;
    this._waiting.clear();
    this._waitingFailed.clear();
  }

  get(id) {
    return this._rows.get(id);
  }

  /** Returns the rows as they are to be shown. */
  rows() {
    return (this._shown ?? this._order()).map((id) => this._rows.get(id)).filter(Boolean);
  }

  _order() {
    return [...this._rows.keys()].reverse();
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
    this._trim();
    if (this._shown?.length === 0) this._shown = this._order();
  }

  /** Takes a change that the stream has brought: its row is the first one, unless the list is frozen. */
  change(delivery, now) {
    const id = delivery.delivery_id;
    const before = this._rows.get(id);
    if (before && isRepeated(before, delivery)) return;
    this._count(delivery, before);
    this._rows.delete(id);
    this._rows.set(id, rowOf(delivery, before));
    this.behindSeconds = Math.max(0, (now - milliseconds(delivery.update_time)) / 1000);
    if (this._shown?.length === 0) this._shown.push(id); // nothing is there that could move
    else if (this._shown && !before) this._waiting.add(id);
    if (this._waiting.has(id)) {
      if (hasFailed(delivery)) this._waitingFailed.add(id);
      else this._waitingFailed.delete(id);
    }
    this._trim();
  }

  _trim() {
    for (const id of this._rows.keys()) {
      if (this._rows.size <= this.rowsMax) return;
      this._rows.delete(id);
      this._waiting.delete(id);
      this._waitingFailed.delete(id);
    }
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
