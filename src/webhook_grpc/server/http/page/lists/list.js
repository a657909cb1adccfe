// A list of the history: rows of a page, then the next ones as the reader comes near the end. Each row is a link.

import { Listing } from "../data/listing.js";
import { footNodes } from "./list-foot.js";
import { element } from "../shared/look.js";

const GREY_ROWS = 10;
const GREY_MILLISECONDS = 150;
const NEAR_PIXELS = 400; // of the end of what is there
const CLOCK_MILLISECONDS = 1000;

/**
 * The list of a view. `node` is the element. A column is data: `word`, `width` (of a CSS grid), `cell(row)`, which returns
 * nodes or text, and `isSpare`: left out where the page is narrow. The cell of the first column is in the row's link.
 */
export class List {
  /**
   * `hrefOf(row)` is where a row leads, empty if nowhere, `read(filter)` returns what reads a page (see Listing), `foot` is what the end of
   * the list needs: {fields, isTimed, clear(), widen(milliseconds)}. `selection` is a Selection, if rows can be chosen.
   */
  constructor(page, { label, columns, hrefOf, read, foot, selection }) {
    Object.assign(this, { _page: page, _columns: columns, _hrefOf: hrefOf, _read: read, _footOf: foot, _selection: selection });
    this._listing = new Listing({ changed: () => this._show() });
    this._body = element("div", { role: "rowgroup", className: "rows" });
    this._grid = element("div", { className: "list", role: "grid", "aria-label": label, "aria-rowcount": "-1" }, this._head(), this._body);
    this._grid.style.setProperty("--columns", [...(selection ? ["var(--box, 24px)"] : []), ...columns.map(({ width }) => width)].join(" "));
    this._foot = element("div", { className: "foot", role: "status", tabIndex: -1 });
    this.node = element("section", {}, this._grid, this._foot);
    this._near = new IntersectionObserver((seen) => this._isNear(seen.at(-1).isIntersecting), { rootMargin: `${NEAR_PIXELS}px` });
    this._clock = setInterval(() => document.hidden || this._tick(), CLOCK_MILLISECONDS);
    this._body.addEventListener("focusin", (event) => this._roam(event.target.closest(".row")));
  }

  get rows() {
    return this._listing.rows;
  }

  /** The row that has the focus, or undefined. */
  get current() {
    const focused = this._body.querySelector(".row:focus-within");
    return focused ? this.rows[[...this._body.children].indexOf(focused)] : undefined;
  }

  /** Shows what a filter says. The rows that are there stay until the first ones come. */
  restart(filter) {
    this._filter = filter;
    this._selection?.clear();
    clearTimeout(this._greying);
    this._greying = setTimeout(() => this._grey(), GREY_MILLISECONDS);
    this._listing.restart(this._read(filter));
  }

  /** Reads again what could not be read, as after a new token; else the list from its start. */
  again() {
    if (this._listing.state === "problem") this._listing.more();
    else this.restart(this._filter);
  }

  stop() {
    this._listing.stop();
    this._near.disconnect();
    clearInterval(this._clock);
    clearTimeout(this._greying);
  }

  /** Writes the row again that `isWanted`, if it is there: `change(row)` returns what takes its place. */
  replace(isWanted, change) {
    const at = this.rows.findIndex(isWanted);
    if (at < 0) return;
    this.rows[at] = change(this.rows[at]);
    const before = this._body.children[at];
    const isFocused = before.matches(":focus-within");
    const node = this._row(this.rows[at], at, before.querySelector(".open").tabIndex);
    before.replaceWith(node);
    if (before === this._current) this._current = node;
    if (isFocused) this._focus(node);
  }

