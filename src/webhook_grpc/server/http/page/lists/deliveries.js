// The history of deliveries, newest event first, with the columns of the live list. Several can be restarted at once.

import { queryOf } from "../data/route.js";
import { STATUSES, rowOf } from "../data/store.js";
import { Names, answer, code, customerColumn, latency, next, trail } from "../shared/cells.js";
import { stateNode } from "../shared/facts.js";
import { Holds } from "../shared/holds.js";
import { history, linkTo } from "./history.js";
import { LIST_LOOK } from "./list-look.js";
import { RETRY_LOOK, RetrySelected } from "./retry-selected.js";

export const LOOK = LIST_LOOK + RETRY_LOOK;

const FIELDS = [
  { kind: "many", name: "statuses", word: "Status", options: STATUSES },
  { kind: "list", name: "event_types", word: "Event type", hint: "job.*" },
  { kind: "list", name: "webhook_ids", word: "Webhook", hint: "12, 15" },
  { kind: "text", name: "event_id", word: "Event", hint: "evt_…" },
  { kind: "text", name: "replay_id", word: "Replay" },
  { kind: "period", name: "period" },
];

/** Shows the history of deliveries. */
export function view(page, route) {
  const names = new Names(page.api);
  const retries = new RetrySelected(page, (delivery) => shown.list.replace((row) => row.delivery_id === delivery.delivery_id, (before) => rowOf(delivery, before)));
  retries.begin(route.filter);
  const shown = history(page, route, {
    title: "Deliveries",
    order: "newest event first",
    address: "/deliveries",
    fields: FIELDS,
    columns: columnsOf(page, names, retries),
    hrefOf: (row) => `/deliveries/${row.delivery_id}${queryOf({ customer_id: String(row.customer_id) })}`,
    path: "/api/deliveries",
    copied: { method: "ListDeliveries", statuses: "DELIVERY_STATUS" },
    name: "deliveries",
    rowOf: (delivery) => rowOf(delivery),
    isTimed: true,
    links: (filter) => [linkTo(page, "/attempts", "All attempts", filter)],
    below: [retries.node],
    selection: retries.selection,
  });
  const update = (next) => {
    retries.begin(next.filter);
    return shown.update(next);
  };
  const key = (event) => shown.key(event) || keyOfRow(page, shown, event.key);
  return { ...shown, key, update, stop: () => (names.stop(), retries.stop(), shown.stop()) };
}

/** Carries out the key of an act on the row that has the focus. Returns whether there is one. */
function keyOfRow(page, { list, node }, key) {
  const row = list.current;
  if (!row || !"rtcy".includes(key)) return false;
  import("./row-acts.js").then(({ actOn }) => actOn(page, node.getRootNode(), key, row));
  return true;
}

function columnsOf(page, names, retries) {
  const holds = new Holds(page.api);
  return [
    { word: "Status", width: "160px", cell: (row) => [stateNode(page, row.status), retries.resultOf(row)] },
    { word: "Attempts", width: "96px", cell: (row) => trail(page, row), isSpare: true },
    { word: "Event type", width: "minmax(0, 1.4fr)", cell: (row) => code(row.event_type) },
    { word: "Webhook", width: "minmax(0, 1fr)", cell: (row) => names.nodeOf(row) },
    { word: "Answer", width: "minmax(0, 1.3fr)", cell: (row) => answer(page, row.last_attempt) },
    { word: "Latency", width: "80px", cell: (row) => latency(row.last_attempt), isSpare: true },
    { word: "Next", width: "120px", cell: (row) => next(page, row, holds) },
    ...customerColumn(page),
  ];
}
