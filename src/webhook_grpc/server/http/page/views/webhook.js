// One webhook: how it is doing, in numbers and in charts, what may be done with it, and what went to it lately.

import { outcomeText } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { milliseconds, seconds, span } from "../data/time.js";
import { LOOK as CHART_LOOK, stack, steps } from "../parts/chart.js";
import "../parts/deliveries.js";
import { DETAIL_LOOK } from "../parts/detail-look.js";
import { webhookStatusNode } from "../parts/facts.js";
import { element } from "../parts/look.js";
import { problemNode } from "../parts/problem.js";

const NOW_MILLISECONDS = 10_000;
// Window and width of a bin.
const WINDOWS = { "1 h": [3600, 300], "24 h": [86_400, 3600], "7 d": [604_800, 21_600], "31 d": [2_678_400, 86_400] };

export const LOOK = `${DETAIL_LOOK}${CHART_LOOK}
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px; }
.tall { height: 420px; }
`;

/** Shows one webhook. Its numbers are read again each ten seconds while the page is visible. */
export function view(page, { id, filter }) {
  const customer = filter.customer_id ? `customer_id=${encodeURIComponent(filter.customer_id)}` : "";
  const node = element("main", { className: "detail" });
  const abort = new AbortController();
  const shown = { window: "24 h" };
  let list;
  const load = async () => {
    try {
      const webhook = await page.api.get(`/api/webhooks/${id}?${customer}`, abort);
      const [length, width] = WINDOWS[shown.window];
      const start = new Date(Math.floor(page.now() / 1000 - length) * 1000).toISOString();
      const stats = await page.api.get(`/api/webhooks/${id}/stats?customer_id=${webhook.customer_id}&start_time=${start}&bin_width=${width}s`, abort);
      list ??= listOf(page, webhook);
      node.replaceChildren(headOf(page, webhook, stats, shown), numbersNode(page, webhook, stats), chartsNode(page, webhook, stats, shown, load), historyNode(page, webhook), list);
    } catch (error) {
      if (error.name !== "AbortError") node.replaceChildren(problemNode(page, error, load));
    }
  };
  node.addEventListener("acted", load);
  const timer = setInterval(() => document.hidden || node.contains(node.getRootNode().activeElement) || load(), NOW_MILLISECONDS);
  load();
  return { node, stop: () => (abort.abort(), clearInterval(timer)) };
}

function listOf(page, webhook) {
  const list = document.createElement("webhook-deliveries");
  Object.assign(list, { getToken: page.getToken, language: page.language, utc: page.utc, customerId: String(webhook.customer_id), webhookIds: [String(webhook.webhook_id)] });
  list.className = "tall";
  list.addEventListener("delivery-open", ({ detail }) => page.go(`/deliveries/${detail.deliveryId}?customer_id=${webhook.customer_id}`));
  return list;
}

/** Returns the links to all that went to a webhook. */
function historyNode({ words }, webhook) {
  const query = `?customer_id=${webhook.customer_id}&webhook_ids=${webhook.webhook_id}`;
  const link = (path, word) => element("a", { href: path + query }, `${words(word)} →`);
  return element("p", { className: "buttons" }, link("/deliveries", "All deliveries"), link("/attempts", "All attempts"));
}

function headOf(page, webhook, stats, shown) {
  const { words } = page;
  const breaker = { open: "Breaker open", half_open: "Breaker half-open" }[stats.breaker_state];
  const facts = [breaker && words(breaker), stats.breaker_probe_time && page.clock(milliseconds(stats.breaker_probe_time))].filter(Boolean);
  const why = webhook.status_reason ? words("Disabled because {reason}", { reason: webhook.status_reason }) : "";
  return element(
    "section",
    { className: "panel" },
    element("h2", { className: "title" }, `${visible(webhook.name)} #${webhook.webhook_id}`, webhookStatusNode(page, webhook), element("span", { className: "bad" }, facts.join(" · "))),
    element("p", { className: "bad" }, visible(why)),
    element("p", { className: "facts" }, element("code", {}, visible(webhook.url)), element("code", {}, visible(webhook.events.join(", "))), `${words("Secret")} …${webhook.secret_hint ?? ""}`),
    actsNode(page, webhook, shown),
  );
}

