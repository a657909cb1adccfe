// Times and spans of time, as people read them. All take `now` as an argument: the server's clock, not the browser's.

const DAY_SECONDS = 86_400;

/** Returns the milliseconds since 1970 of an RFC 3339 time, NaN for anything else. */
export function milliseconds(text) {
  return typeof text === "string" ? Date.parse(text) : NaN;
}

/** Returns the seconds of a duration of the API, such as `0.250s`. */
export function seconds(text) {
  return text ? Number(text.replace(/s$/, "")) : 0;
}

/** Returns a span of time in its two largest units: `31 ms`, `15.0 s`, `4 min 12 s`, `2 h 3 min`, `3 d 4 h`. */
export function span(value) {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${(Math.floor(value * 10) / 10).toFixed(1)} s`;
  const whole = Math.floor(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < DAY_SECONDS) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / DAY_SECONDS)} d ${Math.floor((whole % DAY_SECONDS) / 3600)} h`;
}

/** Returns a past or coming time relative to now, up to a day; beyond that the time itself. */
export function relative(at, now, words, options) {
  const away = (at - now) / 1000;
  if (Math.abs(away) >= DAY_SECONDS) return absolute(at, { ...options, fraction: false });
  const shown = coarse(Math.abs(away));
  return words(away > 0 ? "in {span}" : "{span} ago", { span: shown });
}

/** Returns how long until a time, or that it has come. */
export function countdown(at, now, words, options) {
  return at <= now ? words("due") : relative(at, now, words, options);
}

/** Returns that what is due is held, and for how long if that is known: `wait` is [why, until], see data/replay.js. */
export function heldText([, until], now, words) {
  return until > now ? words("held, {span}", { span: coarse((until - now) / 1000) }) : words("held");
}

function coarse(value) {
  const whole = Math.floor(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const FORMATS = new Map(); // a format costs a hundred times what its use costs

/** Returns date and time of day, in UTC or in the reader's zone: `27 Nov 22:14:03`, with `fraction` also milliseconds and zone. */
export function absolute(at, { language = "en", utc = false, fraction = true } = {}) {
  const key = `${language} ${utc} ${fraction}`;
  if (!FORMATS.has(key)) FORMATS.set(key, formatsOf(language, utc, fraction));
  return FORMATS.get(key)
    .map((format) => format.format(at))
    .join(" ");
}

/** Returns the formats of the day, as the language writes it, and of the time of day, which all languages write alike. */
function formatsOf(language, utc, fraction) {
  const zone = utc ? { timeZone: "UTC" } : {};
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const exact = fraction ? { fractionalSecondDigits: 3, timeZoneName: "short" } : {};
  return [
    new Intl.DateTimeFormat(language === "en" ? "en-GB" : language, { day: "numeric", month: "short", ...zone }),
    new Intl.DateTimeFormat("en-GB", { ...clock, ...exact, ...zone }),
  ];
}

/** Returns the time in UTC by ISO 8601: what is copied. */
export function iso(at) {
  return new Date(at).toISOString();
}
