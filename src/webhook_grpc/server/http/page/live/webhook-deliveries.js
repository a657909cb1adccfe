// <webhook-deliveries>: the live list of deliveries. A page of any origin that the service names may embed it.

import { Api } from "../data/api.js";
import { LiveSource } from "../data/live.js";
import { queryOf } from "../data/route.js";
import { DeliveryStore, isProblem } from "../data/store.js";
import { absolute } from "../data/time.js";
import { languageOf, wordsOf } from "../data/words.js";
import { DeliveryList } from "./delivery-list.js";
import { addSheet } from "../shared/look.js";

const CLOCK_MILLISECONDS = 1000;
const LIST_ROWS = 200;
const RENEW_MILLISECONDS = 3000;

/** The element. Properties are to be set before it is put into a document, or all at once afterwards. */
export class WebhookDeliveries extends DeliveryList {
  base = "";
  getToken = async () => "";
  hrefOf = () => ""; // the address of a delivery; without one a row is no link
  customerId = "";
  webhookIds = [];
  eventTypes = [];
  statuses = [];
  eventId = "";
  replayId = "";
  limit = LIST_ROWS;
  language = languageOf(navigator.languages ?? ["en"]);
  utc = false;
  problems = false;
  isOfAll = false; // whether the rows are of several customers: then each says of which

  connectedCallback() {
    this._connect();
    this._clock = setInterval(() => this._tick(), CLOCK_MILLISECONDS);
    this._seen = () => this._source.hidden(document.hidden);
    document.addEventListener("visibilitychange", this._seen);
    this.start();
  }

  disconnectedCallback() {
    this._disconnect();
    clearInterval(this._clock);
    document.removeEventListener("visibilitychange", this._seen);
    this.stop();
  }

  /** Begins with the properties as they are now. */
  start() {
    this.stop();
    this._words = wordsOf(this.language);
    this._options = { language: this.language, utc: this.utc };
    this._api = new Api({ base: this.base, getToken: this.getToken });
    this.store = new DeliveryStore({ accepts: this.problems ? isProblem : undefined });
    if (this._hold.isHeld) this.store.freeze();
    const paths = { watch: this._path("deliveries:watch"), list: this._path("deliveries", `page_size=${this.limit}`) };
    this._source = new LiveSource(this._api, paths, this.store, {
      changed: () => this._schedule(),
      state: (state) => this._state(state),
      came: (delivery) => this._came(delivery),
      divided: (text, at) => this._say(this._words(text, { time: absolute(at, { ...this._options, fraction: false }) })),
    });
    this.classList.toggle("of-all", this.isOfAll);
    this._holds = undefined; // of another token, perhaps
    this._list.clear();
    this._label();
    this._source.start();
    this._showState();
    this._paint();
  }

  stop() {
    clearTimeout(this._renewing);
    this._source?.stop();
  }

  /** Goes on from where the stream stopped, with the token of now. The rows stay. */
  resume() {
    this._source.again();
  }

  /** The server's time, in milliseconds. */
  now() {
    return this._source.now();
  }

  get _isFiltered() {
    return [this.problems, ...this.eventTypes, ...this.statuses, this.eventId, this.replayId].some(Boolean);
  }

  _path(what, more = "") {
    const query = queryOf({
      customer_id: this.customerId,
      webhook_ids: this.webhookIds,
      event_types: this.eventTypes,
      statuses: this.statuses,
      event_id: this.eventId,
      replay_id: this.replayId,
    });
    return `/api/${what}${query}${more && (query ? "&" : "?") + more}`;
  }

  // --- what comes ---------------------------------------------------------------------------------------------------

  _came(delivery) {
    if (!this._painting) this._checkDialog(); // before its row moves
    const before = this.store.get(delivery.delivery_id);
    this._announcer.count(!before, delivery.status === "failed" && before?.status !== "failed");
  }

