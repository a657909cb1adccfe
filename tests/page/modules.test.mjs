// The modules of the page that need no document. Run by `node --test`, and in a browser by test_modules.py.

import assert from "node:assert/strict";
import { test } from "node:test";

const PAGE = new URL("../../src/webhook_grpc/server/http/page/data/", import.meta.url);
const { parse, pretty, visible } = await import(new URL("json-text.js", PAGE));
const { curl, grpcurl, quote } = await import(new URL("shell-quote.js", PAGE));
const time = await import(new URL("time.js", PAGE));
const { CHINESE, languageOf, wordsOf } = await import(new URL("words.js", PAGE));
const { explain } = await import(new URL("explain.js", PAGE));
const route = await import(new URL("route.js", PAGE));
const { DeliveryStore, isProblem, shapesOf } = await import(new URL("store.js", PAGE));
const { Api, Problem } = await import(new URL("api.js", PAGE));
const { EventParser, LiveStream } = await import(new URL("stream.js", PAGE));

const english = wordsOf("en");
const chinese = wordsOf("zh");

// --- JSON as text ---------------------------------------------------------------------------------------------------

test("whole numbers that JavaScript can't hold stay text, others are numbers", () => {
  const text = '{"a": 9007199254740993, "b": 9007199254740991, "c": [12345678901234567890], "d": 1.5, "e": "9007199254740993"}';
  const expected = { a: "9007199254740993", b: 9007199254740991, c: ["12345678901234567890"], d: 1.5, e: "9007199254740993" };
  assert.deepEqual(parse(text), expected);
  assert.throws(() => parse('{"a": 9007199254740993'), SyntaxError);
});

test("text is indented without a change of any value", () => {
  const text = '{"price":1.0,"id":12345678901234567890,"id":{"empty":{},"list":[],"text":"a, {b}: \\"c\\""},"n":[1,-2e5,true,null]}';
  const shown = pretty(text);
  assert.equal(shown.replace(/\s+/g, ""), text.replace(/\s+/g, ""));
  assert.equal(pretty('{"a":[1,{}],"b":{"c":"d"}}'), '{\n  "a": [\n    1,\n    {}\n  ],\n  "b": {\n    "c": "d"\n  }\n}');
  assert.equal(pretty("7"), "7");
});

test("what is not JSON is not indented", () => {
  for (const text of ["", "{", '{"a":}', "tru", "[1,]", "{]", '{"a" 1}', "<img>", '"a', "1 2"]) assert.equal(pretty(text), null, text);
});

test("hidden characters are shown by their number", () => {
  assert.equal(visible("a\u202eb\u200bc\u0000\n\td\ufeff"), "a\\u202eb\\u200bc\\u0000\n\td\\ufeff");
});

// --- commands -------------------------------------------------------------------------------------------------------

test("a copied command is one word for each argument, whatever is in it", () => {
  assert.equal(quote("it's $HOME `x`"), "'it'\\''s $HOME `x`'");
  assert.equal(curl("https://h", "/api/events?a='"), `curl -sS -H "Authorization: Bearer $TOKEN" 'https://h/api/events?a='\\'''`);
  assert.match(grpcurl("GetEvent", { customer_id: 7 }), /-d '\{"customer_id":7\}' \$ADDRESS webhook\.v1\.WebhookService\/GetEvent$/);
});

// --- times ----------------------------------------------------------------------------------------------------------

test("spans are written in their two largest units", () => {
  const shown = [0.031, 0.9996, 15, 59.99, 252, 3600, 7380, 90_000].map(time.span);
  assert.deepEqual(shown, ["31 ms", "1000 ms", "15.0 s", "59.9 s", "4 min 12 s", "1 h 0 min", "2 h 3 min", "1 d 1 h"]);
  assert.equal(time.seconds("0.250s"), 0.25);
});

