// The audit as people read it. Run by test_modules.py.

import assert from "node:assert/strict";
import { test } from "node:test";

const PAGE = new URL("../../src/webhook_grpc/server/http/page/data/", import.meta.url);
const { auditWords, changedHref, methodText } = await import(new URL("audit.js", PAGE));
const { wordsOf } = await import(new URL("words.js", PAGE));

const entry = (resources, more = {}) => ({ method: "UpdateWebhook", result: "OK", resources, customer_id: 7, ...more });

test("a method is said in words of the reader, and an unknown one by its name", () => {
  assert.equal(methodText("RotateWebhookSecret", "en"), "Rotate webhook secret");
  assert.equal(methodText("RotateWebhookSecret", "zh"), "轮换 Webhook 密钥");
  assert.equal(methodText("FreezeMoon", "zh"), "Freeze moon");
  assert.equal(methodText("constructor\u202e", "zh"), "constructor\\u202e");
});

test("the audit has words of its own and those of all views", () => {
  assert.deepEqual(["Who", "Close"].map(auditWords(wordsOf("zh"), "zh")), ["调用方", "关闭"]);
  assert.deepEqual(["Who", "Close"].map(auditWords(wordsOf("en"), "en")), ["Who", "Close"]);
});

test("an entry leads to what the call has changed, of several to the most particular one", () => {
  const delivery = `dlv_${"0".repeat(26)}_12`;
  assert.equal(changedHref(entry(["webhook:12"])), "/webhooks/12?customer_id=7");
  assert.equal(changedHref(entry(["webhook:12", `delivery:${delivery}`])), `/deliveries/${delivery}?customer_id=7`);
  assert.equal(changedHref(entry(["replay:3"])), "/replays/3?customer_id=7");
  assert.equal(changedHref(entry(["event_type:job.done"], { customer_id: 0 })), "/event-types/job.done");
});

test("an entry of what is deleted, refused, not shown anywhere or not an id leads nowhere", () => {
  for (const one of [
    entry(["webhook:12"], { method: "DeleteWebhook" }),
    entry(["webhook:12"], { result: "NOT_FOUND" }),
    entry(["webhook:12"], { result: "PERMISSION_DENIED" }),
    entry(["token:12"]),
    entry(["constructor:12"]),
    entry(["webhook:12/../../x"]),
    entry(["webhook"]),
    entry([]),
    entry(undefined),
  ]) {
    assert.equal(changedHref(one), "", JSON.stringify(one));
  }
});
