// The end of a list: what there is beyond the last row, and what a reader can do about it.

import { absolute, milliseconds } from "../data/time.js";
import { PRESETS } from "../data/period.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";

const DAY_MILLISECONDS = 86_400_000;

/** Returns what stands below the rows. `foot` is {fields, isTimed, clear(), widen(milliseconds)}, see List. */
export function footNodes(page, listing, filter, foot) {
  const { words } = page;
  const on = (word, act) => button(words(word), act);
  switch (listing.state) {
    case "loading":
      return [element("span", { className: "muted" }, listing.rows.length || !listing.round ? "…" : "")];
    case "problem":
      return [problemNode(page, listing.problem, () => listing.more())];
    case "more":
      return [on("Show more", () => listing.more())];
    case "full":
      return [words("The newest {n} are shown; narrow the filter to see others.", { n: listing.rows.length })];
    case "looked":
      return [lookedBack(page, listing), on("Look further back", () => listing.more())];
    default:
      return listing.rows.length ? [endOf(page, filter, foot)] : nothing(page, filter, foot, on);
  }
}

function lookedBack(page, { lookedBackTo }) {
  const { words } = page;
  return lookedBackTo ? words("Looked back to {time}.", { time: clock(page, milliseconds(lookedBackTo)) }) : words("Little fits these filters so far.");
}

/** Returns why a list ends: its filter begins there, or what is older is not kept. */
function endOf(page, filter, { isTimed }) {
  const { words } = page;
  if (!isTimed) return "";
  const days = page.caller?.events_retention_days;
  const start = milliseconds(filter.start_time);
  const isWithin = start > page.now() - (days ?? Infinity) * DAY_MILLISECONDS;
  if (isWithin) return words("These are all since {time}.", { time: clock(page, start) });
  return days ? words("Older than {n} days is not kept", { n: days }) : "";
}

function nothing(page, filter, foot, on) {
  const { words } = page;
  const start = milliseconds(filter.start_time);
  const isFiltered = foot.fields.some((name) => name !== "customer_id" && name in filter);
  if (!isFiltered) return [words("Nothing here yet."), endOf(page, filter, foot)];
  const text = Number.isNaN(start)
    ? words("Nothing fits these filters")
    : words("Nothing fits these filters since {start_time}", { start_time: clock(page, start) });
  return [text, on("Clear filters", foot.clear), ...(foot.isTimed ? wider(page, start, foot, on) : [])];
}

/** Returns buttons that look further back than a window that begins at `start`. */
function wider(page, start, foot, on) {
  return PRESETS.slice(1)
    .filter(([, away]) => start > page.now() - away)
    .map(([word, away]) => on(word, () => foot.widen(away)));
}

function clock(page, at) {
  return absolute(at, { ...page.options, fraction: false });
}

function button(text, act) {
  const made = element("button", {}, text);
  made.addEventListener("click", act);
  return made;
}
