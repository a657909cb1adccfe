// What lists need and what has no document: pages by token, windows of time, filters. Run by test_modules.py.

import assert from "node:assert/strict";
import { test } from "node:test";

const PAGE = new URL("../../src/webhook_grpc/server/http/page/data/", import.meta.url);
const { LOOK_MILLISECONDS, Listing, PAGES_MAX, PAGE_SIZE, ROWS_MAX, forEach, readerOf } = await import(new URL("listing.js", PAGE));
const period = await import(new URL("period.js", PAGE));
const route = await import(new URL("route.js", PAGE));

const rowsOf = (count, from = 0) => Array.from({ length: count }, (_, index) => ({ id: from + index }));
const quiet = { changed: () => undefined };

/** Answers with these pages, one after the other: counts of rows; each has a token but the last one. */
function pagesOf(...counts) {
  const asked = [];
  const read = async (token) => {
    asked.push(token);
    const at = Number(token || 0);
    return { rows: rowsOf(counts[at], at * 1000), token: at + 1 < counts.length ? String(at + 1) : "", time: `t${at}` };
  };
  return { read, asked };
}

/** A call that is answered when the test says so. */
function held() {
  const calls = [];
  const read = (token, signal) => new Promise((answer, refuse) => calls.push({ token, signal, answer, refuse }));
  return { calls, read };
}

test("pages follow each other by their tokens until the last one", async () => {
  const { read, asked } = pagesOf(PAGE_SIZE, PAGE_SIZE, 3);
  const listing = new Listing(quiet);
  await listing.restart(read);
  assert.deepEqual([listing.state, listing.rows.length], ["more", PAGE_SIZE]);
  await listing.more();
  await listing.more();
  assert.deepEqual([listing.state, listing.rows.length], ["ended", 2 * PAGE_SIZE + 3]);
  await listing.more();
  assert.deepEqual(asked, ["", "1", "2"]);
});

test("short and empty pages go on by themselves until there are rows for a page", async () => {
  const { read, asked } = pagesOf(0, 0, 7, 0, PAGE_SIZE - 7, PAGE_SIZE);
  const listing = new Listing(quiet);
  await listing.restart(read);
  assert.deepEqual([listing.state, listing.rows.length, asked.length], ["more", PAGE_SIZE, 5]);
});

test("after ten pages for less than one the reader is asked, and the next ten are read", async () => {
  const { read, asked } = pagesOf(...Array.from({ length: 25 }, () => 1));
  const listing = new Listing(quiet);
  await listing.restart(read);
  assert.deepEqual([listing.state, asked.length, listing.rows.length], ["looked", PAGES_MAX, PAGES_MAX]);
  assert.equal(listing.lookedBackTo, "t9");
  await listing.more();
  assert.deepEqual([listing.state, asked.length], ["looked", 2 * PAGES_MAX]);
  await listing.more();
  assert.deepEqual([listing.state, asked.length], ["ended", 25]);
});

test("after five seconds the reader is asked too", async () => {
  let now = 0;
  const { read, asked } = pagesOf(...Array.from({ length: 25 }, () => 0));
  const slow = (token) => ((now += LOOK_MILLISECONDS / 3 + 1), read(token));
  const listing = new Listing({ ...quiet, now: () => now });
  await listing.restart(slow);
  assert.deepEqual([listing.state, asked.length], ["looked", 3]);
});

test("the rows of before stay until the first ones of another filter come", async () => {
  const { calls, read } = held();
  const listing = new Listing(quiet);
  const first = listing.restart(pagesOf(2).read);
  await first;
  const second = listing.restart(read);
  assert.deepEqual([listing.rows.length, listing.isStale, listing.state], [2, true, "loading"]);
  calls[0].answer({ rows: [], token: "1" });
  await new Promise(setImmediate);
  assert.deepEqual([listing.rows.length, listing.isStale], [2, true]);
  calls[1].answer({ rows: rowsOf(1, 7), token: "" });
  await second;
  assert.deepEqual([listing.rows, listing.isStale, listing.state], [[{ id: 7 }], false, "ended"]);
});

test("rows of before leave when nothing fits the other filter", async () => {
  const listing = new Listing(quiet);
  await listing.restart(pagesOf(2).read);
  await listing.restart(pagesOf(0).read);
  assert.deepEqual([listing.rows, listing.isStale, listing.state], [[], false, "ended"]);
});

test("a request that another one replaces is aborted, and its answer changes nothing", async () => {
  const { calls, read } = held();
  const listing = new Listing(quiet);
  const first = listing.restart(read);
  const second = listing.restart(read);
  assert.deepEqual([calls[0].signal.aborted, calls[1].signal.aborted], [true, false]);
  calls[1].answer({ rows: rowsOf(1, 2), token: "" });
  await second;
  calls[0].answer({ rows: rowsOf(1, 1), token: "" });
  await first;
  assert.deepEqual(listing.rows, [{ id: 2 }]);
});

