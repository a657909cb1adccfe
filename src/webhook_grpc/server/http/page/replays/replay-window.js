// Step 1 of the replay wizard: which time. Presets fill in two fields; an empty end is now.

import { before, fieldOf, timeOf } from "../data/period.js";
import { WINDOW_DAYS_MAX } from "../data/replay.js";
import { absolute, milliseconds } from "../data/time.js";
import { disabledSince } from "../shared/facts.js";
import { element } from "../shared/look.js";

const HOUR_MILLISECONDS = 3_600_000;
const ASKED_MAX = 10; // webhooks
const STATS_SECONDS = 60; // the shortest window: only since when it fails is wanted

/** The fields of the window. `changed({start, end})` is called with what a person has chosen. */
export class WindowStep {
  constructor(page, changed) {
    this._page = page;
    this._changed = changed;
    this._turn = 0; // of the questions about webhooks: only the last one's answer counts
    this._start = this._field("start");
    this._end = this._field("end");
    this._fault = element("p", { className: "bad", role: "alert", id: "window-fault" });
    this._since = element("span", { className: "buttons" });
    this.node = this._makeNode();
  }

  /** Shows a window, and what is wrong with it. */
  show({ start, end }, fault) {
    for (const [input, at] of [[this._start, start], [this._end, end]]) {
      const isTyped = input.getRootNode().activeElement === input; // a field that is half filled in says nothing
      if (!isTyped) input.value = fieldOf(at, this._page.utc);
    }
    this._start.setAttribute("aria-invalid", String(Boolean(fault)));
    this._fault.textContent = fault && this._page.words(fault, { n: WINDOW_DAYS_MAX });
  }

  /** Offers the times since when these webhooks (as ListWebhooks returns them) have been failing, or are disabled. */
  async offer(webhooks) {
    const turn = ++this._turn;
    const found = await Promise.all(webhooks.slice(0, ASKED_MAX).map((webhook) => this._sinceOf(webhook)));
    if (turn !== this._turn) return;
    const earliest = (name) => Math.min(...found.map((one) => one[name]).filter((at) => !Number.isNaN(at)));
    this._since.replaceChildren(
      ...this._preset("Since it has been failing", earliest("failing")),
      ...this._preset("Since it was disabled", earliest("disabled")),
    );
  }

  async _sinceOf(webhook) {
    const start = new Date(this._page.now() - STATS_SECONDS * 1000).toISOString();
    const path = `/api/webhooks/${webhook.webhook_id}/stats?customer_id=${webhook.customer_id}&start_time=${start}`;
    const stats = await this._page.api.get(path).catch(() => ({})); // without them a preset is missing, no more
    const disabled = webhook.status === "disabled" ? disabledSince(webhook)[1] : NaN;
    return { failing: milliseconds(stats.failing_since_time), disabled };
  }

  _preset(word, at) {
    if (!Number.isFinite(at)) return [];
    return [this._button(`${this._page.words(word)} (${absolute(at, { ...this._page.options, fraction: false })})`, () => before(at, 0))];
  }

  _makeNode() {
    const { words } = this._page;
    const hour = this._button(words("Last hour"), () => before(this._page.now(), HOUR_MILLISECONDS));
    const day = this._button(words("Last 24 hours"), () => before(this._page.now(), 24 * HOUR_MILLISECONDS));
    const label = (word, input) => element("label", {}, element("span", {}, words(word)), input);
    const zone = this._page.utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
    const hint = element("p", { className: "muted" }, words("Times in {zone}, at most {n} days. An empty end is now.", { zone, n: WINDOW_DAYS_MAX }));
    return element(
      "fieldset",
      { className: "panel step" },
      element("legend", {}, `1 · ${words("Window")}`),
      element("div", { className: "buttons" }, hour, day, this._since),
      element("div", { className: "fields" }, label("From", this._start), label("To", this._end)),
      hint,
      this._fault,
    );
  }

  _button(text, startOf) {
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => this._changed({ start: startOf(), end: "" }));
    return button;
  }

  _field(name) {
    const input = element("input", { type: "datetime-local", step: "1", "aria-describedby": "window-fault" });
    input.addEventListener("input", () => this._changed({ [name]: timeOf(input.value, this._page.utc) }));
    return input;
  }
}
