// Replays without a document: the form of a new one, the request it makes, and the figures of one that is there.

import { before } from "./period.js";
import { milliseconds } from "./time.js";

export const WINDOW_DAYS_MAX = 31;
export const UNTYPED_MAX = 10_000; // deliveries that may be sent without typing their number
const DAY_MILLISECONDS = 86_400_000;
const HOUR_MILLISECONDS = 3_600_000;

/** The statuses that can be replayed, and whether the form has them chosen at first. */
export const REPLAYED = { failed: true, cancelled: true, expired: false, succeeded: false };

/** The counts of a replay, whose sum is delivery_count: field, word, colour, shape. */
export const COUNTS = [
  ["succeeded_count", "Succeeded", "ok", "succeeded"],
  ["failed_count", "Failed", "bad", "failed"],
  ["cancelled_count", "Cancelled", "off", "cancelled"],
  ["skipped_count", "Skipped", "muted", "dot"],
  ["pending_count", "Waiting", "wait", "pending"],
];

/** Returns the form that an address says. Without a start it is the last hour, up to now. Times are RFC 3339, "" for none. */
export function formOf(filter, now) {
  const statuses = (filter.statuses ?? []).filter((status) => Object.hasOwn(REPLAYED, status));
  const isChosen = statuses.length > 0 || filter.never_delivered === "true";
  return {
    customerId: filter.customer_id ?? "",
    start: filter.start_time ?? before(now, HOUR_MILLISECONDS),
    end: filter.end_time ?? "",
    webhookIds: filter.webhook_ids ?? [],
    eventTypes: filter.event_types ?? [],
    statuses: isChosen ? statuses : Object.keys(REPLAYED).filter((status) => REPLAYED[status]),
    neverDelivered: filter.never_delivered === "true",
  };
}

/** Returns the filter, for an address, that says the same as the form. */
export function filterOfForm(form) {
  return {
    customer_id: form.customerId,
    webhook_ids: form.webhookIds,
    event_types: form.eventTypes,
    statuses: form.statuses,
    start_time: form.start,
    end_time: form.end,
    never_delivered: form.neverDelivered ? "true" : "",
  };
}

/** Returns the Replay of CreateReplay. Ids stay text, which the service takes too: not all fit into a number. */
export function replayOf(form) {
  return {
    ...(form.customerId && { customer_id: form.customerId }),
    webhook_ids: form.webhookIds,
    event_types: form.eventTypes,
    statuses: form.statuses,
    include_undelivered: form.neverDelivered,
    start_time: form.start,
    ...(form.end && { end_time: form.end }),
  };
}

/** Returns the filter of a form that makes the same replay as this one did, for an address. */
export function filterOfReplay(replay) {
  return {
    customer_id: String(replay.customer_id),
    webhook_ids: replay.webhook_ids,
    event_types: replay.event_types,
    statuses: replay.statuses,
    start_time: replay.start_time,
    end_time: replay.end_time,
    never_delivered: replay.include_undelivered ? "true" : "",
  };
}

/** Returns what is wrong with the form, by part: a text for `words`, or nothing. `customerId`: the caller's, if it is of one. */
export function faultsOf(form, now, customerId) {
  return { window: windowFault(form, now), what: whatFault(form, customerId) };
}

function whatFault(form, customerId) {
  if (!form.customerId && customerId === undefined) return "The customer is needed.";
  return form.statuses.length || form.neverDelivered ? "" : "Choose at least one.";
}

function windowFault(form, now) {
  const start = milliseconds(form.start);
  const until = form.end ? Math.min(milliseconds(form.end), now) : now;
  if (Number.isNaN(start)) return "The start is needed.";
  if (start >= until) return "The start has to be before the end, and in the past.";
  if (until - start > WINDOW_DAYS_MAX * DAY_MILLISECONDS) return "A window has at most {n} days.";
  return "";
}

/** Returns whether its number has to be typed before a replay starts. */
export function isTyped(form, count) {
  return Number(count) > UNTYPED_MAX || form.statuses.includes("succeeded");
}

/** Returns whether its figures still change: for a moment also after it was cancelled, until what waits is. */
export function isMoving(replay) {
  return replay.status === "running" || Number(replay.pending_count) > 0;
}

/** Returns the parts of a bar: [colour, share of delivery_count], without empty ones. */
export function sharesOf(replay) {
  const total = Number(replay.delivery_count);
  return COUNTS.map(([field, , colour]) => [colour, Number(replay[field]) / total]).filter(([, share]) => share > 0);
}

/** Returns how much of its window a replay has looked at, 0 to 1. */
export function progressOf(replay) {
  const [start, end, at] = [replay.start_time, replay.end_time, replay.progress_time].map(milliseconds);
  return end > start && at > start ? Math.min(1, (at - start) / (end - start)) : 0;
}

/** Returns why a replay waits for a webhook: a text for `words` and a time, or null if it goes on. */
export function waitOf(webhook, stats, now) {
  const until = (text) => (milliseconds(text) > now ? milliseconds(text) : null);
  if (webhook.status === "paused") return ["paused, waits", null];
  if (webhook.status === "disabled") return ["disabled, left out", null];
  if (stats.breaker_state === "open") return ["breaker open, waits", until(stats.breaker_probe_time)];
  if (stats.breaker_state === "half_open") return ["breaker half-open, one request at a time", null];
  if (until(stats.hold_until_time)) return ["held by Retry-After, waits", until(stats.hold_until_time)];
  return null;
}
