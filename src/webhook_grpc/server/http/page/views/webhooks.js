// The list of webhooks, newest first.

import { visible } from "../data/json-text.js";
import { queryOf } from "../data/route.js";
import { DETAIL_LOOK } from "../parts/detail-look.js";
import { webhookStatusNode } from "../parts/facts.js";
import { element } from "../parts/look.js";
import { problemNode } from "../parts/problem.js";

const PAGE_SIZE = 50;

export const LOOK = `${DETAIL_LOOK}
.list { width: 100%; border-collapse: collapse; font-size: 14px; }
.list th { text-align: left; color: var(--muted); font-size: 12px; font-weight: 400; }
.list td, .list th { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--surface); }
`;

/** Shows the webhooks, newest first. */
export function view(page, { filter }) {
  const { words } = page;
  const body = element("tbody", {});
  const more = element("button", { hidden: true }, words("Look further back"));
  const node = element("main", { className: "detail" }, element("table", { className: "list" }, headNode(words), body), more);
  const abort = new AbortController();
  let token = "";
  const load = async () => {
    const query = queryOf({ customer_id: filter.customer_id });
    const path = `/api/webhooks${query || "?"}${query ? "&" : ""}page_size=${PAGE_SIZE}${token && `&page_token=${encodeURIComponent(token)}`}`;
    try {
      const found = await page.api.get(path, abort);
      body.append(...found.webhooks.map((webhook) => rowNode(page, webhook)));
      if (!body.childElementCount) node.append(element("p", { className: "note" }, words("No webhook yet")));
      token = found.next_page_token ?? "";
      more.hidden = !token;
    } catch (error) {
      if (error.name !== "AbortError") node.append(problemNode(page, error, load));
    }
  };
  more.addEventListener("click", load);
  load();
  return { node, stop: () => abort.abort() };
}

function headNode(words) {
  const names = ["Status", "Webhook", "URL", "Subscribed events", "Customer"];
  return element("thead", {}, element("tr", {}, ...names.map((name) => element("th", {}, words(name)))));
}

function rowNode(page, webhook) {
  const events = webhook.events.slice(0, 3).join(", ") + (webhook.events.length > 3 ? ` +${webhook.events.length - 3}` : "");
  return element(
    "tr",
    {},
    element("td", {}, webhookStatusNode(page, webhook)),
    element("td", {}, element("a", { href: `/webhooks/${webhook.webhook_id}?customer_id=${webhook.customer_id}` }, `${visible(webhook.name)} #${webhook.webhook_id}`)),
    element("td", {}, hostOf(webhook.url)),
    element("td", { className: "code" }, visible(events)),
    element("td", {}, String(webhook.customer_id)),
  );
}

function hostOf(url) {
  try {
    return visible(new URL(url).host);
  } catch {
    return "";
  }
}
