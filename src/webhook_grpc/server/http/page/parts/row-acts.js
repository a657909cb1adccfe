// What the keys do with the row of a list: restart its delivery.

const IDS_MAX = 100;
const ids = new Map(); // the request_id of each state of a delivery that was restarted: pressed twice, it acts once

/** Restarts the delivery of a row, and asks first if the receiver has answered well already. */
export async function retryRow(page, row) {
  const { words } = page;
  if (!page.caller?.permissions?.includes("manage")) return page.toast(words("Needs permission {p}", { p: "manage" }));
  if (row.status === "pending") return page.toast(words("It is pending: its next attempt comes by itself."));
  const requestId = idOf(`${row.delivery_id} ${row.status} ${row.attempt_count}`);
  const status = String(row.last_attempt?.response_status || "2xx");
  const text = words("The receiver has answered {status} already; it gets webhook-id {id} once more.", { status, id: row.event_id });
  try {
    if (row.status === "succeeded" && !(await page.confirm(text, words("Retry")))) return;
    await page.api.send("POST", `/api/deliveries/${row.delivery_id}:retry`, { customer_id: row.customer_id }, { requestId });
    page.toast(words("Restarted: one attempt, not repeated if it fails"));
  } catch (error) {
    page.toast(error.message);
  }
}

function idOf(state) {
  if (!ids.has(state)) {
    if (ids.size >= IDS_MAX) ids.delete(ids.keys().next().value);
    ids.set(state, crypto.randomUUID());
  }
  return ids.get(state);
}
