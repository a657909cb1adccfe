// What a person chose about a webhook: judged as it is typed, compared with what it was, and sent as what has changed.

import { seconds } from "./time.js";

export const URL_CHARACTERS_MAX = 512;

/** The fields that a person chooses, in the order of the form, each with what it is while nothing was chosen. */
export const FIELDS = {
  name: "",
  url: "",
  events: [],
  description: "",
  retry_policy: null,
  timeout: null,
  max_in_flight: 0,
  rate_limit_per_second: 0,
  headers: {},
  labels: {},
  signature_type: "hmac",
};

/** What signs a webhook's requests, by the API's names. */
export const SIGNATURE_TYPES = { hmac: "Secret (HMAC)", ed25519: "Secret, and an Ed25519 key" };

const PATTERN = /^(\*|[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*(\.\*)?)$/;
const UNITS = { s: 1, sec: 1, m: 60, min: 60, h: 3600, d: 86_400 };

/** Returns the chosen fields of a webhook as the API shows it; each has a value, and equal spans are equal texts. */
export function draftOf(webhook) {
  const draft = Object.fromEntries(Object.entries(FIELDS).map(([name, none]) => [name, webhook[name] ?? none]));
  const delays = policyDelays(draft.retry_policy);
  return { ...draft, retry_policy: policyOf(delays), timeout: draft.timeout === null ? null : durationOf(seconds(draft.timeout)) };
}

/** Returns a duration as the API takes it. */
export function durationOf(value) {
  return `${value}s`;
}

/** Returns the retry policy of delays in seconds; null for none: the service's own. */
export function policyOf(delays) {
  return delays.length ? { delays: delays.map(durationOf) } : null;
}

/** Returns the names of the fields in which two drafts differ. */
export function changedFields(before, after) {
  return Object.keys(FIELDS).filter((name) => canonical(before[name]) !== canonical(after[name]));
}

function canonical(value) {
  const sorted = value && typeof value === "object" && !Array.isArray(value) ? Object.entries(value).sort() : value;
  return JSON.stringify(sorted);
}

/** Returns the body of a PATCH: exactly the fields that have changed; null takes a choice back. */
export function patchOf(before, after) {
  return Object.fromEntries(changedFields(before, after).map((name) => [name, after[name]]));
}

/** Returns the body of a POST: what was chosen. */
export function createBody(draft) {
  return patchOf(draftOf({}), draft);
}

/**
 * Returns the two sides of an edit that met another one: {mine, theirs, isMine} for each field in which the draft
 * differs from the webhook as it is now. `isMine` says which side is offered: mine where the edit changed the field.
 */
export function conflicts(before, mine, theirs) {
  const own = new Set(changedFields(before, mine));
  return changedFields(mine, theirs).map((name) => ({ name, mine: mine[name], theirs: theirs[name], isMine: own.has(name) }));
}

/** Returns what is wrong with a URL, as words; "" for nothing. The service has the last word. */
export function urlProblem(text) {
  if (!text) return "";
  if (text.length > URL_CHARACTERS_MAX) return "At most 512 characters.";
  if (!/^[\x21-\x7e]+$/.test(text)) return "Only printable ASCII characters, no spaces; a host name in punycode.";
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return "A whole URL, with its host name.";
  const url = new URL(text);
  if (url.username || url.password || /^https?:\/\/[^/?#]*@/i.test(text)) return "No user name and no password in it.";
  if (text.includes("#")) return "No fragment (#) in it.";
  if (url.protocol !== "https:") return "Without https only if the operator allows it.";
  return "";
}

/** Returns whether a text is an event type, a prefix like `job.*`, or `*`. */
export function isPattern(text) {
  return text.length <= 128 && PATTERN.test(text);
}

/** Returns whether an event type fits one of the patterns. */
export function matchesAny(eventType, patterns) {
  return patterns.some((pattern) => {
    if (pattern === "*" || pattern === eventType) return true;
    return pattern.endsWith(".*") && eventType.startsWith(pattern.slice(0, -1));
  });
}

/** Returns the delays of a text like `5 s, 2 min, 1 h`, in seconds; null if it can't be read, [] if it is empty. */
export function delaysOf(text) {
  const parts = text.split(/[,;]/).map((part) => part.trim()).filter(Boolean);
  const delays = parts.map((part) => {
    const [, number, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(part) ?? [];
    return number === undefined ? NaN : Number(number) * (unit ? UNITS[unit.toLowerCase()] ?? NaN : 1);
  });
  return delays.some(Number.isNaN) ? null : delays;
}

/** Returns a delay in its largest whole unit, as delaysOf reads it: `5 s`, `90 s`, `2 min`, `10 h`. */
export function delayText(value) {
  if (value >= 3600 && value % 3600 === 0) return `${value / 3600} h`;
  return value >= 60 && value % 60 === 0 ? `${value / 60} min` : `${value} s`;
}

/** Returns the delays of a retry policy of the API, in seconds. */
export function policyDelays(policy) {
  return (policy?.delays ?? []).map(seconds);
}

/** Returns the field of the form that a violation's dotted path is about: `events` of `webhook.events[3]`. */
export function fieldOf(path) {
  return path.replace(/^webhook\./, "").split(/[.[]/)[0];
}
