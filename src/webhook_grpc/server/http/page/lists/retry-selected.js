// Retry selected: at most fifty deliveries, five at a time, with a result in each row. More are the work of a replay.

import { forEach } from "../data/listing.js";
import { queryOf } from "../data/route.js";
import { visible } from "../data/json-text.js";
import { element } from "../shared/look.js";
import { SELECTED_LOOK, selectedNodes } from "./selected-bar.js";
import { Selection } from "./selection.js";

const AT_ONCE = 5;
const LOOK_AGAIN_SECONDS = [1, 2, 4, 8, 15]; // waits before what is still pending is looked at again

export const RETRY_LOOK = `${SELECTED_LOOK}
.result { font-size: 12px; overflow: hidden; text-overflow: ellipsis; }
`;

/** What is done with the chosen rows of a list. */
export class RetrySelected {
  /** `changed(delivery)` is called when the row of a delivery has to be written again, with the delivery as it is now. */
  constructor(page, changed) {
    this._page = page;
    this._changed = changed;
    this._results = new Map();
    this._requests = new Map(); // ids that make a repeated request act once, by delivery
    this._abort = new AbortController();
    this.node = element("div", { className: "selected", hidden: true });
    this.selection = new Selection({ words: page.words, idOf: (row) => row.delivery_id, changed: () => this._show() });
  }

  /** Begins with another filter of the list; the results of before are forgotten. */
  begin(filter) {
    this._filter = filter;
    this._results.clear();
    this._requests.clear();
  }

  stop() {
    this._abort.abort();
  }

  /** Returns what came of a row's retry; an empty text as long as there was none. */
  resultOf({ delivery_id: id }) {
    const [text, colour] = this._results.get(id) ?? ["", ""];
    return text && element("span", { className: `result ${colour}`, title: text }, text);
  }

  _show() {
    const count = this.selection.rows.size;
    this.node.hidden = count === 0;
    const acts = { retry: () => this._retry(), clear: () => this.selection.clear() };
    this.node.replaceChildren(...selectedNodes(this._page, { count, isBusy: this._isBusy, replayPath: this._replayPath(), ...acts }));
  }

  /** Returns the address of a new replay of what the list shows. */
  _replayPath() {
    const { webhook_ids, event_types, statuses, start_time, end_time, customer_id } = this._filter;
    return `/replays/new${queryOf({ webhook_ids, event_types, statuses, start_time, end_time, customer_id })}`;
  }

  async _retry() {
    const { words } = this._page;
    const rows = [...this.selection.rows.values()];
    for (const { delivery_id: id } of rows) this._requests.set(id, crypto.randomUUID());
    if (!(await this._page.confirm(this._question(rows), words("Retry selected")))) return;
    this._isBusy = true;
    this._show();
    const restarted = [];
    const done = (row, delivery, error) => {
      this._results.set(row.delivery_id, delivery ? [words("restarted"), "ok"] : [visible(error.message), "bad"]);
      if (delivery) restarted.push(delivery);
      this._changed(delivery ?? row);
    };
    await forEach(rows, (row) => this._send(row), done, { atOnce: AT_ONCE, signal: this._abort.signal });
    this._isBusy = false;
    this.selection.clear();
    this._page.toast(words("{n} of {m} restarted", { n: restarted.length, m: rows.length }));
    await this._follow(restarted);
  }

  /** Looks again at what was restarted, until it has ended or half a minute is over. */
  async _follow(deliveries) {
    const { signal } = this._abort;
    let pending = deliveries;
    for (const seconds of LOOK_AGAIN_SECONDS) {
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      if (signal.aborted || !pending.length) return;
      const left = [];
      const done = (before, delivery) => {
        if (delivery) this._changed(delivery);
        if (!delivery || delivery.status === "pending") left.push(before); // what can't be read is read again
      };
      await forEach(pending, (one) => this._page.api.get(pathOf(one), { signal }), done, { atOnce: AT_ONCE, signal });
      pending = left;
    }
  }

  _question(rows) {
    const { words } = this._page;
    const answered = rows.filter((row) => row.status === "succeeded").length;
    const texts = [words("Restarts {n} deliveries: one attempt each, not repeated if it fails.", { n: rows.length })];
    if (answered) texts.push(words("The receivers of {n} of them have answered already; they get the same webhook-id once more.", { n: answered }));
    return texts.join(" ");
  }

  _send({ delivery_id: id, customer_id: customerId }) {
    const options = { requestId: this._requests.get(id), signal: this._abort.signal };
    return this._page.api.send("POST", `/api/deliveries/${id}:retry`, { customer_id: customerId }, options);
  }
}

function pathOf({ delivery_id: id, customer_id: customerId }) {
  return `/api/deliveries/${id}?customer_id=${customerId}`;
}