test("times are relative up to a day, and count down until they have come", () => {
  const now = Date.parse("2026-11-28T14:00:00Z");
  const at = (seconds) => now + seconds * 1000;
  const options = { language: "en", utc: true };
  assert.equal(time.relative(at(-12), now, english, options), "12 s ago");
  assert.equal(time.relative(at(58), now, english, options), "in 58 s");
  assert.equal(time.relative(at(58), now, chinese, options), "58 s 后");
  assert.match(time.relative(at(-100_000), now, english, options), /27.*10:13:20/);
  assert.equal(time.countdown(at(0), now, english, options), "due");
  assert.match(time.absolute(now + 118, options), /14:00:00\.118/);
  assert.equal(time.iso(now), "2026-11-28T14:00:00.000Z");
});

// --- words ----------------------------------------------------------------------------------------------------------

test("the reader's first language that the page has is taken", () => {
  assert.equal(languageOf(["fr-FR", "zh-Hans-CN", "en"]), "zh");
  assert.equal(languageOf(["fr"]), "en");
});

test("a translation has the names in braces of its text, and no other", () => {
  const names = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();
  for (const [text, said] of Object.entries(CHINESE)) assert.deepEqual(names(said), names(text), text);
});

test("a text without a translation is reported and shown in English", () => {
  const missing = [];
  assert.equal(wordsOf("zh", (text) => missing.push(text))("No such {text}", { text: "text" }), "No such text");
  assert.deepEqual(missing, ["No such {text}"]);
});

test("numbers are written as the language writes them, and text with braces stays text", () => {
  assert.equal(english("{n} attempts", { n: 12345 }), "12,345 attempts");
  assert.equal(english("It subscribes to {events}, not to {event_type}.", { events: "{n}", event_type: "x" }), "It subscribes to {n}, not to x.");
});

// --- explain --------------------------------------------------------------------------------------------------------

const CLOCK = (at) => new Date(at).toISOString().slice(11, 19);
const EVENT = { event_type: "job.failed" };
const attempt = (outcome, more = {}) => ({ outcome, response_status: 503, latency: "15s", ...more });
const told = (entry, webhook) => explain(entry, EVENT, english, CLOCK, webhook);

test("each verdict is a sentence", () => {
  const webhook = { events: ["quota.*"], create_time: "2026-11-28T14:00:00Z" };
  assert.equal(told({ verdict: "type_not_subscribed" }, webhook), "It subscribes to quota.*, not to job.failed.");
  assert.equal(told({ verdict: "created_later" }, webhook), "It was created at 14:00:00, after the event.");
  assert.equal(told({ verdict: "disabled" }), "It is disabled, and was when the event was published.");
  assert.equal(told({ verdict: "changed_later" }), "It would match now, but did not then. A replay can still send it.");
});

test("each standing is a sentence with what has happened so far", () => {
  const delivery = { attempt_count: 3, last_attempt: attempt("http_error"), status: "pending" };
  const entry = (standing, more = {}) => ({ verdict: "matched", standing, delivery, until_time: "2026-11-28T14:09:30Z", ...more });
  assert.equal(told(entry("scheduled")), "3 attempts, the last answered 503. Next attempt 14:09:30.");
  assert.equal(
    told(entry("breaker_open")),
    "The receiver failed too often: 3 attempts, the last answered 503. Nothing is sent until 14:09:30, then one request.",
  );
  assert.match(told(entry("breaker_open", { until_time: undefined })), /being tried again now/);
  assert.equal(told(entry("paused", { delivery: { attempt_count: 0 } })), "Paused: not tried yet. Sent once resumed.");
  const once = { attempt_count: 1, last_attempt: attempt("timeout"), status: "pending" };
  assert.match(told(entry("held", { delivery: once })), /1 attempt: no answer in 15\.0 s/);
});

test("each ending is a sentence", () => {
  const ended = (status) => ({
    verdict: "matched",
    standing: "ended",
    delivery: { status, attempt_count: 1, last_attempt: attempt("succeeded", { response_status: 200 }), update_time: "2026-11-28T14:02:03Z" },
  });
  assert.equal(told(ended("succeeded")), "Delivered 14:02:03: 1 attempt: answered 200.");
  assert.match(told(ended("failed")), /Retry restarts it/);
  assert.match(told(ended("expired")), /no longer kept/);
});

