// The deliveries of one replay, live. Its window and its webhooks make the list short work for the service.

import { queryOf } from "../data/route.js";
import { DeliveryStore } from "../data/store.js";
import { LiveStream } from "../data/stream.js";
import { Names, answer, code, when } from "../shared/cells.js";
import { stateNode } from "../shared/facts.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";

const ROWS_MAX = 100;
const PAGE_SIZE = 100;
const PAGES_MAX = 5; // of the list, that are asked for at a time: where little fits, a page may be empty
const PAINT_MILLISECONDS = 250;
const CLOCK_MILLISECONDS = 1000;
const COLUMNS = ["Status", "Event type", "Webhook", "Answer", "Changed"];

export const REPLAYED_LOOK = `
.replayed { width: 100%; border-collapse: collapse; }
.replayed th { text-align: left; color: var(--muted); font-size: 12px; font-weight: 400; }
.replayed td, .replayed th { padding: 4px 12px 4px 0; border-bottom: 1px solid var(--surface); }
.replayed td { overflow-wrap: anywhere; }
@media (max-width: 720px) {
  .replayed thead { display: none; }
  .replayed tr { display: grid; grid-template-columns: 1fr 1fr; padding: 4px 0; border-bottom: 1px solid var(--surface); }
  .replayed td { border: 0; padding: 0 8px 0 0; }
  .replayed td:nth-child(3) { display: none; }
}
`;

/** A table of the latest deliveries of a replay. */
export class Replayed {
  constructor(page, replay) {
    this._page = page;
    this._filter = { customer_id: String(replay.customer_id), replay_id: String(replay.replay_id) };
    this._within = { webhook_ids: replay.webhook_ids, event_types: replay.event_types, start_time: replay.start_time, end_time: replay.end_time };
    this._names = new Names(page.api);
    this._store = new DeliveryStore({ rowsMax: ROWS_MAX });
    this._body = element("tbody", {});
    this._note = element("p", { className: "muted", role: "status" });
    this._more = element("button", { hidden: true }, page.words("Look further back"));
    this._more.addEventListener("click", () => this._look(this._token));
    this._problem = element("div", {});
    this.node = this._makeNode();
    this._stream = this._makeStream();
    this._clock = setInterval(() => this._tick(), CLOCK_MILLISECONDS);
  }

  /** Follows the stream, which loads the list once it is open; or leaves it, to resume later from where it was. */
  follow(wanted) {
    if (wanted === this._isFollowing) return;
    this._isFollowing = wanted;
    if (wanted) this._stream.run();
    else this._stream.stop();
  }

  /** Shows them as they ended: nothing more will come. */
  end() {
    if (this._isEnded) return;
    this._isEnded = true;
    this.follow(false);
    this._look();
  }

  stop() {
    this._looking?.abort();
    this._stream.stop();
    this._names.stop();
    clearTimeout(this._painting);
    clearInterval(this._clock);
  }

  _makeNode() {
    const { words } = this._page;
    const heads = COLUMNS.map((name) => element("th", { scope: "col" }, words(name)));
    const table = element("table", { className: "replayed" }, element("thead", {}, element("tr", {}, ...heads)), this._body);
    return element("div", {}, element("h3", {}, words("Its deliveries, the latest first")), table, this._note, this._problem, this._more);
  }

  _makeStream() {
    const again = () => this._look();
    return new LiveStream(this._page.api, `/api/deliveries:watch${queryOf(this._filter)}`, {
      opened: ({ isResumed }) => isResumed || again(),
      message: (message) => this._take(message.deliveries),
      interrupted: () => undefined, // it resumes without a gap; the figures above say that the service is away
      restarted: again,
      refused: (problem) => this._problem.replaceChildren(problemNode(this._page, problem, again)),
    });
  }

  _take(deliveries) {
    for (const delivery of deliveries) this._store.change(delivery, this._page.now());
    if (deliveries.length) this._schedule();
  }

  /** Looks through the list from a token on, as far as a few pages go or until the table is full. */
  async _look(token = "") {
    this._looking?.abort();
    const { signal } = (this._looking = new AbortController());
    this._token = token;
    this._more.hidden = true;
    try {
      await this._lookThrough(signal);
      this._problem.replaceChildren();
    } catch (error) {
      if (error.name === "AbortError") return;
      this._problem.replaceChildren(problemNode(this._page, error, () => this._look(this._token)));
    }
    this._isLoaded = true;
    this._paint();
  }

  async _lookThrough(signal) {
    for (let pages = 0; pages < PAGES_MAX; pages++) {
      const query = queryOf({ ...this._filter, ...this._within });
      const more = `&page_size=${PAGE_SIZE}${this._token ? `&page_token=${encodeURIComponent(this._token)}` : ""}`;
      const found = await this._page.api.get(`/api/deliveries${query}${more}`, { signal });
      this._store.load(found.deliveries);
      this._token = found.next_page_token ?? "";
      if (!this._token || this._store.size >= ROWS_MAX) return;
    }
  }

  _schedule() {
    this._painting ??= setTimeout(() => this._paint(), PAINT_MILLISECONDS);
  }

  _paint() {
    clearTimeout(this._painting);
    this._painting = undefined;
    const { words } = this._page;
    const rows = this._store.rows();
    const isFull = rows.length >= ROWS_MAX;
    this._body.replaceChildren(...rows.map((row) => this._rowNode(row)));
    this._more.hidden = !this._token || isFull || !this._isLoaded;
    this._note.textContent = isFull ? words("The latest {n} are shown.", { n: ROWS_MAX }) : rows.length || !this._isLoaded ? "" : words("None yet");
  }

  _tick() {
    for (const node of this._body.querySelectorAll("time")) node.tick?.();
  }

  _rowNode(row) {
    const href = `/deliveries/${row.delivery_id}?customer_id=${row.customer_id}`;
    const cells = [
      stateNode(this._page, row.status),
      element("a", { href }, code(row.event_type)),
      this._names.nodeOf(row),
      answer(this._page, row.last_attempt),
      when(this._page, row.update_time),
    ];
    return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
  }
}