  /** Takes a key: j, k and arrows go from row to row, o opens one in a new tab, x selects one, Escape selects none. */
  key({ key }) {
    if (key === "Escape" && this._selection?.rows.size) return this._selection.clear() ?? true;
    const row = this._body.querySelector(".row:focus-within");
    if (key === "j" || (row && key === "ArrowDown")) return this._focus(row ? row.nextElementSibling : this._body.firstElementChild);
    if (key === "k" || (row && key === "ArrowUp")) return this._focus(row?.previousElementSibling);
    if (key === "o" && row) return openElsewhere(row.querySelector("a.open"));
    if (key === "x" && row && this._selection) return row.querySelector(".select input").click() ?? true;
    return false;
  }

  _focus(row) {
    row?.querySelector(".open")?.focus();
    return Boolean(row);
  }

  /** Makes one row the one that Tab leads to. */
  _roam(row) {
    if (!row || row === this._current) return;
    for (const [one, index] of [[this._current, -1], [row, 0]]) {
      for (const node of one?.querySelectorAll(".open, input") ?? []) node.tabIndex = index;
    }
    this._current = row;
  }

  // --- what is seen -------------------------------------------------------------------------------------------------

  _head() {
    const { words } = this._page;
    const names = this._columns.map(({ word }) => element("div", { role: "columnheader" }, words(word)));
    const all = this._selection ? [element("div", { role: "columnheader", className: "select" }, this._selection.allNode(() => this.rows))] : [];
    return element("div", { className: "head", role: "row", "aria-rowindex": "1" }, ...all, ...names);
  }

  _row(row, at, tabIndex) {
    const cells = this._columns.map(({ cell, isSpare }, column) => {
      const said = [cell(row)].flat();
      const inside = column ? said : [openNode(this._hrefOf(row), tabIndex, said)];
      return element("div", { role: "gridcell", className: isSpare ? "spare" : "" }, ...inside);
    });
    const box = this._selection ? [element("div", { role: "gridcell", className: "select" }, this._selection.boxNode(row, tabIndex))] : [];
    return element("div", { className: "row", role: "row", "aria-rowindex": String(at + 2) }, ...box, ...cells);
  }

  _grey() {
    if (this._listing.state !== "loading" || this._body.childElementCount) return;
    const cells = () => this._columns.map(() => element("div", {}));
    this._body.replaceChildren(...Array.from({ length: GREY_ROWS }, () => element("div", { className: "row grey", "aria-hidden": "true" }, ...cells())));
  }

  _show() {
    const { state, rows, round, isStale, problem } = this._listing;
    if (problem?.status === 401) this._page.refused(problem);
    if (round !== this._round || !rows.length) this._body.replaceChildren();
    this._round = round;
    const count = this._body.childElementCount;
    this._body.append(...rows.slice(count).map((row, index) => this._row(row, count + index, count + index ? -1 : 0)));
    this._grid.classList.toggle("stale", isStale && rows.length > 0);
    this._grid.setAttribute("aria-busy", String(state === "loading"));
    this._grid.setAttribute("aria-rowcount", String(state === "ended" ? rows.length + 1 : -1));
    this._showFoot();
    this._near.disconnect();
    if (state === "more") this._near.observe(this._foot);
  }

  /** Writes the foot; the focus of a button that is replaced stays in the foot. */
  _showFoot() {
    const isFocused = this._foot.matches(":focus-within");
    this._foot.replaceChildren(...footNodes(this._page, this._listing, this._filter, this._footOf));
    if (isFocused) (this._foot.querySelector("button") ?? this._foot).focus();
  }

  _isNear(isSeen) {
    if (isSeen && this._listing.state === "more") this._listing.more();
  }

  _tick() {
    for (const node of this._body.querySelectorAll("time")) node.tick?.();
  }
}

/** Returns what the first cell of a row is: a link, or what has the focus of a row that leads nowhere. */
function openNode(href, tabIndex, said) {
  const leads = href ? { href } : { role: "link", "aria-disabled": "true" };
  return element(href ? "a" : "span", { className: "open state", tabIndex, ...leads }, ...said);
}

function openElsewhere(link) {
  if (link) window.open(link.href, "_blank", "noopener");
  return true;
}
