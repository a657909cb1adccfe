// The modules of replays that need no document. Run by `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

const PAGE = new URL("../../src/webhook_grpc/server/http/page/data/", import.meta.url);
const replay = await import(new URL("replay.js", PAGE));
const { parse } = await import(new URL("json-text.js", PAGE));
const { filterOf, queryOf } = await import(new URL("route.js", PAGE));

const NOW = Date.parse("2026-11-29T12:00:00.500Z");
const form = (more = {}) => ({ ...replay.formOf({ customer_id: "7" }, NOW), ...more });

test("a form is the last hour of what failed or was cancelled, or what its address says", () => {
  const { start, end, statuses, neverDelivered } = form();
  assert.deepEqual({ start, end, statuses, neverDelivered }, { start: "2026-11-29T11:00:00Z", end: "", statuses: ["failed", "cancelled"], neverDelivered: false });
  const query = "?customer_id=7&webhook_ids=12,9007199254740993&event_types=job.*&statuses=expired&start_time=2026-11-28T00:00:00.123Z&never_delivered=true";
  assert.equal(decodeURIComponent(queryOf(replay.filterOfForm(replay.formOf(filterOf(query), NOW)))), query);
});

test("a filter of a list brings only statuses that can be replayed, and nothing else is chosen for it", () => {
  assert.deepEqual(replay.formOf({ statuses: ["pending", "succeeded"] }, NOW).statuses, ["succeeded"]);
  assert.deepEqual(replay.formOf({ statuses: ["pending"] }, NOW).statuses, ["failed", "cancelled"]);
  assert.deepEqual(replay.formOf({ never_delivered: "true" }, NOW).statuses, []);
});

test("ids of any size are sent as they stand, and an open end is left to the service", () => {
  const made = replay.replayOf(form({ webhookIds: ["9007199254740993"] }));
  assert.deepEqual(made.webhook_ids, ["9007199254740993"]);
  assert.equal("end_time" in made, false);
  assert.equal(replay.replayOf(form({ end: "2026-11-29T11:30:00Z" })).end_time, "2026-11-29T11:30:00Z");
});

test("what is wrong with a form is said before it is sent", () => {
  const window = (start, end) => replay.faultsOf(form({ start, end }), NOW).window;
  assert.equal(window("2026-11-29T11:00:00Z", ""), "");
  assert.equal(window("", ""), "The start is needed.");
  assert.match(window("2026-11-29T11:00:00Z", "2026-11-29T11:00:00Z"), /before the end/);
  assert.match(window("2026-11-29T13:00:00Z", ""), /in the past/);
  assert.match(window("2026-10-29T11:59:59Z", ""), /at most \{n\} days/);
  assert.equal(window("2026-10-29T12:00:01Z", "2027-01-01T00:00:00Z"), "");
  assert.equal(replay.faultsOf(form({ statuses: [] }), NOW).what, "Choose at least one.");
  assert.equal(replay.faultsOf(form({ statuses: [], neverDelivered: true }), NOW).what, "");
  assert.equal(replay.faultsOf(form({ customerId: "" }), NOW).what, "The customer is needed.");
  assert.equal(replay.faultsOf(form({ customerId: "" }), NOW, 7).what, "");
});

test("a number is typed above ten thousand, and where receivers had everything already", () => {
  const typed = (statuses, count) => replay.isTyped(form({ statuses }), count);
  assert.deepEqual([typed(["failed"], 10_000), typed(["failed"], 10_001), typed(["succeeded"], 1)], [false, true, true]);
  assert.equal(typed(["failed"], parse('{"n": 9007199254740993}').n), true);
});

test("the bar has a share for each count, and the window is looked at from its start to its end", () => {
  const made = { delivery_count: 8, succeeded_count: 4, failed_count: 0, cancelled_count: 1, skipped_count: 1, pending_count: 2 };
  assert.deepEqual(replay.sharesOf(made), [["ok", 0.5], ["off", 0.125], ["muted", 0.125], ["wait", 0.25]]);
  assert.deepEqual(replay.sharesOf({ delivery_count: 0, succeeded_count: 0, failed_count: 0, cancelled_count: 0, skipped_count: 0, pending_count: 0 }), []);
  const at = (progress_time) => replay.progressOf({ start_time: "2026-11-29T10:00:00Z", end_time: "2026-11-29T12:00:00Z", progress_time });
  assert.deepEqual(["2026-11-29T10:00:00Z", "2026-11-29T11:00:00Z", "2026-11-29T12:00:00Z"].map(at), [0, 0.5, 1]);
});

test("the figures of a replay change while it runs, and until what waits is cancelled", () => {
  const moves = (status, pending_count) => replay.isMoving({ status, pending_count });
  assert.deepEqual([moves("running", 0), moves("cancelled", 1), moves("cancelled", 0), moves("completed", 0)], [true, true, false, false]);
});

test("a replay waits for a receiver that is down, held or paused, and says until when where that is known", () => {
  const wait = (status, stats) => replay.waitOf({ status }, stats, NOW);
  const later = "2026-11-29T12:01:00Z";
  assert.equal(wait("active", { breaker_state: "closed" }), null);
  assert.deepEqual(wait("paused", { breaker_state: "open" }), ["paused, waits", null]);
  assert.deepEqual(wait("active", { breaker_state: "open", breaker_probe_time: later }), ["breaker open, waits", Date.parse(later)]);
  assert.deepEqual(wait("active", { breaker_state: "open", breaker_probe_time: "2026-11-29T11:59:00Z" }), ["breaker open, waits", null]);
  assert.deepEqual(wait("active", { breaker_state: "closed", hold_until_time: later }), ["held by Retry-After, waits", Date.parse(later)]);
  assert.equal(wait("active", { breaker_state: "closed", hold_until_time: "2026-11-29T11:59:00Z" }), null);
});
