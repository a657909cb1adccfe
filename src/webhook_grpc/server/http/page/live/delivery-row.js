// The row of one delivery. Its elements are made once; a change writes only what has changed.

import { outcomeText } from "../data/explain.js";
import { COLOURS, STATUSES, shapesOf } from "../data/store.js";
import { countdown, heldText, iso, milliseconds, relative, seconds, span } from "../data/time.js";
import { icon } from "../shared/icons.js";
import { element } from "../shared/look.js";

export const ROW_PIXELS = 36;
export const TOUCH_PIXELS = 44;
export const CARD_PIXELS = 64;
export const COLUMNS = ["Status", "Attempts", "Event type", "Webhook", "Answer", "Latency", "Next", "Customer"];
const TINT_MILLISECONDS = 600;
const DUE_MILLISECONDS = 2000; // what is due for longer than that may wait for something

export const ROW_LOOK = `
.head, .row { display: grid; grid-template-columns: 112px 136px 1.4fr 1fr 1.3fr 80px 128px; align-items: center; gap: 0 12px; padding: 0 12px; }
.row { height: var(--row); white-space: nowrap; cursor: pointer; }
.row > * { overflow: hidden; text-overflow: ellipsis; }
.row:hover, .row[aria-selected="true"] { background: var(--surface); }
.row.new { animation: tint ${TINT_MILLISECONDS}ms; }
@keyframes tint { from { background: var(--surface); } to { background: var(--surface); } }
.row[aria-selected="true"] { box-shadow: inset 3px 0 var(--accent); }
.row:focus-visible { outline-offset: -2px; }
.row a { color: inherit; text-decoration: none; }
.row a[href]::after { content: ""; position: absolute; inset: 0; }
.row.divider { cursor: default; font-size: 12px; color: var(--muted); border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.row.divider > :first-child { grid-column: 1 / -1; white-space: normal; max-height: 100%; }
.row.divider > :not(:first-child) { display: none; }
.state { display: flex; gap: 6px; align-items: center; }
.ok { color: var(--ok); } .wait { color: var(--wait); } .bad { color: var(--bad); } .off { color: var(--off); }
.trail { display: flex; align-items: center; gap: 1px; color: var(--muted); }
.trail svg { width: 12px; height: 12px; }
:host(.of-all) :is(.head, .row) { grid-template-columns: 112px 136px 1.4fr 1fr 1.3fr 80px 128px 72px; }
:host(:not(.of-all)) :is(.head, .row) > :nth-child(8) { display: none; }
:host(.narrow) .row { grid-template-columns: fit-content(50%) minmax(0, 1fr) auto auto; grid-template-rows: 1fr 1fr; padding: 4px 12px; border-bottom: 1px solid var(--line); }
:host(.narrow) .row:not(.divider) > :is(:nth-child(2), :nth-child(6), :nth-child(8)) { display: none; }
:host(.narrow) .row > :nth-child(3) { grid-column: 2 / -1; justify-self: end; max-width: 100%; }
:host(.narrow) .row:not(.divider) > :is(:nth-child(4), :nth-child(5), :nth-child(7)) { grid-row: 2; font-size: 12px; }
:host(.narrow) .row > :nth-child(4) { grid-column: 1 / 3; }
:host(.narrow) .row > :nth-child(5) { grid-column: 3; }
:host(.narrow) .row > :nth-child(7) { grid-column: 4; }
:host(.narrow) .row.divider { display: flex; }
`;

/** A row of the list; see VirtualList. */
export class DeliveryRow {
  /**
   * `list` says what is to be shown: rowAt(place), nameOf(row), hrefOf(row), isSelected(id), isOpen(id), now(), and
   * `words` and `options` of the reader.
   */
  constructor(list) {
    this._list = list;
    this.node = element("div", { className: "row", role: "row", part: "row", tabIndex: -1 });
    this._word = new Text();
    this._link = element("a", { tabIndex: -1 });
    this._name = new Text();
    this._answer = new Text();
    this._latency = new Text();
    this._time = element("time", {});
    this._customer = new Text();
    const cell = (...children) => element("div", { role: "gridcell" }, ...children);
    this._state = cell(this._word);
    this._trail = cell();
    this._trail.className = "trail";
    this.node.append(this._state, this._trail, cell(element("code", {}, this._link)), cell(this._name), cell(this._answer), cell(this._latency), cell(this._time), cell(this._customer));
  }

