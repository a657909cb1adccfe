// A long list of which only the rows that are seen, and a few more, are elements. A node belongs to a place in the list,
// so the order of the nodes is the order of the rows, and a node is moved by nothing but a scroll.

import { element } from "../shared/look.js";

export const NODES_MAX = 60; // as long as the window shows fewer rows
const SPARE_MAX = 6; // rows above and below what is seen

export const LIST_LOOK = `
.window { position: relative; overflow-y: auto; flex: 1; min-height: 0; overflow-anchor: none; }
.row { position: absolute; left: 0; right: 0; contain: strict; }
`;

/** Shows rows of the same height. It reads no layout while it paints: sizes come from observers, the place from scrolls. */
export class VirtualList {
  /**
   * `make()` returns a row: {node, show(place)}. `scrolled()` is called when other rows are seen, or when the window has
   * another size.
   */
  constructor({ make, scrolled }) {
    Object.assign(this, { _make: make, _scrolled: scrolled });
    this.count = 0; // of rows; written by paint
    this.top = 0; // how far it is scrolled, in pixels
    this.current = 0; // the place of the row that the Tab key comes to
    this._height = 0; // of the window
    this._byPlace = new Map();
    this._spare = [];
    this._rows = element("div", { role: "presentation" });
    this.node = element("div", { className: "window", role: "rowgroup" }, this._rows);
    this.node.addEventListener("scroll", () => this._isScrolled());
    this._rows.addEventListener("focusin", (event) => this._focused(event.target.closest(".row")));
    this._resized = new ResizeObserver(([{ contentRect }]) => this._isSized(contentRect.height));
  }

  /** Begins to observe the size of the window. */
  connect() {
    this._resized.observe(this.node);
  }

  disconnect() {
    this._resized.disconnect();
  }

  /** The rows that are elements now. */
  get shown() {
    return [...this._byPlace.values()];
  }

  /** The first place that is below what is seen. */
  get end() {
    return this._range().end;
  }

  /** The place of the row that has the focus, or -1. */
  get focusedPlace() {
    return this.hasFocus ? this.current : -1;
  }

  get hasFocus() {
    return this._rows.matches(":focus-within");
  }

  /** Forgets all nodes: they are made again, in another language, say. */
  clear() {
    for (const { node } of this.shown) node.remove();
    this._byPlace.clear();
    this._spare = [];
  }

  toTop() {
    if (this.top) this.node.scrollTop = this.top = 0;
  }

  /** Shows `count` rows, each `height` pixels high. The row with the focus stays an element wherever it is. */
  paint(count, height) {
    this.count = count;
    this._rowHeight = height;
    setStyle(this._rows, "height", `${count * height}px`);
    this.current = Math.max(0, Math.min(this.current, count - 1));
    const { first, last } = this._range();
    const wanted = this._placesOf(first, last);
    this._free(new Set(wanted));
    let next = null;
    for (const place of wanted.reverse()) next = this._show(place, next).node;
  }

  /** Puts the focus on the row of a place, and scrolls so that it is seen. Returns whether there is such a row. */
  focus(place) {
    if (place < 0 || place >= this.count) return false;
    const from = place * this._rowHeight;
    const beyond = from + this._rowHeight - this._height;
    const top = from < this.top ? from : Math.max(this.top, beyond);
    if (top !== this.top) this.node.scrollTop = this.top = top;
    this.current = place;
    this.paint(this.count, this._rowHeight);
    this._byPlace.get(place).node.focus({ preventScroll: true });
    return true;
  }

  /** How many rows are seen at once. */
  get pageRows() {
    return Math.max(1, Math.floor(this._height / this._rowHeight) - 1);
  }

  _range() {
    const seen = Math.ceil((this._height || 600) / this._rowHeight) + 1;
    const spare = Math.max(1, Math.min(SPARE_MAX, Math.floor((NODES_MAX - 1 - seen) / 2)));
    const at = Math.floor(this.top / this._rowHeight);
    const end = Math.min(this.count, at + seen);
    return { first: Math.max(0, at - spare), last: Math.min(this.count, end + spare), end };
  }

  _placesOf(first, last) {
    const places = Array.from({ length: Math.max(0, last - first) }, (_, index) => first + index);
    const focused = this.focusedPlace;
    if (focused >= 0 && focused < first) places.unshift(focused);
    if (focused >= last && focused < this.count) places.push(focused);
    return places;
  }

  _free(wanted) {
    for (const [place, row] of this._byPlace) {
      if (wanted.has(place)) continue;
      row.node.remove();
      this._byPlace.delete(place);
      if (this._spare.length < NODES_MAX) this._spare.push(row);
    }
  }

  _show(place, next) {
    let row = this._byPlace.get(place);
    if (!row) {
      row = this._spare.pop() ?? this._make();
      row.place = place;
      this._byPlace.set(place, row);
      this._rows.insertBefore(row.node, next);
      row.node.setAttribute("aria-rowindex", String(place + 2)); // the heads are the first row
    }
    setStyle(row.node, "transform", `translateY(${place * this._rowHeight}px)`);
    row.node.tabIndex = place === this.current ? 0 : -1;
    row.show(place);
    return row;
  }

  _focused(node) {
    const row = this.shown.find((one) => one.node === node);
    if (!row) return;
    const before = this._byPlace.get(this.current);
    if (before) before.node.tabIndex = -1;
    this.current = row.place;
    node.tabIndex = 0;
  }

  _isScrolled() {
    this.top = this.node.scrollTop;
    this._scrolled();
  }

  _isSized(height) {
    this._height = height;
    this._scrolled();
  }
}

/** Sets a style only if it is another one: the browser does not compare. */
function setStyle(node, name, value) {
  if (node.style[name] !== value) node.style[name] = value;
}
