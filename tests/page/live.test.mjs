// What the live list knows: where the stream stands, what holds the list, what is said. No document here.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem } from "../../src/webhook_grpc/server/http/page/data/api.js";
import { fold, memberRange, pretty } from "../../src/webhook_grpc/server/http/page/data/json-text.js";
import { Announcer, Hold, LiveSource, barOf } from "../../src/webhook_grpc/server/http/page/data/live.js";
import { DeliveryStore, isProblem } from "../../src/webhook_grpc/server/http/page/data/store.js";
import { hexOf } from "../../src/webhook_grpc/server/http/page/shared/payload.js";
import { wordsOf } from "../../src/webhook_grpc/server/http/page/data/words.js";

const words = wordsOf("en");
const second = (n) => new Date(Date.UTC(2026, 0, 1) + n * 1000).toISOString();

function delivery(id, at, { status = "succeeded", outcome = "succeeded", count = 1 } = {}) {
  const last = count ? { attempt_number: count, outcome } : null;
  return { delivery_id: id, status, attempt_count: count, last_attempt: last, update_time: second(at), webhook_id: 1 };
}

// --- what holds the list --------------------------------------------------------------------------------------------

/** Returns a hold whose timers are run by hand, and what it has said. */
function hold() {
  const said = [];
  const timers = [];
  const made = new Hold({
    held: () => said.push("held"),
    released: () => said.push("released"),
    later: (run) => timers.push(run),
    never: (timer) => (timers[timer - 1] = () => undefined),
  });
  return { hold: made, said, pass: () => timers.splice(0).forEach((run) => run()) };
}

test("each reason holds the list, and it goes on some time after the last one is gone", () => {
  for (const reason of ["pointer", "scroll", "focus", "dialog"]) {
    const one = hold();
    one.hold.set(reason, true);
    one.hold.set(reason, true);
    one.hold.set(reason, false);
    assert.deepEqual([one.said, one.hold.isHeld], [["held"], true], reason);
    one.pass();
    assert.deepEqual([one.said, one.hold.isHeld], [["held", "released"], false], reason);
  }
});

test("a pointer that comes back in time, or another reason, keeps the list held", () => {
  const one = hold();
  one.hold.set("pointer", true);
  one.hold.set("focus", true);
  one.hold.set("pointer", false);
  one.pass();
  one.hold.set("focus", false);
  one.hold.set("pointer", true);
  one.pass();
  assert.deepEqual(one.said, ["held"]);
});

test("the reader holds it until the reader lets go, which is at once", () => {
  const one = hold();
  one.hold.set("reader", true);
  one.hold.set("pointer", true);
  one.hold.set("pointer", false);
  one.pass();
  assert.deepEqual(one.said, ["held"]);
  one.hold.set("reader", false);
  assert.deepEqual(one.said, ["held", "released"]);
});

test("who does not see the list is told what came, at most each ten seconds", () => {
  const announcer = new Announcer();
  assert.equal(announcer.due(0, words), "");
  announcer.count(true, false);
  assert.equal(announcer.due(0, words), "1 new");
  for (let n = 0; n < 37; n += 1) announcer.count(true, n < 2);
  assert.equal(announcer.due(9_999, words), "");
  assert.equal(announcer.due(10_000, words), "37 new, 2 failed");
  assert.equal(announcer.due(30_000, words), "");
});

// --- the store of a list that is held -------------------------------------------------------------------------------

test("rows that are seen stay while the list is held, whatever comes and however much", () => {
  const store = new DeliveryStore({ rowsMax: 10 });
  store.load(Array.from({ length: 10 }, (_, n) => delivery(`old${n}`, n)));
  store.keep = 3;
  store.freeze();
  for (let n = 0; n < 100; n += 1) store.change(delivery(`new${n}`, 100 + n), 0);
  assert.deepEqual(store.ids, ["old9", "old8", "old7"]);
  assert.deepEqual([store.size, store.waiting.count], [10, 100]);
  store.release();
  assert.deepEqual(store.ids.slice(0, 2), ["new99", "new98"]);
});

test("a list that is held when it is loaded shows what was loaded, and later rows below", () => {
  const store = new DeliveryStore();
  store.freeze();
  store.load([delivery("a", 1), delivery("b", 2)]);
  assert.deepEqual(store.ids, ["b", "a"]);
  store.load([delivery("c", 3), delivery("z", 0)]);
  assert.deepEqual(store.ids, ["b", "a", "z"]);
  store.release();
  assert.deepEqual(store.ids, ["c", "b", "a", "z"]);
});

