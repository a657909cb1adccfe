// The list of replays, newest first, with how far each is.

import { queryOf } from "../data/route.js";
import { milliseconds, relative } from "../data/time.js";
import { DETAIL_LOOK } from "../parts/detail-look.js";
import { element } from "../parts/look.js";
import { problemNode } from "../parts/problem.js";
import { barNode, figuresNode, filterText, moment, replayStatusNode, REPLAY_LOOK, windowText } from "../parts/replay-facts.js";

const PAGE_SIZE = 50;
const FRESH_MILLISECONDS = 2000;
const FRESH_MAX = 10; // running replays that are read again, the newest ones
const COLUMNS = ["Replay", "Status", "Window", "What", "Counts", "Looked at up to", "Started"];

export const LOOK = `${DETAIL_LOOK}${REPLAY_LOOK}
.replays { width: 100%; border-collapse: collapse; }
.replays th { text-align: left; color: var(--muted); font-size: 12px; font-weight: 400; }
.replays td, .replays th { padding: 8px 12px 8px 0; border-bottom: 1px solid var(--surface); vertical-align: top; }
.replays .counts { display: grid; gap: 4px; min-width: 160px; }
@media (max-width: 900px) {
  .replays thead { display: none; }
  .replays, .replays tbody, .replays tr, .replays td { display: block; }
  .replays tr { padding: 8px 0; border-bottom: 1px solid var(--line); }
  .replays td { border: 0; padding: 2px 0; overflow-wrap: anywhere; }
  .replays td[data-head]::before { content: attr(data-head) " "; color: var(--muted); }
}
`;

/** Shows the replays, newest first. */
export function view(page, { filter }) {
  return new ReplaysView(page, filter);
}

class ReplaysView {
  constructor(page, filter) {
    this._page = page;
    this._query = queryOf({ customer_id: filter.customer_id });
    this._abort = new AbortController();
    this._rows = new Map(); // of running replays, by id
    this._body = element("tbody", {});
    this._more = element("button", { hidden: true }, page.words("Look further back"));
    this._more.addEventListener("click", () => this._load());
    this._note = element("div", {});
    const heads = COLUMNS.map((name) => element("th", { scope: "col" }, page.words(name)));
    const table = element("table", { className: "replays" }, element("thead", {}, element("tr", {}, ...heads)), this._body);
    this.node = element("main", { className: "detail" }, this._headNode(filter), table, this._note, this._more);
    this._timer = setInterval(() => document.hidden || this._freshen(), FRESH_MILLISECONDS);
    this._load();
  }

  stop() {
    this._abort.abort();
    clearInterval(this._timer);
  }

  _headNode(filter) {
    const { words } = this._page;
    const link = element("a", { href: `/replays/new${queryOf({ customer_id: filter.customer_id })}` }, words("New replay"));
    return element("div", { className: "line" }, element("h2", { className: "title" }, words("Replays")), element("span", { className: "grow" }), link);
  }

  async _load(token = this._token) {
    const more = `page_size=${PAGE_SIZE}${token ? `&page_token=${encodeURIComponent(token)}` : ""}`;
    try {
      const found = await this._page.api.get(`/api/replays${this._query || "?"}${this._query && "&"}${more}`, this._abort);
      for (const replay of found.replays) this._body.append(this._rowNode(replay));
      this._token = found.next_page_token ?? "";
      this._more.hidden = !this._token;
      this._note.replaceChildren(this._body.childElementCount ? "" : element("p", { className: "muted" }, this._page.words("No replay yet")));
    } catch (error) {
      if (error.name !== "AbortError") this._note.replaceChildren(problemNode(this._page, error, () => this._load(token)));
    }
  }

  /** Reads the running replays again. One that can't be read keeps what is shown until the next time. */
  async _freshen() {
    if (this._isFreshening) return;
    this._isFreshening = true;
    const running = [...this._rows].slice(0, FRESH_MAX);
    await Promise.all(
      running.map(async ([id, row]) => {
        const path = `/api/replays/${id}?customer_id=${row.customerId}`;
        const replay = await this._page.api.get(path, this._abort).catch(() => undefined);
        if (replay && this._rows.has(id)) row.replaceWith(this._rowNode(replay));
      }),
    );
    this._isFreshening = false;
  }

  _rowNode(replay) {
    const { words } = this._page;
    const cells = [
      element("a", { href: `/replays/${replay.replay_id}?customer_id=${replay.customer_id}` }, `${words("Replay")} ${replay.replay_id}`),
      replayStatusNode(this._page, replay),
      windowText(this._page, replay),
      filterText(this._page, replay),
      element("div", { className: "counts" }, barNode(replay), figuresNode(this._page, replay, { all: false })),
      moment(this._page, replay.progress_time),
      relative(milliseconds(replay.create_time), this._page.now(), words, this._page.options),
    ].map((content) => element("td", {}, content));
    for (const index of [5, 6]) cells[index].dataset.head = words(COLUMNS[index]);
    const row = element("tr", {}, ...cells);
    row.customerId = replay.customer_id;
    if (replay.status === "running") this._rows.set(replay.replay_id, row);
    else this._rows.delete(replay.replay_id);
    return row;
  }
}
