// The replay wizard: which time, what, and how many deliveries that is. Nothing starts before it was counted.

import { faultsOf, filterOfForm, formOf, isTyped, replayOf } from "../data/replay.js";
import { queryOf } from "../data/route.js";
import { milliseconds } from "../data/time.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";
import { filterText, moment, windowText } from "./replay-facts.js";
import { WhatStep } from "./replay-what.js";
import { WindowStep } from "./replay-window.js";

const BUSY = "TOO_MANY_DRY_RUNS";
const TRIES_MAX = 20; // while other counts are in progress: about two minutes

export const LOOK = `${DETAIL_LOOK}
.wizard { max-width: 880px; }
.step { display: grid; gap: 12px; margin: 0; min-width: 0; }
.step legend { font-weight: 600; padding: 0 4px; }
.step p { margin: 0; }
.step p:empty { display: none; }
.fields { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; }
.fields label { min-width: 0; }
.fields label:has(input:not([type="checkbox"])) { flex-wrap: wrap; }
.fields input { max-width: 100%; }
.choices { display: grid; gap: 4px; max-height: 216px; overflow: auto; }
.choices label { min-height: 24px; flex-wrap: wrap; overflow-wrap: anywhere; }
.counted { font-size: 16px; display: block; }
`;

/** Shows the wizard, filled in from the address. */
export function view(page, { filter }) {
  return new WizardView(page, filter);
}

class WizardView {
  constructor(page, filter) {
    this._page = page;
    this._form = formOf(filter, page.now());
    this._window = new WindowStep(page, (part) => this._change(part));
    this._what = new WhatStep(page, (part) => this._change(part), (webhooks) => this._window.offer(webhooks));
    this._said = element("output", { className: "counted" });
    this._problem = element("div", {});
    this._count = element("button", { type: "button" }, page.words("Count"));
    this._start = element("button", { type: "button", className: "primary" }, page.words("Start replay"));
    this._count.addEventListener("click", () => this._askCount());
    this._start.addEventListener("click", () => this._askStart());
    this.node = element("main", { className: "detail wizard" }, element("h2", { className: "title" }, page.words("New replay")), this._window.node, this._what.node, this._countNode());
    this._show();
  }

  stop() {
    this._withdraw();
    this._what.stop();
  }

  /** Keeps what is filled in when the page has got another token. */
  signedIn() {
    this._what.forget();
    this._show();
  }

  _countNode() {
    const { words } = this._page;
    const hint = element("p", { className: "muted" }, words("Each delivery gets one attempt, with the same webhook-id, after live traffic. What receivers had already, they get once more."));
    return element("fieldset", { className: "panel step" }, element("legend", {}, `3 · ${words("Count")}`), hint, this._said, this._problem, element("div", { className: "buttons" }, this._count, this._start));
  }

  _change(part) {
    Object.assign(this._form, part);
    history.replaceState(history.state, "", `/replays/new${queryOf(filterOfForm(this._form))}`); // a reload shows the same
    this._withdraw();
    this._show();
  }

  /** Takes back what was counted: it is about something else. */
  _withdraw() {
    this._counting?.abort();
    this._counting = undefined;
    this._counted = undefined;
    clearTimeout(this._waiting);
    this._said.textContent = "";
    this._problem.replaceChildren();
  }

  _show() {
    const faults = faultsOf(this._form, this._page.now(), this._page.caller?.customer_id);
    const may = this._page.caller?.permissions?.includes("manage") ?? false;
    const isRight = !faults.window && !faults.what;
    this._window.show(this._form, faults.window);
    this._what.show(this._form, faults.what);
    this._count.disabled = !may || !isRight || Boolean(this._counting);
    this._start.disabled = !may || !Number(this._counted?.delivery_count);
    for (const button of [this._count, this._start]) button.title = may ? "" : this._page.words("Needs permission {p}", { p: "manage" });
  }

  // --- the count ----------------------------------------------------------------------------------------------------

  async _askCount(tries = 1) {
    this._withdraw();
    const counting = (this._counting = new AbortController());
    this._said.textContent = this._page.words("Counting …");
    this._show();
    try {
      const body = { replay: replayOf(this._form), dry_run: true };
      const counted = await this._page.api.send("POST", "/api/replays", body, counting);
      if (counting === this._counting) this._showCount(counted);
    } catch (error) {
      if (counting === this._counting) this._failed(error, tries);
    }
  }

  _showCount(counted) {
    const text = this._countText(counted); // before anything is changed: what it throws is shown as a problem
    this._counting = undefined;
    this._counted = { ...counted, requestId: crypto.randomUUID() };
    this._said.textContent = text;
    this._show();
  }

  _failed(error, tries) {
    if (error.reason === BUSY && tries < TRIES_MAX) return this._countLater(error.retrySeconds ?? 1, tries);
    this._withdraw();
    this._problem.replaceChildren(problemNode(this._page, error, () => this._askCount()));
    this._page.refused(error);
    this._show();
  }

  /** Counts again by itself: another count is in progress. */
  _countLater(seconds, tries) {
    this._said.textContent = this._page.words("Another count is in progress; counts in {n} s.", { n: seconds });
    this._waiting = setTimeout(() => this._askCount(tries + 1), seconds * 1000);
  }

  _countText(counted) {
    const { words } = this._page;
    const ids = this._form.webhookIds;
    const where = !ids.length ? words("all webhooks") : ids.length === 1 ? words("1 webhook") : words("{m} webhooks", { m: ids.length });
    const n = counted.delivery_count;
    const said = n === 1 ? words("Would send 1 delivery to {where}", { where }) : words("Would send {n} deliveries to {where}", { n, where });
    const isAll = milliseconds(counted.progress_time) >= milliseconds(counted.end_time);
    return isAll ? said : `${said}, ${words("at least; counted up to {time}", { time: moment(this._page, counted.progress_time) })}`;
  }

  // --- the start ----------------------------------------------------------------------------------------------------

  /** Starts what was counted, up to the time at which it was counted. A large number has to be typed first. */
  async _askStart() {
    const { words, confirm } = this._page;
    const counted = this._counted;
    if (!isTyped(this._form, counted.delivery_count)) return this._startIt(counted).catch((error) => this._notStarted(error));
    const confirmText = String(counted.delivery_count);
    const act = () => this._startIt(counted);
    const about = element("div", { className: "muted" }, `${windowText(this._page, counted)} · ${filterText(this._page, counted)}`);
    const said = element("div", {}, this._said.textContent);
    await confirm([said, about], words("Start replay"), { confirmText, confirmLabel: words("Type the number"), act });
  }

  /** Starts a replay once, however often it is called for the same count. */
  async _startIt({ end_time, requestId }) {
    this._start.disabled = true;
    try {
      const replay = { ...replayOf(this._form), end_time };
      const started = await this._page.api.send("POST", "/api/replays", { replay }, { requestId });
      this._page.go(`/replays/${started.replay_id}?customer_id=${started.customer_id}`);
    } finally {
      this._show();
    }
  }

  _notStarted(error) {
    this._problem.replaceChildren(problemNode(this._page, error));
    this._page.refused(error);
  }
}