  _state(state) {
    if (state.name !== this._stateName) {
      this._stateAt = performance.now();
      this._stateName = state.name;
      this._send("state-change", { state: state.name, problem: state.problem });
      // On another origin nobody signs in: whose clock is behind the service's gives out a token that has ended already.
      if (this.base && state.name === "refused" && state.problem?.status === 401) this._renewing = setTimeout(() => this.resume(), RENEW_MILLISECONDS);
    }
    this._showState();
  }

  // --- keys and clicks ----------------------------------------------------------------------------------------------

  /** The delivery of the row that has the focus, or undefined. */
  get current() {
    return this.store.get(this.store.ids[this._list.focusedPlace]);
  }

  /** Puts the focus on the row of a delivery. Returns whether it is there. */
  focusRow(id) {
    return this._list.focus(this.store.ids.indexOf(id));
  }

  _clicked(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return; // the browser opens the link elsewhere
    const node = event.target.closest(".row");
    const row = this._list.shown.find((one) => one.node === node);
    if (row) event.preventDefault();
    if (row) this._open(row.id);
  }

  _open(id) {
    if (!this.store.get(id).divider) this._send("delivery-open", { deliveryId: id });
  }

  /** Takes a key that works while a row has the focus. Returns whether it did something. */
  _rowKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const place = this._list.focusedPlace;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: this._list.pageRows, PageUp: -this._list.pageRows, Home: -Infinity, End: Infinity };
    if (event.key in steps) return this._step(place, steps[event.key]);
    if (event.key === "Enter" && place >= 0) return this._open(this.current.delivery_id) ?? true;
    if (event.key === "ArrowRight") return this._unfold(this.current);
    if (event.key === "ArrowLeft") return this._unfold(undefined);
    return event.key === " " && this._toggle();
  }

  _step(place, by) {
    const to = place < 0 ? 0 : Math.max(0, Math.min(this._list.count - 1, place + by));
    return this._list.focus(to);
  }

  _toggle() {
    this.paused = !this.paused;
    return true;
  }

  /** Takes a key of the page that no field has: see frame/keys.js. Returns whether it did something. */
  key(event) {
    const { current } = this;
    if (event.key === "j" || (event.key === "ArrowDown" && !current)) return this._step(this._list.focusedPlace, 1);
    if (event.key === "k") return this._step(this._list.focusedPlace, -1);
    if (event.key === ".") return this.release() ?? true;
    if (event.key === " ") return this._toggle();
    if (event.key === "o" && current) return this._openElsewhere(current);
    if (event.key === "x" && current) return this._select(current.delivery_id);
    return event.key === "Escape" && this._clear();
  }

  _openElsewhere(row) {
    const path = this.hrefOf(row);
    if (path) window.open(path, "_blank", "noopener");
    return Boolean(path);
  }

  _select(id) {
    if (!this.selected.delete(id)) this.selected.add(id);
    return this._selectionChanged();
  }

  /** Closes what is open; if nothing is, clears the selection. */
  _clear() {
    if (this._opened) return this._unfold(undefined);
    return this.selected.size > 0 && this.clearSelection();
  }

  /** Selects nothing. */
  clearSelection() {
    this.selected.clear();
    return this._selectionChanged();
  }

  _selectionChanged() {
    this._send("select-change", { ids: [...this.selected] });
    this._paint();
    return true;
  }

  /** Shows the attempts of a delivery below the list, or nothing. */
  _unfold(row) {
    this._opened = row && !row.divider ? row.delivery_id : null;
    this._foot.replaceChildren();
    if (this._opened) this._showAttempts(row);
    this._paint();
    return true;
  }

  async _showAttempts(row) {
    const { UNFOLDED_SHEET, attemptsNode } = await import("../lists/row-attempts.js");
    addSheet(this.shadowRoot, UNFOLDED_SHEET);
    const node = await attemptsNode(this._api, row, this._words, this._options);
    if (this._opened === row.delivery_id) this._foot.replaceChildren(node);
  }
}

customElements.define("webhook-deliveries", WebhookDeliveries);
