// The list of webhooks, newest first: where each stands, and how it has been doing in the last 24 hours.

import { visible } from "../data/json-text.js";
import { queryOf } from "../data/route.js";
import { seconds, span } from "../data/time.js";
import { actButton } from "../shared/act-button.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { breakerWord, failingText, webhookStatusNode } from "../shared/facts.js";
import { showFirstRun } from "./first-run.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";

const PAGE_SIZE = 50;
const EVENTS_SHOWN = 3;
const STATS_MILLISECONDS = 60_000; // for so long numbers are kept
const STATS_MAX = 500;
const RATE_BAD = 0.5; // below it most requests fail
const LABELS = ["Success rate, last 24 hours", "Oldest due", "Customer"];
const STATUSES = { active: "Active", paused: "Paused", disabled: "Disabled" };

// Numbers by webhook_id, with when they were asked; written by statsOf only.
const kept = new Map();

export const LOOK = `${DETAIL_LOOK}
.list { width: 100%; border-collapse: collapse; font-size: 14px; }
.list th { text-align: left; color: var(--muted); font-size: 12px; font-weight: 400; }
.list td, .list th { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--surface); overflow-wrap: anywhere; }
@media (max-width: 720px) {
  .list thead { display: none; }
  .list tr { display: grid; grid-template-columns: 1fr 1fr; padding: 8px 0; border-bottom: 1px solid var(--line); }
  .list td { border: 0; padding: 2px 8px 2px 0; }
  .list td[data-label]::before { content: attr(data-label) " "; color: var(--muted); font-size: 12px; }
}
`;

/** Shows the webhooks, newest first. */
export function view(page, { filter }) {
  return new WebhooksView(page, filter);
}

class WebhooksView {
  constructor(page, filter) {
    const { words } = page;
    this._page = page;
    this._filter = filter;
    this._token = "";
    this._abort = new AbortController();
    this._isOperator = !page.caller.customer_id;
    this._body = element("tbody", {});
    this._problem = element("div", {});
    this._more = element("button", { hidden: true }, words("Look further back"));
    this._more.addEventListener("click", () => this._load());
    this._seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => this._numbers(target)));
    this._table = element("table", { className: "list", hidden: true }, this._headNode(), this._body);
    this.node = element("main", { className: "detail" }, this._lineNode(), this._table, this._problem, this._more);
    this._load();
  }

  stop() {
    this._abort.abort();
    this._seen.disconnect();
  }

  async _load() {
    const { _page: page, _filter: filter } = this;
    const query = new URLSearchParams({ page_size: String(PAGE_SIZE) });
    if (filter.customer_id) query.set("customer_id", filter.customer_id);
    if (filter.statuses) query.set("statuses", filter.statuses.join(","));
    if (this._token) query.set("page_token", this._token);
    this._problem.replaceChildren();
    try {
      const found = await page.api.get(`/api/webhooks?${query}`, this._abort);
      found.webhooks.forEach((webhook) => this._add(webhook));
      this._token = found.next_page_token ?? "";
      this._more.hidden = !this._token;
      this._table.hidden = !this._body.childElementCount;
      if (this._table.hidden) await this._nothing();
    } catch (error) {
      if (error.name !== "AbortError") this._problem.append(problemNode(page, error, () => this._load()));
    }
  }

  async _nothing() {
    if (!this._filter.statuses) await showFirstRun(this._page, this._filter.customer_id, this._problem);
    else this._problem.append(element("p", { className: "note" }, this._page.words("Nothing fits these filters")));
  }

  _lineNode() {
    const { words } = this._page;
    const status = element("select", { ariaLabel: words("Status") }, new Option(words("Status"), ""), ...Object.entries(STATUSES).map(([name, word]) => new Option(words(word), name)));
    status.value = this._filter.statuses?.[0] ?? "";
    status.addEventListener("change", () => this._page.go(`/webhooks${queryOf({ ...this._filter, statuses: status.value ? [status.value] : [] })}`));
    const create = actButton(this._page, words("Create webhook"), () => this._page.go(`/webhooks/new${queryOf({ customer_id: this._filter.customer_id })}`), { className: "primary" });
    return element("div", { className: "buttons" }, create, status);
  }

  _headNode() {
    const names = ["Status", "Webhook", "URL", "Subscribed events", "Success rate, last 24 hours", "Oldest due", ...(this._isOperator ? ["Customer"] : [])];
    return element("thead", {}, element("tr", {}, ...names.map((name) => element("th", {}, this._page.words(name)))));
  }

  _add(webhook) {
    const more = webhook.events.length > EVENTS_SHOWN ? ` +${webhook.events.length - EVENTS_SHOWN}` : "";
    const link = element("a", { href: `/webhooks/${webhook.webhook_id}?customer_id=${webhook.customer_id}` }, `${visible(webhook.name)} #${webhook.webhook_id}`);
    const cells = [webhookStatusNode(this._page, webhook), link, hostOf(webhook.url), element("code", {}, visible(webhook.events.slice(0, EVENTS_SHOWN).join(", ") + more))];
    const row = element("tr", {}, ...cells.map((cell) => element("td", {}, cell)), element("td", {}, "…"), element("td", {}, "…"));
    if (this._isOperator) row.append(element("td", {}, String(webhook.customer_id)));
    [...row.children].slice(4).forEach((cell, index) => (cell.dataset.label = this._page.words(LABELS[index]))); // of a card
    row.webhook = webhook;
    row.dataset.id = webhook.webhook_id; // by which keys find rows
    this._body.append(row);
    this._seen.observe(row);
  }

  /** Fills in the numbers of a row that is seen. They are asked once for a row; calls take turns, four at once. */
  async _numbers(row) {
    this._seen.unobserve(row);
    const [rate, oldest] = [row.children[4], row.children[5]];
    try {
      const stats = await statsOf(this._page, row.webhook, this._abort);
      rate.textContent = stats.attempt_count ? `${(stats.success_rate * 100).toFixed(1)} %` : "–";
      if (stats.attempt_count && stats.success_rate < RATE_BAD) rate.className = "bad";
      row.children[0].append(troubleNode(this._page, stats));
      rate.title = this._page.words("{rate} % of {n} attempts", { rate: (stats.success_rate * 100).toFixed(1), n: stats.attempt_count });
      if (stats.truncated) rate.title += ` ${this._page.words("of the latest million attempts")}`;
      oldest.textContent = stats.oldest_due_age ? span(seconds(stats.oldest_due_age)) : "–";
    } catch (error) {
      if (error.name === "AbortError") return;
      for (const cell of [rate, oldest]) Object.assign(cell, { textContent: "?", title: error.message });
    }
  }
}

/** Returns what is wrong with an active webhook's receiver: that its breaker is open, or since when it has failed. */
function troubleNode(page, stats) {
  const said = stats.breaker_state === "closed" ? failingText(page, stats) : breakerWord(page, stats.breaker_state);
  return element("div", { className: "bad" }, said);
}

async function statsOf(page, webhook, abort) {
  const id = String(webhook.webhook_id);
  const before = kept.get(id);
  if (before && page.now() - before.at < STATS_MILLISECONDS) return before.stats;
  const stats = await page.api.get(`/api/webhooks/${id}/stats?customer_id=${webhook.customer_id}`, abort);
  kept.delete(id);
  kept.set(id, { at: page.now(), stats });
  if (kept.size > STATS_MAX) kept.delete(kept.keys().next().value);
  return stats;
}

function hostOf(url) {
  try {
    return visible(new URL(url).host);
  } catch {
    return "";
  }
}