test("problems only: others are kept and counted, and a row that is seen stays when it is well again", () => {
  const store = new DeliveryStore({ accepts: isProblem });
  store.change(delivery("a", 1, { status: "pending", outcome: "timeout" }), 0);
  store.change(delivery("b", 2), 0);
  assert.deepEqual([store.ids, store.size], [["a"], 2]);
  store.freeze();
  store.change(delivery("a", 3, { count: 2 }), 0);
  store.change(delivery("b", 4, { status: "failed", outcome: "timeout", count: 2 }), 0);
  assert.deepEqual([store.ids, store.waiting], [["a"], { count: 1, failed: 1 }]);
  store.release();
  assert.deepEqual(store.ids, ["b"]);
});

test("a divider stands between what came before and what comes", () => {
  const store = new DeliveryStore();
  store.change(delivery("a", 1), 0);
  store.divide("the log does not reach back", Date.parse(second(2)));
  store.change(delivery("b", 3), 0);
  store.load([delivery("c", 1.5)]);
  assert.deepEqual(store.rows().map((row) => row.divider ?? row.delivery_id), ["b", "the log does not reach back", "c", "a"]);
});

// --- where the stream stands ----------------------------------------------------------------------------------------

const problem = (status, reason) => new Problem({ status, reason, detail: "the detail" });
const said = (state, listProblem) => barOf({ state, listProblem }, 12_000, words);

test("each state of the stream is a sentence, or nothing", () => {
  const cut = (why, wasOpen = true) => said({ name: "resuming", at: 5_000, wasOpen, problem: why }).text;
  assert.equal(said({ name: "opening" }).text, "");
  assert.equal(said({ name: "live", isResumed: false }).text, "");
  assert.equal(said({ name: "live", isResumed: true }).text, "Nothing was missed");
  assert.equal(cut(new TypeError("network error")), "Stream interrupted 7 s ago; resuming from where it stopped");
  assert.match(cut(problem(409, "WATCHER_TOO_SLOW")), / · This page could not keep up; a filter helps$/);
  assert.match(cut(problem(503, "STORAGE_UNAVAILABLE")), / · the detail$/);
  assert.equal(cut(problem(429, "TOO_MANY_STREAMS"), false), "The stream could not be opened 7 s ago; it is tried again · the detail");
  assert.deepEqual(said({ name: "refused", problem: problem(401, "TOKEN_EXPIRED") }), { text: "The token was refused", colour: "bad", mayRetry: false });
  assert.deepEqual(said({ name: "refused", problem: problem(403, "PERMISSION_MISSING") }), { text: "the detail · PERMISSION_MISSING", colour: "bad", mayRetry: true });
  assert.equal(said({ name: "live", isResumed: false }, problem(500, "INTERNAL")).text, "the detail");
});

/** Plays a service whose stream opens, says these texts and stays open; returns what happened. */
function source({ texts = ["id: 1\n\n"], list = async () => ({ deliveries: [] }) } = {}) {
  const happened = [];
  const api = {
    async open(_, { lastEventId, signal }) {
      happened.push(`opens from ${lastEventId || "now"}`);
      const next = texts.shift();
      if (next instanceof Error) throw next;
      const start = (stream) => {
        stream.enqueue(new TextEncoder().encode(next));
        signal.addEventListener("abort", () => stream.error(signal.reason));
      };
      return new Response(new ReadableStream({ start }));
    },
    get: async () => (happened.push("loads"), list()),
  };
  const states = [];
  let reached;
  let changes;
  const listener = {
    changed: () => changes?.(),
    came: () => undefined,
    divided: (text) => (happened.push(text.split(";")[0]), text),
    state: ({ name }) => (states.push(name), reached?.(name)),
  };
  const made = new LiveSource(api, { watch: "/w", list: "/l" }, new DeliveryStore(), listener);
  const until = (name) => new Promise((resolve) => (reached = (now) => now === name && resolve()));
  const changed = () => new Promise((resolve) => (changes = resolve));
  return { source: made, happened, states, until, changed };
}

test("the list is loaded after the stream is open, so that nothing is missed between", async (t) => {
  const one = source();
  t.after(() => one.source.stop());
  const live = one.until("live");
  one.source.start();
  await live;
  assert.deepEqual(one.happened, ["opens from now", "loads"]);
});

