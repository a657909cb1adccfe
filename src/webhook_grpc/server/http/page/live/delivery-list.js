// What is seen of the live list: its heads, its rows, the pill and the bar.

import { Announcer, Hold, barOf } from "../data/live.js";
import { visible } from "../data/json-text.js";
import { CARD_PIXELS, COLUMNS, DeliveryRow, ROW_LOOK, ROW_PIXELS, TOUCH_PIXELS } from "./delivery-row.js";
import { element, sheets } from "../shared/look.js";
import { LIST_LOOK, VirtualList } from "./virtual-list.js";

const NARROW_PIXELS = 720;
const PAINT_MILLISECONDS = 100;
const NAMES_MAX = 2000;
const GREY_ROWS = 10;
const RESUMED_MILLISECONDS = 3000;

const LOOK = `
:host { display: flex; flex-direction: column; min-height: 240px; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; --row: ${ROW_PIXELS}px; }
:host(.touch) { --row: ${TOUCH_PIXELS}px; }
:host(.narrow) { --row: ${CARD_PIXELS}px; }
.grid { position: relative; display: flex; flex-direction: column; flex: 1; min-height: 0; }
.head { background: var(--surface); height: 32px; font-size: 12px; color: var(--muted); border-bottom: 1px solid var(--line); }
:host(.narrow) .head { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); padding: 0; }
.body { position: relative; display: flex; flex-direction: column; flex: 1; min-height: 0; }
.pill { position: absolute; top: 2px; left: 50%; transform: translateX(-50%); z-index: 1; border-radius: 16px; padding: 2px 14px; white-space: nowrap; }
:host(.narrow) .pill { top: auto; bottom: 8px; }
.note { position: absolute; top: 32px; padding: 12px; color: var(--muted); }
.bar { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; padding: 4px 12px; background: var(--surface); border-bottom: 1px solid var(--line); color: var(--wait); }
.bar.good { color: var(--ok); animation: fade 0.4s 2.6s both; }
.bar.bad { color: var(--bad); }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.grey { position: absolute; inset: 32px 0 auto; animation: appear 0s 150ms both; }
.grey div { height: var(--row); border-bottom: 8px solid var(--bg); border-top: 8px solid var(--bg); background: var(--surface); }
:host(.refused) .window, :host(.refused) .head { filter: grayscale(1); }
:host(.refused) .row { color: var(--muted); }
@keyframes fade { to { opacity: 0; } }
@keyframes appear { from { visibility: hidden; } }
@media (prefers-reduced-motion: reduce) { .bar.good { animation: none; } }
`;

// What of the list is a reason to hold it: [event, reason, whether it is one].
const HOLDS = [
  ["pointerenter", "pointer", true],
  ["pointerleave", "pointer", false],
  ["focusin", "focus", true],
  ["focusout", "focus", false],
];

/**
 * The part of <webhook-deliveries> that a reader sees. The element writes `store`, `_source` (a LiveSource), `_api`,
 * `_words` and `_options` before anything is painted, and takes clicks and keys: `_clicked` and `_rowKey`.
 */