  get id() {
    return this._row?.delivery_id;
  }

  /** Shows what stands at a place of the list. */
  show(place) {
    const row = this._list.rowAt(place);
    if (row !== this._row) this._write(row);
    else this._writeName(row);
    this.tick();
  }

  /** Writes what is said relative to now. */
  tick() {
    const row = this._row;
    this._flags(row);
    if (row.divider) return;
    const { words, options } = this._list;
    const now = this._list.now();
    const text = this._isNext ? this._nextText(now) : relative(Math.min(this._at, now), now, words, options);
    if (this._time.textContent !== text) this._time.textContent = text;
  }

  /** Returns when the next attempt comes; of what has been due for a moment, whether its webhook is held. */
  _nextText(now) {
    const { words, options } = this._list;
    const wait = now - this._at > DUE_MILLISECONDS ? this._list.waitOf(this._row) : null;
    return wait ? heldText(wait, now, words) : countdown(this._at, now, words, options);
  }

  _flags(row) {
    const isNew = this._list.isTinting && this._list.now() - row.since < TINT_MILLISECONDS;
    const className = `row${row.divider ? " divider" : ""}${isNew ? " new" : ""}`;
    if (this.node.className !== className) this.node.className = className;
    setAttribute(this.node, "aria-selected", String(this._list.isSelected(row.delivery_id)));
    setAttribute(this.node, "aria-expanded", String(this._list.isOpen(row.delivery_id)));
  }

  _write(row) {
    const before = this._row;
    this._row = row;
    if (row.divider) return this._writeDivider(row);
    const { words } = this._list;
    if (before?.delivery_id !== row.delivery_id) this._writeWhat(row);
    if (this._status !== row.status) this._writeStatus(row.status);
    this._writeTrail(row);
    this._writeName(row);
    set(this._answer, answerOf(row.last_attempt, words));
    set(this._latency, row.last_attempt ? span(seconds(row.last_attempt.latency)) : "–");
    this._isNext = row.status === "pending" && Boolean(row.next_attempt_time);
    this._at = milliseconds(this._isNext ? row.next_attempt_time : row.update_time);
    this._time.dateTime = this._time.title = iso(this._at);
  }

  _writeWhat(row) {
    this._link.textContent = row.event_type;
    set(this._customer, String(row.customer_id));
    const href = this._list.hrefOf(row);
    if (href) this._link.href = href;
  }

  _writeName(row) {
    if (!row.divider) set(this._name, `${this._list.nameOf(row)} #${row.webhook_id}`);
  }

  _writeStatus(status) {
    this._status = status;
    this._state.className = `state ${COLOURS[status] ?? "off"}`;
    set(this._word, STATUSES[status] ? this._list.words(STATUSES[status]) : status);
    this._state.replaceChildren(icon(status), this._word);
  }

  _writeTrail(row) {
    const { shapes, count } = shapesOf(row);
    const key = `${shapes} ${count}`;
    if (key === this._trailKey) return;
    this._trailKey = key;
    this._trail.replaceChildren(...shapes.map(icon), ...(count > shapes.length ? [`×${count}`] : []));
    this._trail.setAttribute("aria-label", count === 1 ? this._list.words("1 attempt") : this._list.words("{n} attempts", { n: count }));
  }

  _writeDivider(row) {
    this._status = undefined;
    this._state.className = "state";
    set(this._word, row.divider);
    this._state.replaceChildren(this._word);
  }
}

function answerOf(attempt, words) {
  if (!attempt?.outcome) return "–";
  const isAnswered = attempt.outcome === "succeeded" || attempt.outcome === "http_error";
  return isAnswered ? String(attempt.response_status) : outcomeText(attempt, words);
}

function set(text, value) {
  if (text.data !== value) text.data = value;
}

function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
