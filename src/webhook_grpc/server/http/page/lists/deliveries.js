// The history of deliveries, newest event first, with the columns of the live list. Several can be restarted at once.

import { queryOf } from "../data/route.js";
import { STATUSES, rowOf } from "../data/store.js";
import { Names, answer, code, customerColumn, latency, next, trail } from "../shared/cells.js";
import { stateNode } from "../shared/facts.js";
import { history, linkTo } from "./history.js";
import { LIST_LOOK } from "./list-look.js";
import { RETRY_LOOK, RetrySelected } from "./retry-selected.js";

export const LOOK = LIST_LOOK + RETRY_LOOK;

const FIELDS = [
  { kind: "many", name: "statuses", word: "Status", options: STATUSES },
  { kind: "list", name: "event_types", word: "Event type", hint: "job.*" },
  { kind: "list", name: "webhook_ids", word: "Webhook", hint: "12, 15" },
  { kind: "text", name: "event_id", word: "Event", hint: "evt_…" },
  { kind: "period", name: "period" },
];

/** Shows the history of deliveries. */
export function view(page, route) {
  const names = new Names(page.api);
  const retries = new RetrySelected(page, (delivery) => shown.list.replace((row) => row.delivery_id === delivery.delivery_id, (before) => rowOf(delivery, before)));
  retries.begin(route.filter);
  const shown = history(page, route, {
    title: "Deliveries",
    address: "/deliveries",
    fields: FIELDS,
    columns: columnsOf(page, names, retries),
    hrefOf: (row) => `/deliveries/${row.delivery_id}${queryOf({ customer_id: String(row.customer_id) })}`,
    path: "/api/deliveries",
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
  return { ...shown, update, stop: () => (names.stop(), retries.stop(), shown.stop()) };
}

function columnsOf(page, names, retries) {
  return [
    { word: "Status", width: "160px", cell: (row) => [stateNode(page, row.status), retries.resultOf(row)] },
    { word: "Attempts", width: "96px", cell: (row) => trail(page, row), isSpare: true },
    { word: "Event type", width: "minmax(0, 1.4fr)", cell: (row) => code(row.event_type) },
    { word: "Webhook", width: "minmax(0, 1fr)", cell: (row) => names.nodeOf(row) },
    { word: "Answer", width: "minmax(0, 1.3fr)", cell: (row) => answer(page, row.last_attempt) },
    { word: "Latency", width: "80px", cell: (row) => latency(row.last_attempt), isSpare: true },
    { word: "Next", width: "120px", cell: (row) => next(page, row) },
    ...customerColumn(page),
  ];
}
