// One webhook: how it is doing, in numbers and in charts, what may be done with it, and what went to it lately.

import { queryOf } from "../data/route.js";
import { delayText } from "../data/webhook-draft.js";
import { absolute, iso, milliseconds, seconds, span } from "../data/time.js";
import { LOOK as CHART_LOOK, bars, stack, steps } from "../shared/chart.js";
import "../live/webhook-deliveries.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { LOOK as FORM_LOOK } from "../shared/form-fields.js";
import { element } from "../shared/look.js";
import { LOOK as MENU_LOOK } from "../shared/menu.js";
import { SHARE_LOOK } from "../shared/share-bar.js";
import { problemNode } from "../shared/problem.js";
import { webhookActs } from "./webhook-acts.js";
import { headNodes, nowNode, settingsNode, windowNode } from "./webhook-panels.js";

const NOW_MILLISECONDS = 10_000;
const WAITS_MAX = 360; // an hour of them
// Window and width of a bin, in seconds, and the window in words.
const WINDOWS = {
  "1 h": [3600, 300, "Last hour"],
  "24 h": [86_400, 3600, "Last 24 hours"],
  "7 d": [604_800, 21_600, "Last 7 days"],
  "31 d": [2_678_400, 86_400, "Last 31 days"],
};

export const LOOK = `${DETAIL_LOOK}${CHART_LOOK}${MENU_LOOK}${FORM_LOOK}${SHARE_LOOK}
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 12px; }
.tall { height: 420px; }
.charts { display: grid; gap: 16px; }
.charts .grid { gap: 16px 24px; }
.endings { display: flex; flex-wrap: wrap; gap: 2px 12px; }
.answer { margin-top: 8px; }
[aria-pressed="true"] { border-color: var(--accent); color: var(--accent); }
`;

/** Shows one webhook. Its numbers are read again each ten seconds while the page is visible. */
export function view(page, { id, filter }) {
  return new WebhookView(page, id, filter);
}

class WebhookView {
  constructor(page, id, filter) {
    this._page = page;
    this._id = id;
    this._customer = filter.customer_id ? `?customer_id=${encodeURIComponent(filter.customer_id)}` : "";
    this._window = "24 h";
    this._waits = []; // how long the oldest due delivery had waited, each time that the numbers were read
    this._abort = new AbortController();
    this._result = element("div", { role: "status" });
    this._slots = { head: element("div", {}), numbers: element("div", { className: "grid" }), charts: element("div", {}), list: element("div", {}), settings: element("div", {}) };
    this.node = element("main", { className: "detail" }, ...Object.values(this._slots));
    this.node.addEventListener("acted", () => this._load(true));
    this._timer = setInterval(() => document.hidden || this._load(false), NOW_MILLISECONDS);
    this._load(true);
  }

  /** Goes on with another token. */
  signedIn() {
    this._load(true);
  }

  stop() {
    this._abort.abort();
    clearInterval(this._timer);
  }

  /** Loads all. Unless `isWanted`, what the reader points at or has the focus in stays as it is. */
  async _load(isWanted) {
    const { _page: page, _abort: abort } = this;
    try {
      const webhook = await page.api.get(`/api/webhooks/${this._id}${this._customer}`, abort);
      const stats = await this._stats(webhook);
      this._put("head", isWanted, this._head(webhook, stats.problem ? undefined : stats));
      this._put("settings", isWanted, settingsNode(page, webhook));
      if (!this._slots.list.firstChild) this._slots.list.append(...listNodes(page, webhook));
      if (stats.problem) return this._put("numbers", isWanted, problemNode(page, stats.problem, () => this._load(true)));
      this._remember(stats);
      this._put("numbers", isWanted, windowNode(page, stats, page.words(WINDOWS[this._window][2])), nowNode(page, webhook, stats));
      this._put("charts", isWanted, this._charts(webhook, stats));
    } catch (error) {
      if (error.name !== "AbortError") this._put("head", isWanted, problemNode(page, error, () => this._load(true)));
    }
  }

  _remember(stats) {
    const label = absolute(this._page.now(), { ...this._page.options, fraction: false });
    this._waits.push({ label, until: label, value: stats.oldest_due_age ? seconds(stats.oldest_due_age) : 0 });
    if (this._waits.length > WAITS_MAX) this._waits.shift();
  }