export class DeliveryList extends HTMLElement {
  selected = new Set(); // ids, in the order in which they were chosen

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = sheets(LIST_LOOK + ROW_LOOK + LOOK);
    this._names = new Map();
    this._opened = null; // the delivery whose attempts are shown below the list
    this._announcer = new Announcer();
    this._hold = new Hold({ held: () => this.store.freeze(), released: () => this._released() });
    this._list = new VirtualList({ make: () => new DeliveryRow(this._rowContext()), scrolled: () => this._scrolled() });
    this._resized = new ResizeObserver(() => this._measure());
    this._build();
  }

  /** Whether the reader holds the list still. */
  get paused() {
    return this._hold.has("reader");
  }

  set paused(value) {
    this._hold.set("reader", value);
    this._send("pause-change", { paused: value });
  }

  /** Lets the list go on, with what has waited on top. A reader who holds it sees that, and holds it there. */
  release() {
    this._list.toTop();
    this._hold.set("scroll", false);
    this.store.release();
    if (this._hold.isHeld) this.store.freeze();
    this._paint();
    if (this._list.hasFocus) this._list.focus(0);
  }

  _connect() {
    this._resized.observe(this);
    this._list.connect();
  }

  _disconnect() {
    this._resized.disconnect();
    this._list.disconnect();
    this._hold.stop();
  }

  _send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  // --- where the stream stands --------------------------------------------------------------------------------------

  /** Says where the stream stands: in the bar, and once to those who do not see it. */
  _showState() {
    const { text, colour, mayRetry } = barOf(this._source, this.now(), this._words);
    const isOver = colour === "good" && performance.now() - this._stateAt > RESUMED_MILLISECONDS;
    this._bar.hidden = !text || isOver;
    this._bar.className = `bar ${colour}`;
    this._barText.textContent = visible(text);
    this._retry.hidden = !mayRetry;
    this.classList.toggle("refused", this._source.state.name === "refused");
    this._grey.hidden = this._source.isLoaded || this.store.size > 0 || this._source.state.name === "refused";
    const key = `${colour}${mayRetry}`;
    if (text && key !== this._saidKey) this._say(visible(text));
    this._saidKey = key;
  }

  /** Says a sentence to those who do not see the list. Returns it. */
  _say(text) {
    this._said.textContent = text;
    return text;
  }

  // --- what is seen -------------------------------------------------------------------------------------------------

  _build() {
    this._head = element("div", { className: "head", role: "row", part: "head", "aria-rowindex": "1" });
    this._pill = element("button", { className: "pill primary", hidden: true, part: "pill" });
    this._barText = element("span", {});
    this._retry = element("button", { hidden: true });
    this._bar = element("div", { className: "bar", hidden: true }, this._barText, this._retry);
    this._said = element("div", { className: "said", role: "status" });
    this._note = element("div", { className: "note", hidden: true });
    this._grey = element("div", { className: "grey", "aria-hidden": "true", hidden: true }, ...Array.from({ length: GREY_ROWS }, () => element("div", {})));
    this._grid = element("div", { className: "grid", role: "grid" }, element("div", { role: "rowgroup" }, this._head), this._list.node);
    this._foot = element("div", {});
    this.shadowRoot.replaceChildren(this._bar, element("div", { className: "body" }, this._grey, this._pill, this._grid, this._note), this._foot, this._said);
    this._pill.addEventListener("click", () => this.release());
    this._retry.addEventListener("click", () => this.resume());
    for (const [name, reason, isThere] of HOLDS) this._list.node.addEventListener(name, () => this._hold.set(reason, isThere));
    this._list.node.addEventListener("click", (event) => this._clicked(event));
    this._grid.addEventListener("keydown", (event) => !event.defaultPrevented && this._rowKey(event) && event.preventDefault());
  }

  _label() {
    const words = this._words;
    this._head.replaceChildren(...COLUMNS.map((name) => element("div", { role: "columnheader" }, words(name))));
    this._grid.setAttribute("aria-label", words("Deliveries"));
    this._grid.setAttribute("aria-colcount", String(COLUMNS.length - (this.isOfAll ? 0 : 1))); // the last one is the customer
    this._grid.setAttribute("aria-multiselectable", "true");
    this._retry.textContent = words("Try again");
  }

  /** What a row shows, and how. */
  _rowContext() {
    const list = this;
    return {
      isTinting: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      rowAt: (place) => list.store.get(list.store.ids[place]),
      nameOf: (row) => list._nameOf(row),
      hrefOf: (row) => list.hrefOf(row),
      isSelected: (id) => list.selected.has(id),
      isOpen: (id) => list._opened === id,
      waitOf: (row) => list._waitOf(row),
      now: () => list.now(),
      get words() {
        return list._words;
      },
      get options() {
        return list._options;
      },
    };
  }

  _measure() {
    this._isNarrow = this.clientWidth < NARROW_PIXELS;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    this.classList.toggle("narrow", this._isNarrow);
    this.classList.toggle("touch", isTouch && !this._isNarrow);
    this._rowPixels = this._isNarrow ? CARD_PIXELS : isTouch ? TOUCH_PIXELS : ROW_PIXELS;
    this._paint();
  }

  /** Paints at most once a frame and ten times a second. */
  _schedule() {
    if (this._painting) return;
    this._painting = true;
    const wait = Math.max(0, PAINT_MILLISECONDS - (performance.now() - (this._paintedAt ?? 0)));
    setTimeout(() => requestAnimationFrame(() => this._paint()), wait);
  }

  _scrolled() {
    this._hold.set("scroll", this._list.top > 0);
    if (this._source) this._paint(); // at once: scrolls come once a frame, and a blank would be seen
  }

  _paint() {
    this._painting = false;
    this._paintedAt = performance.now();
    const count = this.store.ids.length;
    this._list.paint(count, this._rowPixels ?? ROW_PIXELS);
    this.store.keep = this._list.end;
    this._grid.setAttribute("aria-rowcount", String(count + 1));
    this._showWaiting();
    this._note.hidden = count > 0 || !this._source.isLoaded;
    this._note.textContent = this._words(this._isFiltered ? "Nothing fits these filters" : "Nothing here yet.");
    this._showState();
    this._send("change", { size: count });
  }

  _showWaiting() {
    const { count, failed } = this.store.waiting;
    const what = count === 1 ? this._words("1 new delivery") : this._words("{n} new deliveries", { n: count });
    const parts = [what, failed && this._words("{n} failed", { n: failed })];
    const text = `▲ ${parts.filter(Boolean).join(" · ")}`;
    this._pill.hidden = count === 0;
    if (count && this._pill.textContent !== text) this._pill.textContent = text;
  }

  /** Each second: what is said relative to now, of the rows that are seen, and what the others are told. */
  _tick() {
    this._checkDialog();
    for (const row of this._list.shown) row.tick();
    this._showState();
    const due = this._announcer.due(performance.now(), this._words);
    if (due) this._say(due);
  }

  _checkDialog() {
    const isOpen = [document, this.getRootNode()].some((root) => root.querySelector("dialog[open]"));
    this._hold.set("dialog", isOpen);
  }

  _released() {
    this.store.release();
    this._schedule();
  }

  /** Returns why the webhook of a row waits (see Holds), or null if it does not, or as long as that is not known. */
  _waitOf(row) {
    if (this._holds) return this._holds.of(row, this.now());
    this._loadingHolds ??= import("../shared/holds.js")
      .then(({ Holds }) => (this._holds = new Holds(this._api)))
      .catch(() => undefined) // the service is away: the next paint tries again
      .finally(() => (this._loadingHolds = undefined));
    return null;
  }

  /** Returns the name of a row's webhook, empty as long as it is not known: rows never wait for names. */
  _nameOf({ webhook_id: id, customer_id: customer }) {
    if (!this._names.has(id)) {
      if (this._names.size >= NAMES_MAX) this._names.clear();
      this._names.set(id, "");
      this._api
        .get(`/api/webhooks/${id}?customer_id=${customer}`)
        .then(({ name }) => (this._names.set(id, visible(name)), this._schedule()))
        .catch(() => undefined); // it is deleted, or may not be read: its number is enough
    }
    return this._names.get(id);
  }
}