test("what the page does not know is the server's sentence", () => {
  assert.equal(told({ verdict: "of_the_future", explanation: "Server." }), "Server.");
  assert.equal(told({ verdict: "type_not_subscribed", explanation: "Server." }), "Server.");
  assert.equal(told({ verdict: "matched", standing: "scheduled", explanation: "Server." }), "Server.");
});

// --- addresses ------------------------------------------------------------------------------------------------------

test("an address says page, id, act, filter and fragment", () => {
  assert.deepEqual(route.parse("/?statuses=failed,pending&event_types=job.*&customer_id=7&x=1"), {
    page: "",
    id: "",
    act: "",
    filter: { statuses: ["failed", "pending"], event_types: ["job.*"], customer_id: "7" },
    fragment: "",
  });
  assert.equal(route.parse("/webhooks/12/edit").act, "edit");
  assert.equal(route.parse("/replays/new").act, "new");
  assert.equal(route.parse(`/deliveries/dlv_${"0".repeat(26)}_12#attempt-3`).fragment, "attempt-3");
});

test("an address that the page does not have leads nowhere", () => {
  for (const path of ["/x", "/webhooks/0", "/webhooks/1/2", "/deliveries/dlv_x", "/events/evt_..%2f..", "/webhooks/%zz", "/a/b/c/d"]) {
    assert.equal(route.parse(path), null, path);
  }
});

test("a filter and its query say the same", () => {
  const filter = { statuses: ["failed"], event_types: ["job.*", "a&b"], start_time: "2026-11-28T00:00:00Z" };
  assert.deepEqual(route.filterOf(route.queryOf(filter)), filter);
  assert.equal(route.queryOf({}), "");
});

test("any id in the search field leads to its page, a type becomes a filter", () => {
  assert.equal(route.lookup(` evt_${"0".repeat(26)} `).path, `/events/evt_${"0".repeat(26)}`);
  assert.equal(route.lookup("#12").path, "/webhooks/12");
  assert.deepEqual(route.lookup("job.*").filter, { event_types: ["job.*"] });
  assert.equal(route.lookup("<script>"), null);
});

// --- rows -----------------------------------------------------------------------------------------------------------

const second = (number) => new Date(Date.UTC(2026, 0, 1, 0, 0, number)).toISOString();
function delivery(id, number, { status = "pending", outcome, count = outcome ? 1 : 0 } = {}) {
  const last = outcome && { attempt_number: count, outcome, response_status: 200, latency: "0.1s", response_body: "eA==" };
  return { delivery_id: id, webhook_id: 1, status, attempt_count: count, last_attempt: last, update_time: second(number), create_time: second(0) };
}
const ids = (store) => store.rows().map((row) => row.delivery_id);

test("a change puts its row on top and writes its trail", () => {
  const store = new DeliveryStore();
  store.change(delivery("a", 1, { outcome: "http_error" }), 0);
  store.change(delivery("b", 2, { outcome: "succeeded", status: "succeeded" }), 0);
  store.change(delivery("a", 3, { outcome: "timeout", count: 2 }), 0);
  assert.deepEqual(ids(store), ["a", "b"]);
  assert.deepEqual(shapesOf(store.get("a")), { shapes: ["square", "triangle"], count: 2 });
  assert.equal("response_body" in store.get("a").last_attempt, false);
});

test("a list that was loaded does not undo what the stream has brought", () => {
  const store = new DeliveryStore();
  store.change(delivery("a", 5, { outcome: "succeeded", status: "succeeded" }), 0);
  store.load([delivery("a", 4), delivery("b", 6), delivery("c", 1)]);
  assert.deepEqual(ids(store), ["b", "a", "c"]);
  assert.equal(store.get("a").status, "succeeded");
});

