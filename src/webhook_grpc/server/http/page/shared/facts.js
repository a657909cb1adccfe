// Small parts of a panel: a fact with its name, and a status in shape, word and colour.

import { visible } from "../data/json-text.js";
import { COLOURS, STATUSES } from "../data/store.js";
import { absolute, milliseconds } from "../data/time.js";
import { icon } from "./icons.js";
import { element } from "./look.js";

/** Returns a fact with its name. */
export function fact(name, value) {
  return element("span", {}, `${name} `, element("b", {}, value));
}

/** Returns the status of a delivery: shape, word and colour. */
export function stateNode(page, status) {
  const word = STATUSES[status] ? page.words(STATUSES[status]) : status;
  return element("span", { className: `state ${COLOURS[status] ?? "off"}` }, icon(status), word);
}

const STATES = { active: ["Active", "ok"], paused: ["Paused", "wait"], disabled: ["Disabled", "off"] };

/** Returns why a webhook is disabled, as a sentence. */
export function whyDisabled(page, webhook) {
  const reason = disableReason(page, webhook);
  const within = page.language === "en" ? reason.charAt(0).toLowerCase() + reason.slice(1) : reason;
  return page.words("Disabled because {reason}", { reason: within });
}

/**
 * Returns since when a webhook is disabled, as a word and a time: unless a process of an older version disabled it, which did
 * not say when. Then it was not later than the last change.
 */
export function disabledSince({ disable_time: time, update_time: changed }) {
  return time ? ["disabled since {time}", milliseconds(time)] : ["last changed {time}", milliseconds(changed)];
}

/** Returns the reason alone, in the reader's language: it is one of a closed list. */
export function disableReason({ words }, webhook) {
  return words(visible(webhook.status_reason ?? ""));
}

const BREAKERS = { open: "Breaker open", half_open: "Breaker half-open", closed: "Breaker closed" };

/** Returns the state of a breaker in words. */
export function breakerWord({ words }, state) {
  return state in BREAKERS ? words(BREAKERS[state]) : visible(state);
}

/** Returns since when a receiver has failed, as a sentence; "" while it succeeds. `stats` as GetWebhookStats has them. */
export function failingText(page, stats) {
  const since = milliseconds(stats.failing_since_time);
  return Number.isNaN(since) ? "" : `${page.words("Failing since")} ${absolute(since, { ...page.options, fraction: false })}`;
}

/** Returns the status of a webhook: shape, word and colour. */
export function webhookStatusNode(page, webhook) {
  const [word, colour] = STATES[webhook.status] ?? [webhook.status, "off"];
  return element("span", { className: colour }, `● ${STATES[webhook.status] ? page.words(word) : word}`);
}
