// The live page: what is happening now. A line of numbers, the filter, and the list.

import { isId, lookup, queryOf } from "../data/route.js";
import { STATUSES } from "../data/store.js";
import "./webhook-deliveries.js";
import { icon } from "../shared/icons.js";
import { addSheet, copyText, element } from "../shared/look.js";

const TYPING_MILLISECONDS = 250;

const WORDS = { live: "Live", resuming: "Stream interrupted, resuming", refused: "Stopped" };
const DOTS = { live: "on", resuming: "cut" };

let left = ""; // the delivery that was opened last, for the view to which the reader comes back

export const LOOK = `
.live-page { display: flex; flex-direction: column; gap: 8px; flex: 1; min-height: 0; }
webhook-deliveries { flex: 1; min-height: 0; }
.live { display: flex; gap: 6px; align-items: center; }
.live.on { color: var(--ok); } .live.cut { color: var(--wait); } .live.off { color: var(--off); }
.filter input:not([type="checkbox"]) { width: 168px; }
@media (max-width: 480px) {
  .filter > * { flex: 1 1 120px; min-width: 0; }
}
@media (max-width: 480px), (max-height: 600px) {
  webhook-deliveries { flex: none; height: max(240px, 70dvh); } /* a list as high as its rows would have them all as elements */
}
`;

/** Shows the live list with its filter. */
export function view(page, route) {
  return new LiveView(page, route);
}

class LiveView {
  constructor(page, { filter }) {
    this._page = page;
    this._left = left; // whose row gets the focus once it is there
    left = "";
    this._list = document.createElement("webhook-deliveries");
    this._list.getToken = page.getToken;
    this._list.hrefOf = addressOf;
    this._list.addEventListener("state-change", (event) => this._state(event.detail));
    this._list.addEventListener("pause-change", () => this._numbers());
    this._list.addEventListener("change", () => this._changed());
    this._list.addEventListener("delivery-open", ({ detail }) => this._open(detail));
    this._list.addEventListener("select-change", () => this._showSelected());
    this._live = element("div", { className: "live off" }); // the list itself says what has changed
    this._pause = element("button", {});
    this._pause.addEventListener("click", () => this._togglePause());
    this._link = element("button", {}, page.words("Copy link"));
    this._link.addEventListener("click", () => copyText(page, location.href));
    this._selected = element("div", { hidden: true });
    this._line = element("div", { className: "line" }, this._live, this._pause, this._link);
    this.node = element("main", { className: "live-page" }, this._line, this._filterLine(), this._list, this._selected);
    this._clock = setInterval(() => this._numbers(), 1000);
    this.update({ filter });
    this._firstRun(filter);
    this._showRates();
  }

  /** Adds the chart and the legend, which the list does not wait for. */
  async _showRates() {
    const { RATE_SHEET, RateChart } = await import("./rate-chart.js");
    if (!this.node.isConnected) return;
    addSheet(this.node.getRootNode(), RATE_SHEET);
    this._rates = new RateChart(this._page.words);
    this._line.append(element("div", { className: "line" }, ...this._rates.nodes));
    this._numbers();
  }

  /** Says how to begin while there is no webhook. */
  async _firstRun(filter) {
    if (!this._page.caller.permissions.includes("read")) return;
    try {
      const query = new URLSearchParams({ page_size: "1", ...(filter.customer_id && { customer_id: filter.customer_id }) });
      const { webhooks } = await this._page.api.get(`/api/webhooks?${query}`);
      if (webhooks.length) return;
      const { showFirstRun } = await import("../webhooks/first-run.js");
      await showFirstRun(this._page, filter.customer_id, this._list);
    } catch {
      // The list says what is wrong.
    }
  }

  stop() {
    clearInterval(this._clock);
  }

  /** Goes on where the stream stopped, with another token. The rows stay. */
  signedIn() {
    this._list.resume();
  }

  /** Takes a key: of the list, or of what stands above it. */
  key(event) {
    if (this._list.key(event)) return true;
    if (event.key === "p") return this._change({ problems: this._filter.problems === "true" ? "" : "true" }) ?? true;
    const hasRow = this._list.current || (event.key === "r" && this._list.selected.size);
    return Boolean(hasRow) && "rtcy".includes(event.key) && this._act(event.key);
  }

  /** Carries out the key of an act on the row that has the focus, or on what is selected. */
  _act(key) {
    const chosen = [...this._list.selected].map((id) => this._list.store.get(id)).filter(Boolean);
    const row = this._list.current;
    import("../lists/row-acts.js").then(({ actOn }) => actOn(this._page, this.node.getRootNode(), key, row, chosen));
    return true;
  }

  /** Shows how many rows are selected, and what can be done with them. */
  async _showSelected() {
    const { showSelected } = await import("../lists/selected-bar.js");
    showSelected(this._page, this._selected, { list: this._list, filter: this._filter, retry: () => this._act("r") });
  }

