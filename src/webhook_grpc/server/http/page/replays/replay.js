// One replay: how far it is, what waits and why, and its deliveries as they are sent.

import { filterOfReplay, isMoving, progressOf } from "../data/replay.js";
import { queryOf } from "../data/route.js";
import { milliseconds } from "../data/time.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { fact } from "../shared/facts.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";
import { barNode, figuresNode, filterText, moment, replayStatusNode, REPLAY_LOOK, windowText } from "./replay-facts.js";
import { Replayed, REPLAYED_LOOK } from "./replayed.js";
import { Waits } from "./waits.js";

const FRESH_MILLISECONDS = 2000;

export const LOOK = `${DETAIL_LOOK}${REPLAY_LOOK}${REPLAYED_LOOK}
.looked { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; color: var(--muted); }
.looked progress { width: min(320px, 100%); accent-color: var(--accent); }
.looked b { font-weight: 400; color: var(--ink); }
.replay { display: grid; gap: 12px; }
.replay p { margin: 0; }
.replay ul { margin: 0; padding-left: 20px; }
`;

/** Shows one replay. Its progress is read each two seconds while it is running and the page is visible. */
export function view(page, { id, filter }) {
  return new ReplayView(page, id, filter);
}

class ReplayView {
  constructor(page, id, filter) {
    this._page = page;
    this._path = `/api/replays/${id}`;
    this._query = filter.customer_id ? `?customer_id=${encodeURIComponent(filter.customer_id)}` : "";
    this._abort = new AbortController();
    this._panel = element("section", { className: "panel replay" });
    this._problem = element("div", {});
    this._deliveries = element("section", { className: "panel" });
    this.node = element("main", { className: "detail" }, this._panel, this._problem, this._deliveries);
    this._timer = setInterval(() => this._freshen(), FRESH_MILLISECONDS);
    this._seen = () => this._isMoving && this._replayed.follow(!document.hidden);
    document.addEventListener("visibilitychange", this._seen);
    this._load();
  }

  stop() {
    this._abort.abort();
    clearInterval(this._timer);
    document.removeEventListener("visibilitychange", this._seen);
    this._replayed?.stop();
    this._waits?.stop();
  }

  get _isMoving() {
    return Boolean(this._replay) && isMoving(this._replay);
  }

  _freshen() {
    if (this._isMoving && !document.hidden && !this._isLoading) this._load();
  }

  async _load() {
    this._isLoading = true;
    try {
      this._show(await this._page.api.get(this._path + this._query, this._abort));
      this._problem.replaceChildren();
    } catch (error) {
      if (error.name !== "AbortError") this._failed(error);
    }
    this._isLoading = false;
  }

  /** Shows why the figures are old. After a refused token the page makes the view again, with another one. */
  _failed(error) {
    this._problem.replaceChildren(problemNode(this._page, error, () => this._load()));
    if (error.status === 401) clearInterval(this._timer);
    this._page.refused(error);
  }

  _show(replay) {
    const isRunning = replay.status === "running";
    this._replay = replay;
    if (!this._replayed) this._build(replay);
    if (this._isMoving) this._seen();
    else this._replayed.end();
    this._waits.update(isRunning);
    this._state.replaceChildren(replayStatusNode(this._page, replay));
    this._cancel.hidden = !isRunning;
    this._progress.replaceChildren(barNode(replay), this._sumNode(replay));
    this._looked.replaceChildren(...this._lookedNodes(replay));
  }

  _build(replay) {
    const { words } = this._page;
    this._state = element("span", {});
    this._progress = element("div", { className: "replay" });
    this._looked = element("div", { className: "looked" });
    this._cancel = this._cancelButton();
    this._waits = new Waits(this._page, replay);
    this._replayed = new Replayed(this._page, replay);
    const title = element("h2", { className: "title" }, `${words("Replay")} ${replay.replay_id}`, this._state);
    const head = element("div", { className: "line" }, title, element("span", { className: "grow" }), this._cancel, this._againLink(replay));
    const facts = element("p", { className: "facts" }, fact(words("Window"), windowText(this._page, replay)), element("b", {}, filterText(this._page, replay)), fact(words("Customer"), String(replay.customer_id)));
    this._panel.replaceChildren(head, facts, this._progress, this._looked, this._waits.node);
    this._deliveries.replaceChildren(this._replayed.node);
  }

  /** Says delivery_count as the sum that it is. */
  _sumNode(replay) {
    const total = element("b", {}, this._page.words("{n}", { n: replay.delivery_count }));
    return element("p", { className: "sum" }, "delivery_count", total, "=", figuresNode(this._page, replay));
  }

  _lookedNodes(replay) {
    const { words } = this._page;
    const bar = element("progress", { value: progressOf(replay), max: 1, ariaLabel: words("Window") });
    const nodes = [bar, element("span", {}, words("looked at up to {time}", { time: moment(this._page, replay.progress_time) }))];
    nodes.push(fact(words("Started"), this._page.clock(milliseconds(replay.create_time))));
    if (replay.finish_time) nodes.push(fact(words("Ended"), this._page.clock(milliseconds(replay.finish_time))));
    return nodes;
  }

  // --- acts ---------------------------------------------------------------------------------------------------------

  _cancelButton() {
    const { words } = this._page;
    const may = this._page.caller?.permissions?.includes("manage") ?? false;
    const button = element("button", { disabled: !may }, words("Cancel replay"));
    if (!may) button.title = words("Needs permission {p}", { p: "manage" });
    button.addEventListener("click", () => this._askToCancel());
    return button;
  }

  async _askToCancel() {
    const { words, api, confirm } = this._page;
    const { replay_id: id, customer_id, pending_count: n, succeeded_count: m } = this._replay;
    const text = words("{n} that wait are cancelled; {m} were sent and stay sent.", { n, m });
    const act = () => api.send("POST", `${this._path}:cancel`, { customer_id });
    await confirm(text, words("Cancel replay"), { title: `${words("Replay")} ${id}`, danger: true, act });
    await this._load();
  }

  /** Returns a link to the wizard with what this replay was made with. */
  _againLink(replay) {
    return element("a", { href: `/replays/new${queryOf(filterOfReplay(replay))}` }, this._page.words("New replay like this one"));
  }
}