  /** Returns the numbers, or {problem}: the other panels go on without them. */
  async _stats(webhook) {
    const [length, width] = WINDOWS[this._window];
    const end = Math.ceil(this._page.now() / 1000); // whole seconds, so that the bins fit the window
    const times = `start_time=${iso((end - length) * 1000)}&end_time=${iso(end * 1000)}`;
    const query = `customer_id=${webhook.customer_id}&${times}&bin_width=${width}s`;
    try {
      return await this._page.api.get(`/api/webhooks/${this._id}/stats?${query}`, this._abort);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return { problem: error };
    }
  }

  _put(name, isWanted, ...nodes) {
    const slot = this._slots[name];
    if (!isWanted && slot.matches(":hover, :focus-within")) return;
    const buttons = () => [...slot.querySelectorAll("button, summary, [role=slider]")];
    const focused = buttons().findIndex((button) => button.matches(":focus"));
    slot.replaceChildren(...nodes);
    buttons()[focused]?.focus(); // the focus stays where it was
  }

  _head(webhook, stats) {
    const nodes = headNodes(this._page, webhook, stats);
    return element("section", { className: "panel" }, ...nodes, webhookActs(this._page, webhook, stats, this._result), this._result);
  }

  _charts(webhook, stats) {
    const { words } = this._page;
    const clock = (time) => absolute(milliseconds(time), { ...this._page.options, fraction: false });
    const open = (index) => this._page.go(`/attempts${queryOf(binFilter(webhook, stats, index))}`);
    const times = (bin, index) => ({ label: clock(bin.start_time), until: clock(stats.bins[index + 1]?.start_time ?? stats.end_time) });
    const classes = stats.bins.map((bin, index) => ({ ...times(bin, index), ...classesOf(bin) }));
    const value = (text) => (text ? seconds(text) : NaN);
    const latencies = stats.bins.map((bin, index) => ({ ...times(bin, index), p50: value(bin.latency_p50), p95: value(bin.latency_p95), p99: value(bin.latency_p99) }));
    const limit = seconds(webhook.timeout) || 15;
    const title = `${words("Attempts by outcome")}, ${words("each {span}", { span: delayText(WINDOWS[this._window][1]) })}`;
    const latency = `${words("Latency")}, ${words("logarithmic")}`;
    const oldest = `${words("Oldest due")}, ${words("since this page was opened")}`;
    const figures = [stack(title, classes, words, open), steps(latency, latencies, limit, words, open), bars(oldest, this._waits, span, words)];
    return element("section", { className: "panel charts" }, this._choice(), element("div", { className: "grid" }, ...figures));
  }

  _choice() {
    const buttons = Object.keys(WINDOWS).map((name) => {
      const button = element("button", { type: "button", ariaPressed: String(name === this._window) }, name);
      button.addEventListener("click", () => ((this._window = name), this._load(true)));
      return button;
    });
    return element("div", { className: "buttons" }, ...buttons);
  }
}

function classesOf(bin) {
  const found = { good: 0, error: 0, silent: 0 };
  for (const { outcome, count } of bin.outcomes) found[outcome === "succeeded" ? "good" : outcome === "http_error" ? "error" : "silent"] += count;
  return found;
}

/** Returns the filter of the attempts of one bin. */
function binFilter(webhook, stats, index) {
  return {
    customer_id: String(webhook.customer_id),
    webhook_ids: [String(webhook.webhook_id)],
    start_time: stats.bins[index].start_time,
    end_time: stats.bins[index + 1]?.start_time ?? stats.end_time,
  };
}

/** Returns the live list of the webhook's deliveries, with the ways to the lists of all. */
function listNodes(page, webhook) {
  const { words } = page;
  const query = queryOf({ customer_id: String(webhook.customer_id), webhook_ids: [String(webhook.webhook_id)] });
  const list = document.createElement("webhook-deliveries");
  Object.assign(list, { getToken: page.getToken, language: page.language, utc: page.utc, customerId: String(webhook.customer_id), webhookIds: [String(webhook.webhook_id)] });
  list.className = "tall";
  list.addEventListener("delivery-open", ({ detail }) => page.go(`/deliveries/${detail.deliveryId}?customer_id=${webhook.customer_id}`));
  const links = [["All deliveries", "deliveries"], ["All attempts", "attempts"]].map(([word, path]) => element("a", { href: `/${path}${query}` }, `${words(word)} →`));
  return [list, element("p", { className: "facts" }, ...links)];
}