test("a page that can't be read keeps the rows and is read again", async () => {
  const { read } = pagesOf(PAGE_SIZE, 5);
  let isAway = false;
  const listing = new Listing(quiet);
  await listing.restart(async (token) => {
    if (isAway) throw new Error("away");
    return read(token);
  });
  isAway = true;
  await listing.more();
  assert.deepEqual([listing.state, listing.problem.message, listing.rows.length], ["problem", "away", PAGE_SIZE]);
  isAway = false;
  await listing.more();
  assert.deepEqual([listing.state, listing.problem, listing.rows.length], ["ended", null, PAGE_SIZE + 5]);
});

test("rows are bounded", async () => {
  const { read } = pagesOf(...Array.from({ length: 100 }, () => PAGE_SIZE + 1));
  const listing = new Listing(quiet);
  await listing.restart(read);
  for (let index = 0; index < 100; index += 1) await listing.more();
  assert.deepEqual([listing.state, listing.rows.length], ["full", ROWS_MAX]);
});

test("a page is asked for with the filter, its size and its token", async () => {
  const paths = [];
  const api = { get: async (path) => (paths.push(path), { deliveries: [{ id: 1, body: "x" }], next_page_token: "a+b", progress_time: "t" }) };
  const rowOf = ({ body, ...row }) => row;
  const read = readerOf(api, "/api/deliveries", "?statuses=failed", "deliveries", rowOf);
  assert.deepEqual(await read("", undefined), { rows: [{ id: 1 }], token: "a+b", time: "t" });
  await read("a+b", undefined);
  await readerOf(api, "/api/deliveries", "", "deliveries")("", undefined);
  assert.deepEqual(paths, [
    `/api/deliveries?statuses=failed&page_size=${PAGE_SIZE}`,
    `/api/deliveries?statuses=failed&page_size=${PAGE_SIZE}&page_token=a%2Bb`,
    `/api/deliveries?page_size=${PAGE_SIZE}`,
  ]);
});

test("what is done for each goes on past a failure, five at a time", async () => {
  let running = 0;
  let most = 0;
  const done = [];
  const act = async (item) => {
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running -= 1;
    if (item === 3) throw new Error("no");
    return item * 2;
  };
  await forEach(rowsOf(12).map(({ id }) => id), act, (item, result, error) => done.push([item, result ?? error.message]), { atOnce: 5 });
  assert.equal(most, 5);
  assert.deepEqual(done.sort(([a], [b]) => a - b).slice(2, 5), [[2, 4], [3, "no"], [4, 8]]);
  assert.equal(done.length, 12);
});

test("what has not begun is left out once it is aborted", async () => {
  const abort = new AbortController();
  const done = [];
  await forEach([1, 2, 3, 4], async () => undefined, (item) => (done.push(item), abort.abort()), { atOnce: 1, signal: abort.signal });
  assert.deepEqual(done, [1]);
});

test("a field of date and time says the time that it was given, in UTC and in the reader's zone", () => {
  assert.equal(period.fieldOf("2026-11-28T00:00:00Z", true), "2026-11-28T00:00");
  assert.equal(period.fieldOf("2026-11-28T00:00:07Z", true), "2026-11-28T00:00:07");
  for (const isUtc of [true, false]) {
    assert.equal(period.timeOf(period.fieldOf("2026-07-01T13:05:09Z", isUtc), isUtc), "2026-07-01T13:05:09Z");
    assert.equal(period.timeOf("", isUtc), "");
    assert.equal(period.timeOf("2026-13", isUtc), "");
  }
  assert.equal(period.fieldOf(undefined, true), "");
  assert.equal(period.before(Date.parse("2026-11-28T01:00:00.789Z"), 3_600_000), "2026-11-28T00:00:00Z");
});

test("attributes stand in the query as the API takes them", () => {
  const filter = { attributes: { region: "eu", "a b": "x&y=z" } };
  assert.equal(route.queryOf(filter), "?attributes[region]=eu&attributes[a%20b]=x%26y%3Dz");
  assert.deepEqual(route.filterOf(route.queryOf(filter)), filter);
  assert.deepEqual(route.attributesOf(" region = eu, plan=a=b,,x"), { region: "eu", plan: "a=b" });
  assert.equal(route.attributesText({ region: "eu", plan: "pro" }), "region=eu, plan=pro");
  assert.equal(route.attributesText(), "");
});

test("names that every object has are not filters", () => {
  assert.deepEqual(route.filterOf("?constructor=1&toString=2&statuses=failed"), { statuses: ["failed"] });
});

test("a call gets the part of a filter that it takes", () => {
  assert.deepEqual(route.partOf({ statuses: ["failed"], problems: "true", customer_id: "7" }, ["statuses", "customer_id"]), {
    statuses: ["failed"],
    customer_id: "7",
  });
});