  /** Shows what a filter says. */
  update({ filter }) {
    this._filter = filter;
    this._showStatuses(filter.statuses ?? []);
    this._problems.checked = filter.problems === "true";
    this._onlyLive.hidden = !this._problems.checked;
    for (const [input, name] of this._inputs) {
      if (input.getRootNode().activeElement !== input) input.value = [filter[name] ?? []].flat().join(",");
    }
    Object.assign(this._list, {
      language: this._page.language,
      utc: this._page.utc,
      customerId: filter.customer_id ?? "",
      webhookIds: filter.webhook_ids ?? [],
      eventTypes: filter.event_types ?? [],
      statuses: filter.statuses ?? [],
      eventId: filter.event_id ?? "",
      replayId: filter.replay_id ?? "",
      problems: filter.problems === "true",
      isOfAll: !filter.customer_id && this._page.caller.customer_id === undefined,
    });
    if (this._list.store) this._list.start();
    return true;
  }

  /** Shows the statuses of the filter; several of them, which only an address can say, are a choice of their own. */
  _showStatuses(statuses) {
    const value = statuses.join(",");
    const isKnown = [...this._statuses.options].some((option) => option.value === value);
    if (!isKnown) this._statuses.add(new Option(statuses.map((one) => this._page.words(STATUSES[one] ?? one)).join(", "), value));
    this._statuses.value = value;
  }

  _open({ deliveryId }) {
    left = deliveryId;
    this._page.go(addressOf(this._list.store.get(deliveryId)));
  }

  /** Puts the focus back where it was when the reader left, once the rows are there. */
  _changed() {
    if (!this._left) return;
    const isElsewhere = this.node.contains(this.node.getRootNode().activeElement); // the reader is quicker than the list
    if (isElsewhere || this._list.focusRow(this._left)) this._left = "";
  }

  // --- the filter ---------------------------------------------------------------------------------------------------

  _filterLine() {
    const { words } = this._page;
    const search = element("input", { type: "search", id: "search", placeholder: `/ ${words("id, type, webhook")}`, ariaLabel: words("Search") });
    search.addEventListener("keydown", (event) => event.key === "Enter" && this._find(search));
    const options = Object.entries(STATUSES).map(([name, word]) => new Option(words(word), name));
    this._statuses = element("select", { ariaLabel: words("Status") }, new Option(words("Status"), ""), ...options);
    this._statuses.addEventListener("change", () => this._change({ statuses: this._statuses.value.split(",").filter(Boolean) }));
    this._inputs = [["Event type", "event_types"], ["Webhook", "webhook_ids"]].map(([word, name]) => {
      const input = element("input", { placeholder: words(word), ariaLabel: words(word) });
      input.addEventListener("input", () => this._typed(input, name));
      return [input, name];
    });
    this._problems = element("input", { type: "checkbox" });
    this._onlyLive = element("span", { className: "muted", hidden: true }, words("of what arrives, and of the latest {n}", { n: this._list.limit }));
    this._problems.addEventListener("change", () => this._change({ problems: this._problems.checked ? "true" : "" }));
    const clear = element("button", {}, words("Clear filters"));
    clear.addEventListener("click", () => this._page.go(`/${queryOf({ customer_id: this._filter.customer_id })}`));
    const inputs = this._inputs.map(([input]) => input);
    return element("div", { className: "line filter" }, search, this._statuses, ...inputs, element("label", {}, this._problems, words("Problems only")), clear, this._onlyLive);
  }

  _change(changes) {
    this._page.go(`/${queryOf({ ...this._filter, ...changes })}`);
  }

  _typed(input, name) {
    clearTimeout(this._typing);
    this._typing = setTimeout(() => {
      const parts = input.value.split(",").map((part) => part.trim()).filter(Boolean);
      this._change({ [name]: parts });
    }, TYPING_MILLISECONDS);
  }

  _find(search) {
    const found = lookup(search.value);
    if (found?.filter) this._change(found.filter);
    else if (found?.path.startsWith("/webhooks/")) this._change({ webhook_ids: [found.path.split("/")[2]] });
    else if (found) this._page.go(found.path + queryOf({ customer_id: this._filter.customer_id }));
    search.value = "";
  }

  // --- the numbers --------------------------------------------------------------------------------------------------

  _state({ state, problem }) {
    this._is = state;
    if (state === "refused") this._page.refused(problem);
    this._numbers();
  }

  _togglePause() {
    this._list.paused = !this._list.paused;
  }

  _numbers() {
    const { store } = this._list;
    if (!store) return;
    const { words } = this._page;
    const now = this._list.now();
    const isLive = this._is === "live";
    this._live.className = `live ${DOTS[this._is] ?? "off"}`;
    const state = words(this._list.paused && isLive ? "Paused by you" : (WORDS[this._is] ?? "Connecting"));
    const rate = words("{n} attempts/s", { n: Math.round(store.rate(now) * 10) / 10 });
    const behind = words("{n} s behind", { n: Math.round(store.behindSeconds * 10) / 10 });
    this._live.replaceChildren(icon("disc"), isLive ? `${state} · ${rate} · ${behind}` : state);
    this._pause.textContent = words(this._list.paused ? "Go on live" : "Pause the list");
    this._rates?.draw(store.attempts(now));
  }
}

function addressOf({ delivery_id: id, customer_id: customerId }) {
  return isId("deliveries", id) ? `/deliveries/${id}${queryOf({ customer_id: String(customerId) })}` : "";
}
