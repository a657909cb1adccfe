// What a person may do with a webhook.

import { visible } from "../data/json-text.js";
import { queryOf } from "../data/route.js";
import { iso, milliseconds } from "../data/time.js";
import { actButton, acted } from "../shared/act-button.js";
import { answerNode } from "../shared/answer.js";
import { webhookItems } from "../shared/copy-items.js";
import { disabledSince, whyDisabled } from "../shared/facts.js";
import { element } from "../shared/look.js";
import { copyMenu } from "../shared/menu.js";
import { nameToType, rotateSecret } from "./secret.js";

const DAY_MILLISECONDS = 86_400_000;
const WINDOW_DAYS_MAX = 31; // of a replay

/** Returns the buttons of a webhook. `result` is where the answer of a test is shown; `stats` may be missing. */
export function webhookActs(page, webhook, stats, result) {
  const { words } = page;
  const path = `/api/webhooks/${webhook.webhook_id}`;
  const query = `?customer_id=${webhook.customer_id}`;
  const replay = `/replays/new${queryOf({ customer_id: String(webhook.customer_id), webhook_ids: [String(webhook.webhook_id)] })}`;
  const isActive = webhook.status === "active";
  return element(
    "div",
    { className: "buttons" },
    actButton(page, words("Send test"), () => sendTest(page, webhook, result), { name: "test" }),
    actButton(page, `${words("Replay")}…`, () => page.go(replay)),
    isActive ? actButton(page, words("Pause"), (button) => pause(page, webhook, button)) : actButton(page, words("Resume"), (button) => resume(page, webhook, stats, button)),
    actButton(page, words("Edit"), () => page.go(`/webhooks/${webhook.webhook_id}/edit${query}`)),
    actButton(page, `${words("Rotate secret")}…`, async (button) => (await rotateSecret(button.getRootNode(), page, webhook)) && acted(button)),
    actButton(page, `${words("Delete")}…`, (button) => remove(page, webhook, stats, `${path}${query}`, button)),
    copyMenu(page, webhookItems(words, webhook)),
  );
}

function named(webhook) {
  return `${visible(webhook.name)} #${webhook.webhook_id}`;
}

async function sendTest(page, webhook, result) {
  result.replaceChildren(page.words("One real request goes out now."));
  try {
    const { delivery } = await page.api.send("POST", `/api/webhooks/${webhook.webhook_id}:test`, { customer_id: webhook.customer_id });
    result.replaceChildren(answerNode(page, delivery));
  } catch (error) {
    result.replaceChildren(element("span", { className: "bad" }, error.message));
  }
}

async function pause(page, webhook, button) {
  const { words } = page;
  const act = () => page.api.send("POST", `/api/webhooks/${webhook.webhook_id}:pause`, { customer_id: webhook.customer_id });
  const title = `${words("Pause")}: ${named(webhook)}`;
  if (await page.confirm(words("New deliveries are kept as pending."), words("Pause"), { title, act })) acted(button);
}

/** Resumes a webhook: a paused one at once, a disabled one after a question, which may lead to a replay. */
async function resume(page, webhook, stats, button) {
  const { words } = page;
  const act = () => page.api.send("POST", `/api/webhooks/${webhook.webhook_id}:resume`, { customer_id: webhook.customer_id });
  if (webhook.status !== "disabled") {
    await act();
    return acted(button);
  }
  const replays = element("input", { type: "checkbox" });
  const text = [
    element("p", {}, whyDisabled(page, webhook)),
    element("p", {}, words("It starts with one request at a time.")),
    element("label", {}, replays, words("then replay what was missed")),
  ];
  if (!(await page.confirm(text, words("Resume"), { title: `${words("Resume")}: ${named(webhook)}`, act }))) return;
  acted(button);
  if (replays.checked) page.go(missedPath(webhook, stats, page.now()));
}

/**
 * Returns the address of the replay of what a disabled webhook has missed: since it has been failing, which was before it was
 * disabled; at least of the last day.
 */
export function missedPath(webhook, stats, now) {
  const [, disabled] = disabledSince(webhook);
  const since = milliseconds(stats?.failing_since_time) || Math.min(Number.isNaN(disabled) ? now : disabled, now - DAY_MILLISECONDS);
  const start = Math.max(since, now - WINDOW_DAYS_MAX * DAY_MILLISECONDS);
  const query = { webhook_ids: webhook.webhook_id, start_time: iso(start), statuses: "failed,cancelled", never_delivered: "true", customer_id: webhook.customer_id };
  return `/replays/new?${Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&").replaceAll("%2C", ",")}`;
}

async function remove(page, webhook, stats, path, button) {
  const { words } = page;
  const text = words("{n} pending deliveries are cancelled. History stays. The id is never used again.", { n: stats ? Number(stats.pending_count) : "?" });
  const act = () => page.api.send("DELETE", path, undefined, { etag: webhook.etag });
  const question = { title: `${words("Delete")}: ${named(webhook)}`, danger: true, confirmText: nameToType(webhook), act };
  if (!(await page.confirm(text, words("Delete"), question))) return;
  acted(button);
  page.go(`/webhooks?customer_id=${webhook.customer_id}`);
}
