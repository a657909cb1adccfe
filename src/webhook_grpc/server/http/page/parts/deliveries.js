// <webhook-deliveries>: the live list of deliveries. A page of any origin that the service names may embed it.

import { Api, Problem } from "../data/api.js";
import { icon } from "./icons.js";
import { visible } from "../data/json-text.js";
import { element, sheets } from "./look.js";
import { queryOf } from "../data/route.js";
import { outcomeText } from "../data/explain.js";
import { COLOURS, DeliveryStore, STATUSES, isProblem, shapesOf } from "../data/store.js";
import { LiveStream } from "../data/stream.js";
import { countdown, iso, milliseconds, relative, seconds, span } from "../data/time.js";
import { languageOf, wordsOf } from "../data/words.js";

const ROW_PIXELS = 36;
const CARD_PIXELS = 64;
const NARROW_PIXELS = 720;
const SPARE_ROWS = 6; // above and below what is seen
const PAINT_MILLISECONDS = 100;
const CLOCK_MILLISECONDS = 1000;
const LET_GO_MILLISECONDS = 2000;
const TINT_MILLISECONDS = 600;
const LIST_ROWS = 200;
const NAMES_MAX = 2000;
const COLUMNS = ["Status", "Attempts", "Event type", "Webhook", "Answer", "Latency", "Next"];

const LOOK = `
:host { display: flex; flex-direction: column; min-height: 240px; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.head, .row { display: grid; grid-template-columns: 128px 112px 1.4fr 1fr 1.3fr 88px 120px; align-items: center; gap: 0 12px; padding: 0 12px; }
.head { background: var(--surface); height: 32px; font-size: 12px; color: var(--muted); border-bottom: 1px solid var(--line); }
.window { position: relative; overflow-y: auto; flex: 1; overflow-anchor: none; }
.row { position: absolute; left: 0; right: 0; height: 36px; white-space: nowrap; }
.row > * { overflow: hidden; text-overflow: ellipsis; }
.row:hover { background: var(--surface); }
.row.new { background: var(--surface); }
.state { display: flex; gap: 6px; align-items: center; }
.ok { color: var(--ok); } .wait { color: var(--wait); } .bad { color: var(--bad); } .off { color: var(--off); }
.trail { display: flex; align-items: center; gap: 1px; color: var(--muted); }
.trail svg { width: 12px; height: 12px; }
.pill { position: absolute; top: 40px; left: 50%; transform: translateX(-50%); z-index: 1; border-radius: 16px; padding: 4px 14px; }
.body { position: relative; display: flex; flex-direction: column; flex: 1; min-height: 0; }
.note { padding: 12px; color: var(--muted); }
.bar { padding: 4px 12px; background: var(--surface); border-bottom: 1px solid var(--line); color: var(--wait); }
:host(.narrow) .head { display: none; }
:host(.narrow) .row { grid-template-columns: 1fr 1fr; height: 64px; grid-template-rows: 1fr 1fr; padding: 4px 12px; border-bottom: 1px solid var(--line); }
:host(.narrow) .row > :nth-child(2), :host(.narrow) .row > :nth-child(6) { display: none; }
:host(.narrow) .row > :nth-child(7) { grid-row: 2; grid-column: 2; justify-self: end; }
:host(.narrow) .row > :nth-child(4) { display: none; }
:host(.narrow) .row > :nth-child(5) { justify-self: start; }
`;

