// What lists and views of replays share: the window, the filter in words, and the bar of the five counts.

import { visible } from "../data/json-text.js";
import { COUNTS, sharesOf } from "../data/replay.js";
import { STATUSES } from "../data/store.js";
import { absolute, milliseconds } from "../data/time.js";
import { icon } from "../shared/icons.js";
import { element } from "../shared/look.js";
import { SHARE_LOOK, shareBar } from "../shared/share-bar.js";

/** The words of the statuses of a replay. */
export const STATES = { running: "Running", completed: "Completed", cancelled: "Cancelled" };
const STATE_COLOURS = { running: "wait", completed: "ok" };
const NAMED_MAX = 5; // webhooks and types that are named before "and more"

export const REPLAY_LOOK = `${SHARE_LOOK}
.figures, .sum { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: center; margin: 0; }
.figures > span { display: inline-flex; gap: 4px; align-items: center; white-space: nowrap; }
.figures svg { width: 12px; height: 12px; }
`;

/** Returns a time to the second, without its zone. */
export function moment(page, text) {
  return absolute(milliseconds(text), { ...page.options, fraction: false });
}

/** Returns the window of a replay, from and to; what both have in common, such as the day, stands once. */
export function windowText({ language, utc }, replay) {
  const form = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const range = new Intl.DateTimeFormat(language, { ...form, ...(utc && { timeZone: "UTC" }) });
  return range.formatRange(milliseconds(replay.start_time), milliseconds(replay.end_time));
}

/** Returns what a replay sends, in words: statuses, webhooks, types. */
export function filterText(page, replay) {
  const { words } = page;
  const statuses = (replay.statuses ?? []).map((status) => (STATUSES[status] ? words(STATUSES[status]) : status));
  if (replay.include_undelivered) statuses.push(words("never delivered"));
  const webhooks = (replay.webhook_ids ?? []).map((id) => `#${id}`);
  return [
    statuses.join(", "),
    webhooks.length ? some(words, webhooks) : words("all webhooks"),
    ...(replay.event_types?.length ? [visible(some(words, replay.event_types))] : []),
  ].join(" · ");
}

function some(words, list) {
  const more = list.length - NAMED_MAX;
  return list.slice(0, NAMED_MAX).join(", ") + (more > 0 ? ` ${words("and {n} more", { n: more })}` : "");
}

/** Returns the status of a replay: a dot, its word and its colour. */
export function replayStatusNode(page, replay) {
  const { status } = replay;
  return element("span", { className: `state ${STATE_COLOURS[status] ?? "off"}` }, icon("disc"), STATES[status] ? page.words(STATES[status]) : status);
}

/** Returns the five counts as a bar. */
export function barNode(replay) {
  return shareBar(sharesOf(replay));
}

/** Returns the counts as figures, each with its shape and its word: all of them, or only those above zero. */
export function figuresNode(page, replay, { all = true } = {}) {
  const shown = COUNTS.filter(([field]) => all || Number(replay[field]) > 0);
  const figures = shown.map(([field, word, colour, shape]) =>
    element("span", { className: colour }, icon(shape), `${page.words("{n}", { n: replay[field] })} ${page.words(word)}`),
  );
  return element("span", { className: "figures" }, ...figures);
}
