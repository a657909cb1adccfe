// The bar of what a reader has chosen: how many, what can be done with them, and nothing chosen again.

import { partOf, queryOf } from "../data/route.js";
import { may } from "../shared/act-button.js";
import { addSheet, element, sheetOf } from "../shared/look.js";

/** So many deliveries can be restarted at once; more are the work of a replay. */
export const SELECTED_MAX = 50;

export const SELECTED_LOOK = `
.selected { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; justify-self: start; align-self: start; max-width: 100%; padding: 8px 12px; position: sticky; bottom: 8px; z-index: 2; background: var(--bg); border: 1px solid var(--line); border-radius: 6px; }
.selected.below { position: static; }
`;

const SHEET = sheetOf(SELECTED_LOOK);

/** Shows in `node` what is selected of the live list: `retry()` restarts that. */
export function showSelected(page, node, { list, filter, retry }) {
  if (!node.isConnected) return; // another page is shown by now
  addSheet(node.getRootNode(), SHEET);
  const replayPath = `/replays/new${queryOf(partOf(filter, ["customer_id", "webhook_ids", "event_types", "statuses"]))}`;
  const clear = () => list.clearSelection();
  node.className = "selected below";
  node.hidden = list.selected.size === 0;
  node.replaceChildren(...selectedNodes(page, { count: list.selected.size, replayPath, retry, clear }));
}

/** Returns what stands in the bar: `count` deliveries, `retry()`, `clear()`, and the address of a replay of the list. */
export function selectedNodes(page, { count, isBusy = false, replayPath, retry, clear }) {
  const { words } = page;
  const many = element("a", { href: replayPath }, words("Use a replay: it counts first and is paced"));
  const button = element("button", { type: "button", className: "primary", disabled: !may(page, "manage") || isBusy }, words("Retry selected"));
  if (!may(page, "manage")) button.title = words("Needs permission {p}", { p: "manage" });
  button.addEventListener("click", retry);
  const none = element("button", { type: "button" }, words("Select none"));
  none.addEventListener("click", clear);
  return [element("span", { role: "status" }, words("{n} selected", { n: count })), count > SELECTED_MAX ? many : button, none];
}