test("while the list is frozen rows keep their places, contents go on, and what is new waits", () => {
  const store = new DeliveryStore();
  store.load([delivery("a", 1), delivery("b", 2)]);
  store.freeze();
  store.change(delivery("a", 3, { status: "failed", outcome: "timeout" }), 0);
  store.change(delivery("c", 4, { status: "failed", outcome: "timeout" }), 0);
  store.change(delivery("d", 5), 0);
  assert.deepEqual(ids(store), ["b", "a"]);
  assert.equal(store.get("a").status, "failed");
  assert.deepEqual(store.waiting, { count: 2, failed: 1 });
  store.release();
  assert.deepEqual(ids(store), ["d", "c", "a", "b"]);
  assert.deepEqual(store.waiting, { count: 0, failed: 0 });
});

test("memory is bounded: the oldest rows leave first, counts count everything", () => {
  const store = new DeliveryStore({ rowsMax: 3 });
  for (let number = 0; number < 10; number += 1) store.change(delivery(`d${number}`, number, { outcome: "succeeded" }), 0);
  assert.deepEqual(ids(store), ["d9", "d8", "d7"]);
  const counted = store.attempts(Date.parse(second(9))).reduce((sum, bin) => sum + (bin.succeeded ?? 0), 0);
  assert.equal(counted, 10);
});

test("a change that comes twice, as after a resumption, counts once", () => {
  const store = new DeliveryStore();
  for (let time = 0; time < 2; time += 1) store.change(delivery("a", 1, { outcome: "succeeded", status: "succeeded" }), 0);
  assert.equal(store.attempts(Date.parse(second(1))).at(-1).succeeded, 1);
});

test("a trail of many attempts shows the last eight and their number", () => {
  const store = new DeliveryStore();
  store.change(delivery("a", 1, { outcome: "http_error", count: 12 }), 0);
  const { shapes, count } = shapesOf(store.get("a"));
  assert.deepEqual([shapes.length, shapes.at(-1), shapes[0], count], [8, "square", "dot", 12]);
});

test("problems are failed attempts and endings that are not successes", () => {
  const rows = [delivery("a", 1, { outcome: "timeout" }), delivery("b", 1, { status: "cancelled" }), delivery("c", 1)];
  assert.deepEqual(rows.map(isProblem), [true, true, false]);
});

// --- calls ----------------------------------------------------------------------------------------------------------

function answer(body, { status = 200 } = {}) {
  return new Response(body, { status });
}

test("a call carries the token of now, and nothing else says it", async () => {
  const seen = [];
  const fetch = async (url, options) => (seen.push({ url, options }), answer('{"id": 9007199254740993}'));
  const api = new Api({ base: "http://h", getToken: async () => "whk_1", fetch });
  assert.deepEqual(await api.get("/api/x"), { id: "9007199254740993" });
  assert.equal(seen[0].options.headers.Authorization, "Bearer whk_1");
  assert.equal(seen[0].url.includes("whk"), false);
  await api.send("POST", "/api/y", { a: 1 }, { requestId: "r", etag: "2" });
  assert.deepEqual(
    [seen[1].options.headers["Idempotency-Key"], seen[1].options.headers["If-Match"], seen[1].options.body],
    ["r", '"2"', '{"a":1}'],
  );
});

test("what is refused is a Problem, whatever its body", async () => {
  const problem = '{"status": 404, "reason": "WEBHOOK_NOT_FOUND", "detail": "no", "retry_seconds": 2}';
  const refused = (body, status) => new Api({ fetch: async () => answer(body, { status }) }).get("/x");
  await assert.rejects(refused(problem, 404), (error) => error instanceof Problem && error.reason === "WEBHOOK_NOT_FOUND" && error.retrySeconds === 2);
  await assert.rejects(refused("<html>", 502), (error) => error instanceof Problem && error.status === 502);
});

test("at most four calls run at once, and all get their turn", async () => {
  let running = 0;
  let most = 0;
  const fetch = async () => {
    most = Math.max(most, (running += 1));
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    return answer("{}");
  };
  const api = new Api({ fetch });
  await Promise.all(Array.from({ length: 20 }, () => api.get("/x")));
  assert.equal(most, 4);
});

// --- the stream -----------------------------------------------------------------------------------------------------

