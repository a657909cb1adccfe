// The keys of the page. They can be turned off (WCAG 2.1.4), and none works while a field has the focus.
//
// A view takes a key by `key(event)`. What it leaves is looked for among its elements: rows are `[data-id]` with a link
// inside, buttons have `data-act` (retry, test, copy-id), and a menu of things to copy is `.menu`.

import { queryOf } from "../data/route.js";
import { addSheet } from "../shared/look.js";

const SEQUENCE_MILLISECONDS = 1500; // from g to the letter of a page
const AGAIN_MILLISECONDS = 1000; // the same act twice within that is meant once
const STORED = "webhook-grpc keys";
const PAGES = { l: "/", w: "/webhooks", d: "/deliveries", a: "/attempts", e: "/events", r: "/replays", t: "/event-types", u: "/audit" };
const ACTS = { r: '[data-act="retry"]', t: '[data-act="test"]', c: '[data-act="copy-id"]', y: ".menu > summary" };

/** Takes the keys of a page whose elements are in `root`. */
export class Keys {
  /** `page` and `view` return what is shown now; `toggleZone` and `leave` do what their keys say. */
  constructor({ root, page, view, toggleZone, leave }) {
    Object.assign(this, { _root: root, _page: page, _view: view, _toggleZone: toggleZone, _leave: leave });
    this._gAt = -Infinity;
    this._actAt = new Map(); // when a key last acted
  }

  /** Whether the keys are on; kept in the browser. */
  get areOn() {
    return localStorage.getItem(STORED) !== "off";
  }

  set areOn(value) {
    localStorage.setItem(STORED, value ? "on" : "off");
  }

  /** Takes a key that was pressed, if it means something here. */
  take(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || this._isElsewhere(event)) return;
    if (event.key === "Escape") return this._escape(event);
    if (this.areOn && this._does(event)) event.preventDefault();
  }

  /** Shows which keys there are. */
  async help() {
    const { HELP_SHEET, helpNode } = await import("./help.js");
    if (this._root.querySelector("dialog[open]")) return;
    addSheet(this._root, HELP_SHEET);
    const dialog = helpNode(this._page().words, this);
    this._root.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  }

  /** Whether the key belongs to a field, to a dialog, or to a button that has the focus. */
  _isElsewhere(event) {
    const [target] = event.composedPath();
    if (this._root.querySelector("dialog[open]")) return true;
    if (!target.matches) return false;
    if (target.matches("input, select, textarea, [contenteditable]")) return true;
    return (event.key === " " || event.key === "Enter") && target.matches("button, a, summary");
  }

  _escape(event) {
    if (this._view()?.key?.(event)) event.preventDefault();
    else this._leave();
  }

  _does(event) {
    if (performance.now() - this._gAt < SEQUENCE_MILLISECONDS) return this._goes(event.key);
    const own = { g: () => this._begins(), "?": () => this.help(), "/": () => this._searches(), u: () => this._toggleZone() }[event.key];
    if (own) return own() ?? true;
    return Boolean(this._view()?.key?.(event)) || this._inRows(event) || this._acts(event);
  }

  _begins() {
    this._gAt = performance.now();
  }

  _goes(key) {
    this._gAt = -Infinity;
    if (!(key in PAGES)) return false;
    const { go, customerId } = this._page();
    go(PAGES[key] + queryOf({ customer_id: customerId }));
    return true;
  }

  _searches() {
    const find = () => this._root.getElementById("search");
    if (!find()) this._page().go("/");
    find()?.focus();
  }

  /** Goes from row to row of a list whose rows are all there; opens one. */
  _inRows(event) {
    const rows = [...this._root.querySelectorAll("[data-id]")];
    const at = rows.findIndex((row) => row.matches(":focus-within"));
    const step = { j: 1, ArrowDown: at < 0 ? 0 : 1, k: -1, ArrowUp: at < 0 ? 0 : -1 }[event.key];
    if (step) return focusRow(rows[Math.max(0, Math.min(rows.length - 1, at + step))]);
    const link = rows[at]?.querySelector("a[href]");
    if (event.key === "o" && link) return openElsewhere(link.getAttribute("href"));
    return event.key === "Enter" && link ? (this._page().go(link.getAttribute("href")), true) : false;
  }

  /** Presses the button of an act; once, however quickly the key comes again. */
  _acts(event) {
    const selector = ACTS[event.key];
    const button = selector && (this._root.querySelector(`:focus-within > ${selector}`) ?? this._root.querySelector(selector));
    if (!button) return false;
    const now = performance.now();
    const isAgain = event.repeat || now - (this._actAt.get(event.key) ?? -Infinity) < AGAIN_MILLISECONDS;
    this._actAt.set(event.key, now);
    if (!isAgain && button.disabled) this._page().toast(button.title);
    else if (!isAgain) button.click();
    return true;
  }
}

function focusRow(row) {
  const target = row?.matches("[tabindex]") ? row : row?.querySelector("a[href]");
  target?.focus();
  return Boolean(target);
}

/** Opens an address of the page in a new tab, which gets the token from this one. */
function openElsewhere(path) {
  window.open(path, "_blank", "noopener");
  return true;
}

/** The keys and what they do, in the order of the help. */
export const KEY_NAMES = [
  ["?", "Keyboard shortcuts"],
  ["/", "Search"],
  ["g l", "Live"],
  ["g w", "Webhooks"],
  ["g d", "Deliveries"],
  ["g a", "Attempts"],
  ["g e", "Events"],
  ["g r", "Replays"],
  ["g t", "Event types"],
  ["g u", "Audit"],
  ["j k ↑ ↓", "Next row, row before"],
  ["Enter", "Open"],
  ["o", "Open in a new tab"],
  ["→ ←", "Show and hide the attempts of a row"],
  ["[ ]", "Attempt before, next attempt"],
  ["Space", "Hold the list, go on"],
  [".", "Newest on top"],
  ["p", "Problems only"],
  ["x", "Select"],
  ["r", "Retry"],
  ["t", "Test"],
  ["c", "Copy the id"],
  ["y", "Copy menu"],
  ["u", "Local time or UTC"],
  ["Esc", "Close, or clear the selection"],
];