function actsNode(page, webhook, shown) {
  const { words } = page;
  const path = `/api/webhooks/${webhook.webhook_id}`;
  const may = page.caller?.permissions?.includes("manage") ?? false;
  const buttons = element("div", { className: "buttons" });
  const result = element("span", { role: "status" }, shown.result ?? "");
  const add = (word, act) => {
    const button = element("button", { disabled: !may }, words(word));
    if (!may) button.title = words("Needs permission {p}", { p: "manage" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      await act(button).catch((error) => page.toast(error.message));
      button.disabled = false;
    });
    buttons.append(button);
  };
  const change = (act) => async (button) => {
    await page.api.send("POST", `${path}:${act}`, { customer_id: webhook.customer_id });
    button.dispatchEvent(new CustomEvent("acted", { bubbles: true, composed: true }));
  };
  add("Send test", async () => {
    result.textContent = "…";
    const { delivery } = await page.api.send("POST", `${path}:test`, { customer_id: webhook.customer_id });
    const attempt = delivery.last_attempt;
    shown.result = result.textContent = attempt ? `${outcomeText(attempt, words)}, ${span(seconds(attempt.latency))} ${attempt.error_message ?? ""}` : "";
  });
  if (webhook.status === "active") {
    add("Pause", async (button) => {
      if (await page.confirm(words("New deliveries are kept as pending."), words("Pause"))) await change("pause")(button);
    });
  } else add("Resume", change("resume"));
  buttons.append(result);
  return buttons;
}

function numbersNode(page, webhook, stats) {
  const { words } = page;
  const some = (count, text) => (count ? text : "–");
  const count = (list, key, name) => list.find((one) => one[key] === name)?.count ?? 0;
  const rate = some(stats.attempt_count, `${(stats.success_rate * 100).toFixed(1)} %`);
  const endings = ["succeeded", "failed", "cancelled", "expired"].map((name) => count(stats.endings, "status", name));
  const lasting = (text) => (text ? span(seconds(text)) : "–");
  const left = [
    [words("Success rate of attempts"), `${rate} (${words("{n}", { n: stats.attempt_count })})`],
    [words("Latency"), `p50 ${lasting(stats.latency_p50)}  p95 ${lasting(stats.latency_p95)}  p99 ${lasting(stats.latency_p99)}`],
    [words("Endings of deliveries"), `✓ ${endings[0]}  ✕ ${endings[1]}  ⊘ ${endings[2] + endings[3]} (${words("tests left out")})`],
  ];
  const right = [
    [words("Pending deliveries"), words("{n}", { n: stats.pending_count })],
    [words("Due now"), words("{n}", { n: stats.due_count })],
    [words("Oldest due"), lasting(stats.oldest_due_age)],
    [words("Failing since"), stats.failing_since_time ? page.clock(milliseconds(stats.failing_since_time)) : "–"],
    [words("Held until"), stats.hold_until_time ? page.clock(milliseconds(stats.hold_until_time)) : "–"],
  ];
  return element("section", { className: "grid" }, factsNode(left), factsNode(right));
}

function factsNode(pairs) {
  return element("dl", { className: "panel" }, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function chartsNode(page, webhook, stats, shown, load) {
  const { words } = page;
  const label = (bin) => page.clock(milliseconds(bin.start_time));
  const classes = stats.bins.map((bin) => {
    const found = { label: label(bin), good: 0, error: 0, silent: 0 };
    for (const { outcome, count } of bin.outcomes) found[outcome === "succeeded" ? "good" : outcome === "http_error" ? "error" : "silent"] += count;
    return found;
  });
  const value = (text) => (text ? seconds(text) : NaN);
  const latencies = stats.bins.map((bin) => ({ label: label(bin), p50: value(bin.latency_p50), p95: value(bin.latency_p95), p99: value(bin.latency_p99) }));
  const choice = element("div", { className: "buttons" });
  for (const name of Object.keys(WINDOWS)) {
    const button = element("button", { ariaPressed: String(name === shown.window) }, name);
    button.addEventListener("click", () => ((shown.window = name), button.blur(), load()));
    choice.append(button);
  }
  const limit = seconds(webhook.timeout) || 15;
  return element(
    "section",
    { className: "panel" },
    choice,
    element("div", { className: "grid" }, stack(words("Outcomes"), classes, words), steps(`${words("Latency")} p50 ─ p95 ┄ p99 ┈ (1 ms – 30 s)`, latencies, limit, words)),
  );
}