test("events are found wherever the text was cut", () => {
  const text = ": heartbeat\nid: 1\n\nid: 2\ndata: {\"a\":1}\n\nevent: problem\r\ndata: x\r\n\r\n";
  const whole = new EventParser().feed(text);
  assert.deepEqual(whole.map(({ event, data, id }) => [event, data, id]), [["message", "", "1"], ["message", '{"a":1}', "2"], ["problem", "x", ""]]);
  for (let cut = 0; cut < text.length; cut += 1) {
    const parser = new EventParser();
    assert.deepEqual([...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))], whole);
  }
});

/** Plays a server: each opening of the stream takes the next of these. */
function played(...openings) {
  const asked = [];
  const api = {
    async open(_, { lastEventId }) {
      asked.push(lastEventId);
      const next = openings.shift();
      if (next instanceof Error) throw next;
      return new Response(next);
    },
  };
  const told = [];
  const listener = {
    opened: ({ isResumed }) => told.push(isResumed ? "resumed" : "opened"),
    message: (message) => told.push(message.n),
    interrupted: (reason) => told.push(`interrupted ${reason}`.trim()),
    restarted: (reason) => told.push(`restarted ${reason}`),
    refused: (problem) => told.push(`refused ${problem.reason}`),
  };
  const waits = [];
  const stream = new LiveStream(api, "/watch", listener, {
    random: () => 0.5,
    wait: async (seconds) => {
      waits.push(seconds);
      if (!openings.length) stream.stop();
    },
  });
  return { stream, asked, told, waits };
}

const problem = (status, reason) => new Problem({ status, reason });

test("a stream that is cut goes on from the last id that was taken", async () => {
  const { stream, asked, told } = played('id: 1\n\nid: 2\ndata: {"n":1}\n\nid: 3\ndata: {"n"', 'id: 3\ndata: {"n":2}\n\n');
  await stream.run();
  assert.deepEqual(asked, ["", "2"]);
  assert.deepEqual(told, ["opened", 1, "interrupted", "resumed", 2, "interrupted"]);
});

test("waits grow to five seconds and begin again after a success", async () => {
  const away = () => new TypeError("network");
  const { stream, waits } = played(away(), away(), away(), away(), away(), away(), "id: 1\n\n", away());
  await stream.run();
  assert.deepEqual(waits, [0.2, 0.5, 1, 2, 5, 5, 0.2, 0.5]);
});

test("a cursor that is too old starts again from now", async () => {
  const { stream, asked, told } = played("id: 1\n\n", problem(410, "CURSOR_EXPIRED"), "id: 9\n\n");
  await stream.run();
  assert.deepEqual(asked, ["", "1", ""]);
  assert.equal(told.includes("restarted CURSOR_EXPIRED"), true);
});

test("a token or a filter that is refused ends it, an outage and a full server do not", async () => {
  const refused = played(problem(401, "TOKEN_EXPIRED"), "id: 1\n\n");
  await refused.stream.run();
  assert.deepEqual(refused.told, ["refused TOKEN_EXPIRED"]);
  const busy = played(problem(429, "TOO_MANY_STREAMS"), problem(503, "STORAGE_UNAVAILABLE"), "id: 1\n\n");
  await busy.stream.run();
  assert.deepEqual(busy.told, ["interrupted TOO_MANY_STREAMS", "interrupted STORAGE_UNAVAILABLE", "opened", "interrupted"]);
});

test("the reason that the server gives for the end is passed on, and the stream resumed", async () => {
  const { stream, asked, told } = played('id: 4\n\nevent: problem\ndata: {"status":409,"reason":"WATCHER_TOO_SLOW"}\n\n', "id: 5\n\n");
  await stream.run();
  assert.deepEqual(asked, ["", "4"]);
  assert.equal(told[1], "interrupted WATCHER_TOO_SLOW");
});

test("silence is a cut", async () => {
  const told = [];
  const api = { open: async () => new Response(new ReadableStream({})) };
  const listener = { interrupted: () => told.push("interrupted") };
  const stream = new LiveStream(api, "/", listener, { silence: 0.01, wait: async () => stream.stop() });
  await stream.run();
  assert.deepEqual(told, ["interrupted"]);
});