/** The element. Properties are to be set before it is put into a document, or all at once afterwards. */
export class WebhookDeliveries extends HTMLElement {
  base = "";
  getToken = async () => "";
  customerId = "";
  webhookIds = [];
  eventTypes = [];
  statuses = [];
  eventId = "";
  limit = LIST_ROWS;
  language = languageOf(navigator.languages ?? ["en"]);
  utc = false;
  problems = false;

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = sheets(LOOK);
    this._nodes = new Map();
    this._names = new Map();
    this._offset = 0; // of the server's clock, in milliseconds
    this._byUser = false;
    this._first = 0;
  }

  connectedCallback() {
    this._build();
    this._resized = new ResizeObserver(() => this._measure());
    this._resized.observe(this);
    this._clock = setInterval(() => this._tick(), CLOCK_MILLISECONDS);
    this._hidden = () => this._visibility();
    document.addEventListener("visibilitychange", this._hidden);
    this.start();
  }

  disconnectedCallback() {
    this._resized.disconnect();
    clearInterval(this._clock);
    clearTimeout(this._letGo);
    document.removeEventListener("visibilitychange", this._hidden);
    this.stop();
  }

  /** Whether the reader holds the list still. */
  get paused() {
    return this._byUser;
  }

  set paused(value) {
    this._byUser = value;
    if (value) this._freeze();
    else this._releaseIfFree();
  }

  /** Begins with the properties as they are now. */
  start() {
    this.stop();
    this._words = wordsOf(this.language);
    this.store = new DeliveryStore();
    this._api = new Api({ base: this.base, getToken: this.getToken });
    this._say("");
    this._label();
    const stream = new LiveStream(this._api, this._path("deliveries:watch"), {
      opened: ({ isResumed }) => this._opened(isResumed),
      message: (message) => this._message(message),
      interrupted: (reason) => this._interrupted(reason),
      restarted: () => this._load(),
      refused: (problem) => this._refused(problem),
    });
    this._stream = stream;
    stream.run();
    this._paint();
  }

  stop() {
    this._stream?.stop();
    this._loading?.abort();
  }

  _path(what, more = "") {
    const filter = {
      customer_id: this.customerId,
      webhook_ids: this.webhookIds,
      event_types: this.eventTypes,
      statuses: this.statuses,
      event_id: this.eventId,
    };
    const query = queryOf(filter);
    return `/api/${what}${query}${more && (query ? "&" : "?") + more}`;
  }

  // --- what comes ---------------------------------------------------------------------------------------------------

  _opened(isResumed) {
    this._report("live");
    this._cut = null;
    if (isResumed) this._say(this._words("Nothing was missed"), 3000);
    else this._load();
  }

  async _load() {
    this._loading?.abort();
    this._loading = new AbortController();
    try {
      const page = await this._api.get(this._path("deliveries", `page_size=${this.limit}`), this._loading);
      this.store.load(page.deliveries);
      this._paint();
    } catch (error) {
      if (error.name !== "AbortError") this._say(error instanceof Problem ? error.message : this._words("Try again"));
    }
    this._loaded = true;
  }

  _message(message) {
    const now = milliseconds(message.server_time);
    if (!Number.isNaN(now)) this._offset = now - Date.now();
    for (const delivery of message.deliveries) this.store.change(delivery, this.now());
    if (message.deliveries.length) this._schedule();
  }

  _interrupted(reason) {
    this._cut ??= Date.now();
    this._why = reason === "WATCHER_TOO_SLOW" ? this._words("This page could not keep up") : "";
    this._report("resuming");
    this._tick();
  }

  _refused(problem) {
    this._say(problem.message);
    this._report("refused", problem);
  }

  _report(state, problem) {
    this.dispatchEvent(new CustomEvent("state-change", { detail: { state, problem } }));
  }

  /** The server's time, in milliseconds. */
  now() {
    return Date.now() + this._offset;
  }

  _visibility() {
    clearTimeout(this._leave);
    if (document.hidden) this._leave = setTimeout(() => this._stream.stop(), 60_000);
    else if (this._stream) this._resume();
  }

  _resume() {
    this._stream.stop();
    this._stream.run();
  }

  // --- what is held still -------------------------------------------------------------------------------------------

  _freeze() {
    clearTimeout(this._letGo);
    this.store.freeze();
  }

  _releaseIfFree() {
    clearTimeout(this._letGo);
    this._letGo = setTimeout(() => {
      const isRead = this._byUser || this._window.matches(":hover") || this._window.scrollTop > 0 || this._window.matches(":focus-within");
      if (!isRead) this.release();
    }, LET_GO_MILLISECONDS);
  }

  /** Lets the list go on, with what has waited on top. */
  release() {
    this._byUser = false;
    this._window.scrollTop = 0;
    this.store.release();
    this._schedule();
  }

  // --- what is seen -------------------------------------------------------------------------------------------------

  _build() {
    this._head = element("div", { className: "head", role: "row", part: "head" });
    this._rows = element("div", { role: "rowgroup" });
    this._window = element("div", { className: "window", role: "grid", tabIndex: 0 }, this._rows);
    this._pill = element("button", { className: "pill primary", hidden: true, part: "pill" });
    this._bar = element("div", { className: "bar", hidden: true });
    this._status = element("div", { className: "note", role: "status" });
    this._note = element("div", { className: "note", hidden: true });
    this.shadowRoot.replaceChildren(
      this._bar,
      element("div", { className: "body" }, this._head, this._pill, this._window, this._note),
      element("div", { className: "note", hidden: true }, this._status),
    );
    this._pill.addEventListener("click", () => this.release());
    this._window.addEventListener("scroll", () => (this._window.scrollTop ? this._freeze() : this._releaseIfFree(), this._schedule()));
    this._window.addEventListener("pointerenter", () => this._freeze());
    this._window.addEventListener("pointerleave", () => this._releaseIfFree());
    this._window.addEventListener("focusin", () => this._freeze());
    this._window.addEventListener("focusout", () => this._releaseIfFree());
    this._window.addEventListener("keydown", (event) => this._key(event));
  }

  _label() {
    this._head.replaceChildren(...COLUMNS.map((name) => element("div", { role: "columnheader" }, this._words(name))));
    this._window.setAttribute("aria-label", this._words("Deliveries"));
  }

  _key(event) {
    if (event.key !== " ") return;
    event.preventDefault();
    this.paused = !this.paused;
    if (!this.paused) this.release();
    this.dispatchEvent(new CustomEvent("pause-change", { detail: { paused: this.paused } }));
  }

  _measure() {
    this._isNarrow = this.clientWidth < NARROW_PIXELS;
    this.classList.toggle("narrow", this._isNarrow);
    this._schedule();
  }

  _schedule() {
    if (this._painting) return;
    this._painting = true;
    const wait = Math.max(0, PAINT_MILLISECONDS - (performance.now() - (this._painted ?? 0)));
    setTimeout(() => requestAnimationFrame(() => this._paint()), wait);
  }

  _paint() {
    this._painting = false;
    this._painted = performance.now();
    const height = this._isNarrow ? CARD_PIXELS : ROW_PIXELS;
    const rows = this.problems ? this.store.rows().filter(isProblem) : this.store.rows();
    const first = Math.max(0, Math.floor(this._window.scrollTop / height) - SPARE_ROWS);
    const last = Math.min(rows.length, first + Math.ceil((this._window.clientHeight || 600) / height) + 2 * SPARE_ROWS);
    this._rows.style.height = `${rows.length * height}px`;
    this._window.setAttribute("aria-rowcount", String(rows.length));
    const wanted = new Map(rows.slice(first, last).map((row, index) => [row.delivery_id, { row, place: first + index }]));
    this._recycle(wanted);
    for (const [id, { row, place }] of wanted) this._show(id, row, place, height);
    this._showWaiting();
    this._note.hidden = rows.length > 0 || !this._loaded;
    this._note.textContent = this._words("Nothing fits these filters");
    this.dispatchEvent(new CustomEvent("change", { detail: { size: rows.length } }));
  }

  _recycle(wanted) {
    for (const [id, node] of this._nodes) {
      if (wanted.has(id) || node.contains(this.shadowRoot.activeElement)) continue;
      node.remove();
      this._nodes.delete(id);
    }
  }

  _show(id, row, place, height) {
    let node = this._nodes.get(id);
    if (!node) {
      node = element("div", { className: "row", role: "row", part: "row", tabIndex: -1 });
      node.addEventListener("click", () => this._open(id));
      node.addEventListener("keydown", (event) => event.key === "Enter" && this._open(id));
      this._nodes.set(id, node);
      this._rows.append(node);
      if (place === 0 && this._loaded) this._tint(node);
    }
    node.style.transform = `translateY(${place * height}px)`;
    node.setAttribute("aria-rowindex", String(place + 1));
    if (node.row === row) return;
    node.row = row;
    node.replaceChildren(...this._cells(row));
  }

  _tint(node) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    node.classList.add("new");
    setTimeout(() => node.classList.remove("new"), TINT_MILLISECONDS);
  }

  _open(id) {
    this.dispatchEvent(new CustomEvent("delivery-open", { detail: { deliveryId: id }, bubbles: true, composed: true }));
  }

  _cells(row) {
    const attempt = row.last_attempt;
    const cell = (...children) => element("div", { role: "gridcell" }, ...children);
    return [
      this._stateCell(row),
      this._trailCell(row),
      cell(element("code", {}, row.event_type)),
      cell(this._nameOf(row), ` #${row.webhook_id}`),
      cell(answerOf(attempt, this._words)),
      cell(attempt ? span(seconds(attempt.latency)) : "–"),
      this._timeCell(row),
    ];
  }

  /** Returns the name of a row's webhook, empty as long as it is not known: rows never wait for names. */
  _nameOf(row) {
    const id = row.webhook_id;
    if (!this._names.has(id)) {
      if (this._names.size >= NAMES_MAX) this._names.clear();
      this._names.set(id, "");
      this._api
        .get(`/api/webhooks/${id}?customer_id=${row.customer_id}`)
        .then((webhook) => this._named(id, webhook.name))
        .catch(() => undefined); // it is deleted, or the next row asks again
    }
    return this._names.get(id);
  }

  _named(id, name) {
    this._names.set(id, visible(name));
    for (const node of this._nodes.values()) if (node.row.webhook_id === id) node.replaceChildren(...this._cells(node.row));
  }

  _stateCell(row) {
    const word = STATUSES[row.status] ? this._words(STATUSES[row.status]) : row.status;
    return element("div", { role: "gridcell", className: `state ${COLOURS[row.status] ?? "off"}` }, icon(row.status), word);
  }

  _trailCell(row) {
    const { shapes, count } = shapesOf(row);
    const cell = element("div", { role: "gridcell", className: "trail" }, ...shapes.map(icon));
    cell.setAttribute("aria-label", this._words("{n} attempts", { n: count }));
    if (count > shapes.length) cell.append(`×${count}`);
    return cell;
  }

  _timeCell(row) {
    const isPending = row.status === "pending" && row.next_attempt_time;
    const at = milliseconds(isPending ? row.next_attempt_time : row.update_time);
    const options = { language: this.language, utc: this.utc };
    const text = isPending ? countdown(at, this.now(), this._words, options) : relative(Math.min(at, this.now()), this.now(), this._words, options);
    return element("div", { role: "gridcell" }, element("time", { dateTime: iso(at), title: iso(at) }, text));
  }

  _showWaiting() {
    const { count, failed } = this.store.waiting;
    this._pill.hidden = count === 0;
    this._pill.textContent = failed
      ? `▲ ${this._words("{n} new deliveries, {m} failed", { n: count, m: failed })}`
      : `▲ ${this._words("{n} new deliveries", { n: count })}`;
  }

  /** Each second: what is said relative to now, of the rows that are seen, and how long the stream has been cut. */
  _tick() {
    for (const node of this._nodes.values()) node.lastElementChild?.replaceWith(this._timeCell(node.row));
    if (!this._cut) return;
    const n = Math.round((Date.now() - this._cut) / 1000);
    this._say(`${this._words("Stream interrupted {n} s ago; resuming from where it stopped", { n })} ${this._why}`.trim());
  }

  _say(text, milliseconds_ = 0) {
    clearTimeout(this._saying);
    this._bar.textContent = text;
    this._bar.hidden = !text;
    if (milliseconds_) this._saying = setTimeout(() => this._say(""), milliseconds_);
  }
}

function answerOf(attempt, words) {
  if (!attempt?.outcome) return "–";
  const isAnswered = attempt.outcome === "succeeded" || attempt.outcome === "http_error";
  return isAnswered ? String(attempt.response_status) : outcomeText(attempt, words);
}

customElements.define("webhook-deliveries", WebhookDeliveries);
