// How the page looks: the tokens of colour and size, and what all components share. Only states have colour.

const TOKENS = `
:host {
  --bg: #ffffff; --surface: #f6f7f9; --line: #868e99; --ink: #14181f; --muted: #555f6e; --accent: #1f5fd6;
  --ok: #0a6b43; --wait: #7d5200; --bad: #b4231f; --off: #5b6472;
  color-scheme: light;
}
:host([theme="dark"]) {
  --bg: #0f1318; --surface: #181d24; --line: #6b7686; --ink: #e8ebf0; --muted: #a3adbb; --accent: #7fb0ff;
  --ok: #4cc38a; --wait: #e2b04a; --bad: #ff8079; --off: #9aa5b4;
  color-scheme: dark;
}
@media (prefers-color-scheme: dark) {
  :host(:not([theme="light"])) {
    --bg: #0f1318; --surface: #181d24; --line: #6b7686; --ink: #e8ebf0; --muted: #a3adbb; --accent: #7fb0ff;
    --ok: #4cc38a; --wait: #e2b04a; --bad: #ff8079; --off: #9aa5b4;
    color-scheme: dark;
  }
}
`;

const SHARED = `
:host {
  display: block; background: var(--bg); color: var(--ink);
  font: 14px/1.45 ui-sans-serif, system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
  font-variant-numeric: tabular-nums;
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
svg { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.75; flex: none; }
svg .fill { fill: currentColor; stroke: none; }
svg .cut { stroke: var(--bg); }
code, .code { font-family: ui-monospace, "SF Mono", Consolas, monospace; font-size: 13px; }
.muted { color: var(--muted); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
button, select, input, textarea {
  font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 6px;
  min-height: 28px; padding: 2px 8px;
}
button { cursor: pointer; min-width: 28px; }
summary { min-height: 24px; }
button:disabled { color: var(--muted); border-style: dashed; cursor: not-allowed; }
button.primary:not(:disabled) { background: var(--accent); border-color: var(--accent); color: var(--bg); }
@media (pointer: coarse) { button, select, textarea, input:not([type="checkbox"], [type="radio"]), summary { min-height: 44px; } button { min-width: 44px; } }
@media (forced-colors: active) { svg { color: CanvasText; } }
`;

/** Returns the style sheets of a component: the shared ones, and its own. */
export function sheets(own) {
  return [TOKENS, SHARED, own].map(sheetOf);
}

/** Returns a style sheet of this text. */
export function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

/** Returns an element with these properties and children. Whatever they say is text. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role" || key === "part" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Adds a style sheet to a root that does not have it yet. */
export function addSheet(root, sheet) {
  if (!root.adoptedStyleSheets.includes(sheet)) root.adoptedStyleSheets.push(sheet);
}

/** Copies a text and says so, or says that the browser refused. */
export async function copyText({ toast, words }, text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(words("Copied"));
  } catch {
    toast(words("The browser does not let this page copy."));
  }
}
