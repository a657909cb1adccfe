// Retry selected: at most fifty deliveries, five at a time, with a result in each row. More are the work of a replay.

import { forEach } from "../data/listing.js";
import { queryOf } from "../data/route.js";
import { visible } from "../data/json-text.js";
import { element } from "./look.js";
import { Selection } from "./selection.js";

const SELECTED_MAX = 50;
const AT_ONCE = 5;

export const RETRY_LOOK = `
.selected { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; min-height: 32px; position: sticky; bottom: 0; }
.result { display: block; font-size: 12px; }
`;

/** What is done with the chosen rows of a list. */
export class RetrySelected {
  /** `restarted(row, delivery)` is called for each row that was restarted, with the delivery as it is now. */
  constructor(page, restarted) {
    this._page = page;
    this._restarted = restarted;
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
    return text && element("span", { className: `result ${colour}` }, text);
  }

  _show() {
    const { words, caller } = this._page;
    const count = this.selection.rows.size;
    this.node.hidden = count === 0;
    const many = element("a", { href: this._replayPath() }, words("Use a replay: it counts first and is paced"));
    const may = caller?.permissions?.includes("manage") ?? false;
    const retry = element("button", { className: "primary", disabled: !may || this._isBusy }, words("Retry selected"));
    if (!may) retry.title = words("Needs permission {p}", { p: "manage" });
    retry.addEventListener("click", () => this._retry());
    const none = element("button", {}, words("Select none"));
    none.addEventListener("click", () => this.selection.clear());
    this.node.replaceChildren(element("span", { role: "status" }, words("{n} selected", { n: count })), count > SELECTED_MAX ? many : retry, none);
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
    let restartedCount = 0;
    const done = (row, delivery, error) => {
      if (delivery) restartedCount += 1;
      this._results.set(row.delivery_id, delivery ? [words("restarted"), "ok"] : [visible(error.message), "bad"]);
      this._restarted(row, delivery ?? row);
    };
    await forEach(rows, (row) => this._send(row), done, { atOnce: AT_ONCE, signal: this._abort.signal });
    this._isBusy = false;
    this.selection.clear();
    this._page.toast(words("{n} of {m} restarted", { n: restartedCount, m: rows.length }));
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
