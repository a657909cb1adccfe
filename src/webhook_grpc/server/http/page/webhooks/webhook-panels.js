// The panels of one webhook: its head, how it has been doing, how it is doing now, and what was chosen about it.

import { visible } from "../data/json-text.js";
import { COLOURS, STATUSES } from "../data/store.js";
import { milliseconds, seconds, span } from "../data/time.js";
import { SIGNATURE_TYPES, delayText, policyDelays } from "../data/webhook-draft.js";
import { breakerWord, disabledSince, failingText, webhookStatusNode, whyDisabled } from "../shared/facts.js";
import { icon } from "../shared/icons.js";
import { element } from "../shared/look.js";
import { shareBar } from "../shared/share-bar.js";
import { waitsNode } from "./retry-line.js";

const ENDED = ["succeeded", "failed", "cancelled", "expired"];

/** Returns who a webhook is and where it stands, without its buttons. `stats` may be missing. */
export function headNodes(page, webhook, stats) {
  const { words } = page;
  const title = element("h2", { className: "title" }, `${visible(webhook.name)} #${webhook.webhook_id}`, webhookStatusNode(page, webhook));
  if (stats) title.append(element("span", { className: "bad" }, stats.breaker_state === "closed" ? failingText(page, stats) : breakerText(page, stats)));
  const nodes = [title];
  if (webhook.status === "disabled") nodes.push(element("p", { className: "bad" }, `${whyDisabled(page, webhook)}${sinceText(page, webhook)}`));
  const facts = [element("code", {}, visible(webhook.url)), element("code", {}, visible(webhook.events.join(", "))), secretText(page, webhook)];
  return [...nodes, element("p", { className: "facts" }, ...facts)];
}

function sinceText(page, webhook) {
  const [word, at] = disabledSince(webhook);
  return Number.isNaN(at) ? "" : page.words(" ({reason})", { reason: page.words(word, { time: page.clock(at) }) });
}

function secretText(page, webhook) {
  const { words } = page;
  const hint = `${words("Secret")} …${visible(webhook.secret_hint ?? "")}`;
  const until = milliseconds(webhook.secret_overlap_end_time);
  if (Number.isNaN(until)) return hint;
  return `${hint} · ${words("Both secrets sign until {time}", { time: page.clock(until) })}`;
}

/** Returns how the service treats a receiver, in words: with the time of the next probe while the breaker is open. */
function breakerText(page, stats) {
  const { words } = page;
  const said = breakerWord(page, stats.breaker_state);
  const probe = milliseconds(stats.breaker_probe_time);
  return Number.isNaN(probe) ? said : `${said}${words(", ")}${words("one request at {time}", { time: page.clock(probe) })}`;
}

/** Returns the numbers of the window that was chosen. */
export function windowNode(page, stats, title) {
  const { words } = page;
  const lasting = (text) => (text ? span(seconds(text)) : "–");
  const rate = stats.attempt_count ? words("{rate} % of {n} attempts", { rate: (stats.success_rate * 100).toFixed(1), n: stats.attempt_count }) : "–";
  const cut = stats.truncated ? ` ${words("of the latest million attempts")}` : "";
  return panel(title, [
    [words("Success rate of attempts"), `${rate}${cut}`],
    [words("Latency"), `p50 ${lasting(stats.latency_p50)} · p95 ${lasting(stats.latency_p95)} · p99 ${lasting(stats.latency_p99)}${cut}`],
    [words("Endings of deliveries"), endingsNode(page, stats, cut)],
  ]);
}

function endingsNode(page, stats, cut) {
  const { words } = page;
  const shown = ENDED.map((status) => {
    const count = stats.endings.find((one) => one.status === status)?.count ?? 0;
    const colour = count ? COLOURS[status] : "muted"; // what did not occur is no alarm
    return element("span", { className: `state ${colour}` }, icon(status), `${words("{n}", { n: count })} ${words(STATUSES[status])}`);
  });
  return element("div", {}, endingsBar(stats), element("span", { className: "endings" }, ...shown, `(${words("tests left out")})${cut}`));
}

/** Returns the endings as a bar: the share of each among all that have ended. */
function endingsBar({ endings }) {
  const counts = ENDED.map((status) => [COLOURS[status] ?? "off", Number(endings.find((one) => one.status === status)?.count ?? 0)]).filter(([, count]) => count);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  return total ? shareBar(counts.map(([colour, count]) => [colour, count / total])) : "";
}

/** Returns how the webhook is doing now. */
export function nowNode(page, webhook, stats) {
  const { words } = page;
  const number = (value) => words("{n}", { n: value });
  const time = (text) => (text ? page.clock(milliseconds(text)) : "–");
  const limit = webhook.rate_limit_per_second ? words("{n} a second", { n: webhook.rate_limit_per_second }) : words("no limit");
  return panel(words("Now"), [
    [words("Pending deliveries"), number(stats.pending_count)],
    [words("Due now"), number(stats.due_count)],
    [words("Oldest due"), stats.oldest_due_age ? span(seconds(stats.oldest_due_age)) : "–"],
    [words("Requests at once"), `≤ ${number(webhook.max_in_flight || 10)}`],
    [words("Requests a second"), limit],
    [words("Held until"), time(stats.hold_until_time)],
    [words("Breaker"), breakerText(page, stats)],
    [words("Failing since"), time(stats.failing_since_time)],
  ]);
}

/** Returns what was chosen about a webhook. Of its headers the names only. */
export function settingsNode(page, webhook) {
  const { words } = page;
  const delays = policyDelays(webhook.retry_policy);
  const labels = Object.entries(webhook.labels ?? {}).sort().map((pair) => pair.join("="));
  const chosen = [
    [words("Subscribed events"), element("code", {}, visible(webhook.events.join(", ")))],
    [words("Retry schedule"), waitsNode(words, delays)],
    [words("Timeout"), webhook.timeout ? delayText(seconds(webhook.timeout)) : words("{span} (not chosen)", { span: "15 s" })],
    [words("Signatures"), signatureText(words, webhook.signature_type ?? "hmac")],
    [words("Headers"), element("code", {}, visible(Object.keys(webhook.headers ?? {}).sort().join(", ")) || "–")],
    [words("Labels"), element("code", {}, visible(labels.join(", ")) || "–")],
    [words("Description"), visible(webhook.description ?? "") || "–"],
    [words("Created"), page.clock(milliseconds(webhook.create_time))],
    [words("Changed"), page.clock(milliseconds(webhook.update_time))],
  ];
  return panel(words("Settings"), chosen);
}

function signatureText(words, type) {
  return type in SIGNATURE_TYPES ? words(SIGNATURE_TYPES[type]) : visible(type);
}

function panel(title, pairs) {
  const list = element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  return element("section", { className: "panel" }, element("h3", {}, title), list);
}
