// The history of attempts, newest first: what receivers answered, and when.

import { queryOf } from "../data/route.js";
import { STATUSES } from "../data/store.js";
import { Names, code, customerColumn, latency, outcome, when } from "../shared/cells.js";
import { stateNode } from "../shared/facts.js";
import { history, linkTo } from "./history.js";
import { LIST_LOOK } from "./list-look.js";

export const LOOK = LIST_LOOK;

const OUTCOMES = {
  succeeded: "Succeeded",
  http_error: "Answered with an error",
  timeout: "No answer in time",
  connection_error: "Connection failed",
  tls_error: "TLS failed",
  protocol_error: "Not HTTP",
  blocked: "Address not allowed",
  internal_error: "Could not be prepared",
};
const TRIGGERS = { scheduled: "Scheduled", manual: "Manual", replay: "Replay", test: "Test" };
const FIELDS = [
  { kind: "many", name: "outcomes", word: "Outcomes", options: OUTCOMES },
  { kind: "many", name: "statuses", word: "Status afterwards", options: STATUSES },
  { kind: "list", name: "event_types", word: "Event type", hint: "job.*" },
  { kind: "list", name: "webhook_ids", word: "Webhook", hint: "12, 15" },
  { kind: "text", name: "event_id", word: "Event", hint: "evt_…" },
  { kind: "period", name: "period" },
];

/** Shows the history of attempts. */
export function view(page, route) {
  const names = new Names(page.api);
  const shown = history(page, route, {
    title: "Attempts",
    order: "newest first",
    address: "/attempts",
    fields: FIELDS,
    columns: columnsOf(page, names),
    hrefOf: (row) => `/deliveries/${row.delivery_id}${queryOf({ customer_id: String(row.customer_id) })}#attempt-${row.attempt_number}`,
    path: "/api/attempts",
    copied: { method: "ListDeliveryAttempts", statuses: "DELIVERY_STATUS" },
    name: "attempts",
    rowOf,
    isTimed: true,
    links: (filter) => [linkTo(page, "/deliveries", "All deliveries", filter)],
  });
  return { ...shown, stop: () => (names.stop(), shown.stop()) };
}

/** Returns an attempt without what a row does not show, such as the receiver's answer. */
function rowOf({ response_body, response_text, request_headers, response_headers, ...row }) {
  return row;
}

function columnsOf(page, names) {
  const { words } = page;
  return [
    { word: "Answer", width: "minmax(160px, 1.2fr)", cell: (row) => outcome(page, row) },
    { word: "Attempt", width: "136px", cell: (row) => `${row.attempt_number} · ${TRIGGERS[row.trigger] ? words(TRIGGERS[row.trigger]) : row.trigger}` },
    { word: "Event type", width: "minmax(0, 1.4fr)", cell: (row) => code(row.event_type) },
    { word: "Webhook", width: "minmax(0, 1fr)", cell: (row) => names.nodeOf(row) },
    { word: "Latency", width: "80px", cell: (row) => latency(row) },
    { word: "Status afterwards", width: "128px", cell: (row) => stateNode(page, row.delivery_status), isSpare: true },
    { word: "Started", width: "120px", cell: (row) => when(page, row.start_time) },
    ...customerColumn(page),
  ];
}
