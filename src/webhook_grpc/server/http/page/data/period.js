// Windows of time, as a person chooses them: a preset, or two fields of date and time of day.

const HOUR = 3_600_000;

/** Presets: the words, and the milliseconds back from now. */
export const PRESETS = [
  ["Last hour", HOUR],
  ["Last 24 hours", 24 * HOUR],
  ["Last 7 days", 7 * 24 * HOUR],
  ["Last 30 days", 30 * 24 * HOUR],
];

/** Returns the time so many milliseconds before now, in whole seconds, by RFC 3339. */
export function before(now, away) {
  return text(Math.floor((now - away) / 1000) * 1000);
}

/** Returns the value of a `datetime-local` field for a time, in UTC or in the reader's zone; empty for no time. */
export function fieldOf(time, isUtc) {
  const at = Date.parse(time);
  if (Number.isNaN(at)) return "";
  const away = isUtc ? 0 : new Date(at).getTimezoneOffset() * 60_000;
  return new Date(at - away).toISOString().slice(0, 19).replace(/:00$/, "");
}

/** Returns the time of a `datetime-local` field by RFC 3339; empty for an empty field or one that is not whole. */
export function timeOf(value, isUtc) {
  const at = Date.parse(isUtc ? `${value}Z` : value);
  return Number.isNaN(at) ? "" : text(at);
}

function text(at) {
  return new Date(at).toISOString().replace(".000Z", "Z");
}
