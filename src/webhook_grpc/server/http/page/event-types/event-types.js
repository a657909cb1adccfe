// The catalogue of event types, by name. They belong to the platform: an operator adds to them.

import { visible } from "../data/json-text.js";
import { code, when } from "../shared/cells.js";
import { history } from "../lists/history.js";
import { LIST_LOOK } from "../lists/list-look.js";
import { element } from "../shared/look.js";
import { TYPE_LOOK, typeForm, typeReason } from "./type-form.js";

export const LOOK = LIST_LOOK + TYPE_LOOK;

/** Shows the event types. */
export function view(page, route) {
  return history(page, route, {
    title: "Event types",
    order: "by name",
    address: "/event-types",
    fields: [{ kind: "switch", name: "include_archived", word: "Archived ones too" }],
    columns: columnsOf(page),
    hrefOf: (row) => `/event-types/${row.event_type}`,
    path: "/api/eventTypes",
    copied: { method: "ListEventTypes" },
    name: "event_types",
    rowOf,
    isTimed: false,
    above: [createNode(page)],
  });
}

/** Returns a type with whether it has a schema instead of the schema. */
function rowOf({ json_schema: schema, ...row }) {
  return { ...row, hasSchema: Boolean(schema) };
}

function columnsOf(page) {
  const { words } = page;
  const state = (row) => words(row.archived ? "Archived" : row.built_in ? "Built in" : "Active");
  return [
    { word: "Event type", width: "minmax(0, 1fr)", cell: (row) => code(row.event_type) },
    { word: "Status", width: "96px", cell: state },
    { word: "Schema", width: "96px", cell: (row) => (row.hasSchema ? words("checked") : "–") },
    { word: "Description", width: "minmax(0, 2fr)", cell: (row) => visible(row.description ?? "") },
    { word: "Changed", width: "132px", cell: (row) => when(page, row.update_time) },
  ];
}

/** Returns a button that opens the form of a new type below it. */
function createNode(page) {
  const node = element("div", {});
  const reason = typeReason(page);
  const open = element("button", { disabled: Boolean(reason), title: reason }, page.words("Create event type"));
  const close = () => (node.replaceChildren(open), open.focus());
  open.addEventListener("click", () => {
    const send = (type) => page.api.send("POST", "/api/eventTypes", type);
    const form = typeForm(page, { event_type: "" }, { send, saved: (type) => page.go(`/event-types/${type.event_type}`), cancelled: close });
    node.replaceChildren(form);
    form.querySelector("input").focus();
  });
  node.append(open);
  return node;
}
