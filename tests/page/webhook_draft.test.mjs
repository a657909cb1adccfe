// What a person chose about a webhook, and commands to copy: modules that need no document. Run by `node --test`.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

const PAGE = new URL("../../src/webhook_grpc/server/http/page/data/", import.meta.url);
const draft = await import(new URL("webhook-draft.js", PAGE));
const { CHINESE } = await import(new URL("words.js", PAGE));
const shell = await import(new URL("shell-quote.js", PAGE));

// --- a webhook that is edited -----------------------------------------------------------------------------------------

const WEBHOOK = {
  webhook_id: 12,
  name: "billing-eu",
  url: "https://hooks.example.com/in",
  events: ["job.*"],
  timeout: "15.500s",
  retry_policy: { delays: ["5s", "60.000s"] },
  max_in_flight: 10,
  headers: { b: "2", a: "1" },
  etag: "3",
};

test("a draft of what is there differs in nothing, however the API writes spans and orders names", () => {
  const before = draft.draftOf(WEBHOOK);
  const same = { ...before, timeout: "15.5s", retry_policy: { delays: ["5s", "60s"] }, headers: { a: "1", b: "2" } };
  assert.deepEqual(draft.patchOf(before, same), {});
});

test("only what has changed is sent, and null takes a choice back", () => {
  const before = draft.draftOf(WEBHOOK);
  const after = { ...before, name: "billing", retry_policy: null };
  assert.deepEqual(draft.patchOf(before, after), { name: "billing", retry_policy: null });
  const created = { ...draft.draftOf({}), name: "new", events: ["*"] };
  assert.deepEqual(draft.createBody(created), { name: "new", events: ["*"] });
});

test("what signs is the secret until somebody chooses, and each choice has words that are translated", () => {
  assert.equal(draft.draftOf({}).signature_type, "hmac");
  assert.deepEqual(draft.createBody({ ...draft.draftOf({}), signature_type: "ed25519" }), { signature_type: "ed25519" });
  for (const text of Object.values(draft.SIGNATURE_TYPES)) assert.ok(text in CHINESE, text);
});

test("an edit that met another one offers mine where I changed something, and theirs elsewhere", () => {
  const before = draft.draftOf(WEBHOOK);
  const mine = { ...before, name: "mine" };
  const theirs = { ...before, name: "theirs", max_in_flight: 5 };
  assert.deepEqual(draft.conflicts(before, mine, theirs), [
    { name: "name", mine: "mine", theirs: "theirs", isMine: true },
    { name: "max_in_flight", mine: 10, theirs: 5, isMine: false },
  ]);
  assert.deepEqual(draft.conflicts(before, mine, { ...before, name: "mine" }), []);
});

test("a URL is judged as it is typed, in words that are translated", () => {
  for (const good of ["", "https://hooks.example.com/in", "https://hooks.example.com:8443/a?b=c@d"]) assert.equal(draft.urlProblem(good), "", good);
  const bad = ["ftp://x.example/", "hooks.example.com", "https://", "http://x.example/", "https://u:p@x.example/", "https://@x.example/", "https://x.example/#a", "https://x.example/ a", "https://ü.example/", `https://x.example/${"a".repeat(500)}`];
  for (const url of bad) assert.ok(draft.urlProblem(url) in CHINESE, url);
});

test("patterns match as the service matches them", () => {
  assert.ok(["*", "job.*", "job.completed", "a-b_c.d0"].every(draft.isPattern));
  assert.ok(["", "job.", "Job", "job*", "*.job", ".job", "-a", "a".repeat(129)].every((text) => !draft.isPattern(text)));
  assert.ok(draft.matchesAny("job.completed", ["job.*"]) && draft.matchesAny("job.a.b", ["job.*"]) && draft.matchesAny("x", ["*"]));
  assert.ok(!draft.matchesAny("job", ["job.*"]) && !draft.matchesAny("jobs.completed", ["job.*", "job.completed"]));
});

test("delays are read and written in people's units", () => {
  assert.deepEqual(draft.delaysOf("5 s, 90, 2 min,2m; 1h , 1 d"), [5, 90, 120, 120, 3600, 86_400]);
  assert.deepEqual(draft.delaysOf(" "), []);
  for (const text of ["soon", "5 weeks", "5 s 6 s", "-1"]) assert.equal(draft.delaysOf(text), null, text);
  const all = [5, 90, 120, 5400, 7200];
  assert.deepEqual(draft.delaysOf(all.map(draft.delayText).join(", ")), all);
});

test("a violation belongs to the field that its path begins with", () => {
  const paths = ["events[3]", "webhook.events[3]", "headers[X-Key]", "retry_policy.delays[0]", "url"];
  assert.deepEqual(paths.map(draft.fieldOf), ["events", "events", "headers", "retry_policy", "url"]);
});

// --- commands ----------------------------------------------------------------------------------------------------------

const HOSTILE = `it's "$HOME" \`id\` $(id) \\ !! \n@file`;

/** Returns the arguments that a POSIX shell makes of a command. */
function argumentsOf(command) {
  const script = `set -f; URL=https://h; TOKEN=t; ADDRESS=a; curl() { printf '%s\\0' "$@"; }; grpcurl() { curl "$@"; }; ${command.replace(/^webhook-grpc /, "curl ")}`;
  return execFileSync("/bin/sh", ["-c", script]).toString().split("\0").slice(0, -1);
}

test("whatever a command carries reaches the program as it is", () => {
  const body = { event: { data: HOSTILE } };
  assert.deepEqual(JSON.parse(argumentsOf(shell.curlPost("https://h", "/api/events", body))[6]), body);
  assert.deepEqual(argumentsOf(shell.curlPost("https://h", "/p", body, { hasToken: false })).slice(0, 3), ["-sS", "-H", "Content-Type: application/json"]);
  assert.deepEqual(JSON.parse(argumentsOf(shell.grpcurl("PublishEvent", body))[3]), body);
  assert.ok(argumentsOf(shell.grpcurl("PublishEvent", {}, { address: "127.0.0.1:50051", isPlaintext: true })).includes("127.0.0.1:50051"));
});

test("a delivery as it was sent has its body to the byte, its headers and no signature", () => {
  const data = `{"price":1.0,"text":"it's","id":12345678901234567890}`;
  const delivery = { delivery_id: "dlv_x_1", event_id: "evt_x", attempt_count: 2 };
  const event = { event_type: "job.completed", occur_time: "2026-11-28T14:00:00.900Z", data_text: data };
  const command = shell.asSent(delivery, event);
  const sent = argumentsOf(command);
  assert.equal(sent[sent.indexOf("--data-raw") + 1], `{"event":"job.completed","timestamp":1795874400,"data":${data}}`);
  assert.ok(sent.includes("webhook-id: evt_x") && sent.includes("X-Webhook-Attempt: 2") && sent.at(-1) === "https://h");
  assert.ok(!/signature/i.test(command));
  assert.equal(shell.asSent(delivery, { ...event, data_text: `"${"a".repeat(100_000)}"` }), "", "too long for a command line");
});
