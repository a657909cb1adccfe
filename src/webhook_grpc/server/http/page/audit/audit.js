// The audit, newest first: who changed what, and who was refused. For callers with the permission admin.

import { auditWords, changedHref, methodText } from "../data/audit.js";
import { visible } from "../data/json-text.js";
import { history } from "../lists/history.js";
import { LIST_LOOK } from "../lists/list-look.js";
import { may } from "../shared/act-button.js";
import { code, customerColumn, when } from "../shared/cells.js";
import { icon } from "../shared/icons.js";
import { element } from "../shared/look.js";

const RESULTS = { OK: "Done", PERMISSION_DENIED: "Not allowed", NOT_FOUND: "Not found" };

export const LOOK = `${LIST_LOOK}
.list .row > * { white-space: normal; overflow-wrap: anywhere; padding: 6px 0; }
@media (max-width: 720px) { .list .row > * { padding: 0; } }
`;

/** Shows the audit, or one sentence to a caller who may not read it. Customers are chosen in the head. */
export function view(page, route) {
  const words = auditWords(page.words, page.language);
  if (!may(page, "admin")) return refusal(words("Only a caller with the permission admin may see the audit."));
  const shown = { ...page, words };
  return history(shown, route, {
    title: "Audit",
    order: "newest first",
    address: "/audit",
    fields: [],
    columns: columnsOf(shown),
    hrefOf: changedHref,
    path: "/api/auditEntries",
    copied: { method: "ListAuditEntries" },
    name: "entries",
    isOfCustomer: true,
  });
}

function refusal(text) {
  return { node: element("main", {}, element("p", {}, text)), stop: () => undefined };
}

function columnsOf(page) {
  return [
    { word: "What", width: "minmax(0, 1.2fr)", cell: (row) => methodText(row.method, page.language) },
    { word: "Which", width: "minmax(0, 1.4fr)", cell: (row) => code((row.resources ?? []).join(", ") || "–") },
    { word: "Fields", width: "minmax(0, 1.2fr)", cell: (row) => visible((row.fields ?? []).join(", ")) },
    { word: "Who", width: "minmax(0, 1fr)", cell: whoNodes },
    { word: "From", width: "120px", cell: (row) => visible(row.source_address || "–"), isSpare: true },
    { word: "Result", width: "minmax(0, 1fr)", cell: (row) => resultNode(page, row) },
    { word: "When", width: "112px", cell: (row) => when(page, row.create_time) },
    ...customerColumn(page).map((column) => ({ ...column, cell: ({ customer_id: id }) => (Number(id) ? String(id) : "–") })),
  ];
}

/** Returns the caller's name, and the number of its token if the service keeps it. */
function whoNodes({ caller, caller_token_id: tokenId }) {
  return [visible(caller), ...(Number(tokenId) ? [" ", element("span", { className: "muted" }, `#${tokenId}`)] : [])];
}

function resultNode({ words }, { result, reason }) {
  const isDone = result === "OK";
  const word = Object.hasOwn(RESULTS, result) ? words(RESULTS[result]) : visible(result);
  const why = reason ? [" ", element("span", { className: "muted" }, visible(reason))] : [];
  return element("span", {}, element("span", { className: `state ${isDone ? "ok" : "bad"}` }, icon(isDone ? "succeeded" : "failed"), word), ...why);
}
