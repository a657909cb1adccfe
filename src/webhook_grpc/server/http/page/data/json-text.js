// JSON as text. What a producer published is shown as it is: `1.0`, twenty digits and doubled keys are not changed, so
// nothing here goes through numbers and objects.

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]|\s+|./gsu;
const LARGE = /\d{16}/;

/** Parses JSON of the API. Whole numbers that JavaScript can't hold exactly become text. Throws SyntaxError. */
export function parse(text) {
  if (!LARGE.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(TOKEN, (token) => (isLarge(token) ? `"${token}"` : token)));
}

function isLarge(token) {
  return /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
}

/** Returns the text of a member of a JSON object, to the byte; undefined if the object has none of that name. */
export function memberText(text, name) {
  const range = memberRange(text, name);
  return range && text.slice(...range);
}

/** Returns where the text of a member of a JSON object begins and ends; undefined if the object has none of that name. */
export function memberRange(text, name) {
  const wanted = JSON.stringify(name);
  let depth = 0;
  let before = "";
  let start = -1;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (isSpace(token)) continue;
    if (start >= 0 && depth === 1 && (token === "," || token === "}")) return trimmed(text, start, index);
    if (token === "{" || token === "[") depth += 1;
    if (token === "}" || token === "]") depth -= 1;
    if (depth === 1 && token === wanted && (before === "{" || before === ",")) start = text.indexOf(":", index + token.length) + 1;
    before = token;
  }
  return undefined;
}

function isSpace(token) {
  const code = token.charCodeAt(0);
  return code === 32 || (code >= 9 && code <= 13);
}

function trimmed(text, from, to) {
  let [start, end] = [from, to];
  while (isSpace(text[start])) start += 1;
  while (isSpace(text[end - 1])) end -= 1;
  return [start, end];
}

/** Returns the text indented by two spaces for each level, or null if it is not JSON. Only white space is changed. */
export function pretty(text) {
  const parts = [];
  const open = [];
  let before = "";
  for (const [token] of text.matchAll(TOKEN)) {
    if (isSpace(token)) continue;
    if (!/^["{}[\],:\-\dtfn]/.test(token) || (token[0] === "t" && token !== "true")) return null;
    const closes = token === "}" || token === "]";
    if (closes && open.pop() !== (token === "}" ? "{" : "[")) return null;
    if (before && needsLine(before, token)) parts.push("\n", "  ".repeat(open.length));
    if (before === ":") parts.push(" ");
    parts.push(token);
    if (token === "{" || token === "[") open.push(token);
    before = token;
  }
  return open.length || !isJson(text) ? null : parts.join("");
}

function needsLine(before, token) {
  const isEmpty = (before === "{" && token === "}") || (before === "[" && token === "]");
  return !isEmpty && (before === "{" || before === "[" || before === "," || token === "}" || token === "]");
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Splits an indented text (see `pretty`) at the objects and lists that are nested deeper than `levels`: {text} is to be
 * shown, {folded, count} is what is inside of one, moved to the left, and how many lines that is.
 */
export function fold(text, levels) {
  const inside = " ".repeat(2 * (levels + 1));
  const groups = [];
  for (const line of text.split("\n")) {
    const isDeep = line.startsWith(inside);
    if (groups.at(-1)?.isDeep !== isDeep) groups.push({ isDeep, lines: [] });
    groups.at(-1).lines.push(line);
  }
  return groups.map(({ isDeep, lines }, index) => {
    if (isDeep) return { folded: lines.map((line) => line.slice(inside.length)).join("\n"), count: lines.length };
    return { text: `${index ? "\n" : ""}${lines.join("\n")}${index < groups.length - 1 ? `\n${inside}` : ""}` };
  });
}

// Control characters, and those that turn the direction of a text or have no width: shown by their number.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** Returns a text with its hidden characters as `\u202e`, so that a reader sees what is there. */
export function visible(text) {
  return text.replace(HIDDEN, (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);
}