test("a tab that is hidden for a minute closes the stream and resumes by its cursor; after ten it loads the list", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.parse(second(0)) });
  const one = source({ texts: ["id: 7\n\n", "id: 8\n\n", "id: 9\n\n"] });
  let live = one.until("live");
  one.source.start();
  await live;
  one.source.hidden(true);
  t.mock.timers.tick(59_000);
  one.source.hidden(false);
  assert.equal(one.states.includes("away"), false);
  one.source.hidden(true);
  t.mock.timers.tick(60_000);
  assert.equal(one.states.at(-1), "away");
  t.mock.timers.tick(60_000);
  live = one.until("live");
  one.source.hidden(false);
  await live;
  assert.deepEqual(one.happened.slice(2), ["opens from 7"]);
  one.source.hidden(true);
  t.mock.timers.tick(600_000);
  live = one.until("live");
  one.source.hidden(false);
  await live;
  assert.deepEqual(one.happened.slice(3), ["This tab was hidden at {time}", "opens from now", "loads"]);
  one.source.stop();
});

const EXPIRED = "event: problem\ndata: {\"status\":401,\"reason\":\"TOKEN_EXPIRED\"}\n\n";

test("a stream whose token has ended is opened with the next one, at the cursor", async (t) => {
  const one = source({ texts: [`id: 4\n\n${EXPIRED}`, "id: 5\n\n"] });
  t.after(() => one.source.stop());
  const resuming = one.until("resuming");
  one.source.start();
  await resuming;
  await one.until("live");
  assert.deepEqual(one.happened.filter((text) => text !== "loads"), ["opens from now", "opens from 4"]);
});

test("after a refusal nothing is tried until there is another token; then the cursor goes on", async (t) => {
  const one = source({ texts: [`id: 4\n\n${EXPIRED}`, problem(401, "TOKEN_EXPIRED"), "id: 5\n\n"] });
  t.after(() => one.source.stop());
  const refused = one.until("refused");
  one.source.start();
  await refused;
  one.source.hidden(true);
  const live = one.until("live");
  one.source.again();
  await live;
  assert.deepEqual(one.happened.filter((text) => text !== "loads"), ["opens from now", "opens from 4", "opens from 4"]);
});

test("a list that can't be loaded is said, and loaded with the next try", async (t) => {
  const answers = [() => Promise.reject(problem(500, "INTERNAL")), async () => ({ deliveries: [delivery("a", 1)] })];
  const one = source({ texts: ["id: 4\n\n", "id: 5\n\n"], list: () => answers.shift()() });
  t.after(() => one.source.stop());
  one.source.start();
  await one.changed();
  assert.equal(one.source.listProblem.reason, "INTERNAL");
  one.source.again();
  await one.changed();
  assert.deepEqual([one.source.listProblem, one.source._store.size], [undefined, 1]);
});

// --- what others wrote ----------------------------------------------------------------------------------------------

test("what is nested beyond six levels is folded, and nothing is lost by that", () => {
  const nested = `${'{"a":['.repeat(32)}1${"]}".repeat(32)}`;
  const unfolded = (text, levels) =>
    fold(text, levels)
      .map((part) => {
        if (part.text !== undefined) return part.text;
        assert.equal(part.count, part.folded.split("\n").length);
        return unfolded(part.folded, levels).split("\n").map((line, index) => (index ? " ".repeat(2 * (levels + 1)) : "") + line).join("\n");
      })
      .join("");
  const text = pretty(nested);
  const [first, inner, last] = fold(text, 6);
  assert.equal(first.text.split("\n").length, 8); // seven levels open, and the place of the fold
  assert.match(inner.folded, /^\{\n {2}"a": \[|^"a": \[/);
  assert.equal(last.text.startsWith("\n"), true);
  assert.equal(unfolded(text, 6), text);
  assert.deepEqual(fold(pretty('{"a":1}'), 6), [{ text: '{\n  "a": 1\n}' }]);
});

test("a text of 256 KiB is one token, and its place is found", () => {
  const data = JSON.stringify({ x: '\\"'.repeat(65_536) });
  const text = `{"event_id":"e", "data": ${data} }`;
  assert.equal(text.slice(...memberRange(text, "data")), data);
});

test("bytes are shown in hexadecimal with their place and their letters", () => {
  assert.equal(hexOf(new TextEncoder().encode("ab\n")), `0000  61 62 0a${" ".repeat(41)}ab·`);
  assert.equal(hexOf(new Uint8Array(17)).split("\n").length, 2);
});
