// The history of events, newest first.

import { visible } from "../data/json-text.js";
import { queryOf } from "../data/route.js";
import { code, customerColumn, when } from "../shared/cells.js";
import { history } from "./history.js";
import { LIST_LOOK } from "./list-look.js";

export const LOOK = LIST_LOOK;

const FIELDS = [
  { kind: "list", name: "event_types", word: "Event type", hint: "job.*" },
  { kind: "attributes", name: "attributes", word: "Attributes", hint: "region=eu" },
  { kind: "text", name: "request_id", word: "Request id" },
  { kind: "period", name: "period" },
];

/** Shows the history of events. */
export function view(page, route) {
  return history(page, route, {
    title: "Events",
    order: "newest first",
    address: "/events",
    fields: FIELDS,
    columns: columnsOf(page),
    hrefOf: (row) => `/events/${row.event_id}${queryOf({ customer_id: String(row.customer_id) })}`,
    path: "/api/events",
    copied: { method: "ListEvents" },
    name: "events",
    rowOf,
    isTimed: true,
  });
}

/** Returns an event without its data, which a row does not show. */
function rowOf({ data, ...row }) {
  return row;
}

function columnsOf(page) {
  const { words } = page;
  const attributes = (row) => Object.entries(row.attributes ?? {}).map(([name, value]) => `${name}=${value}`).join(", ");
  return [
    { word: "Event type", width: "minmax(0, 1fr)", cell: (row) => [code(row.event_type), row.test_webhook_id ? words("Test") : ""] },
    { word: "Event", width: "minmax(0, 1.4fr)", cell: (row) => code(row.event_id) },
    { word: "Attributes", width: "minmax(0, 1.4fr)", cell: (row) => visible(attributes(row)) },
    { word: "Occurred", width: "132px", cell: (row) => when(page, row.occur_time ?? row.create_time), isSpare: true },
    { word: "Published", width: "132px", cell: (row) => when(page, row.create_time) },
    ...customerColumn(page),
  ];
}
