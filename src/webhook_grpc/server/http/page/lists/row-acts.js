// What the keys do with rows of a list of deliveries: restart, test, copy.

import { forEach } from "../data/listing.js";
import { testWith } from "../shared/event-test.js";
import { deliveryItems } from "../shared/copy-items.js";
import { copyDialog } from "../shared/menu.js";
import { eventOf } from "../shared/payload.js";
import { copyText } from "../shared/look.js";
import { SELECTED_MAX } from "./selected-bar.js";

const AT_ONCE = 5;
const IDS_MAX = 100;
const ids = new Map(); // the request_id of each state of a delivery that was restarted: pressed twice, it acts once

/** Carries out the key of an act: on a row, or restarts what is `chosen`, if rows are. */
export function actOn(page, root, key, row, chosen = []) {
  if (key === "r") return chosen.length ? retryRows(page, chosen) : retryRow(page, row);
  if (key === "c") return copyText(page, row.delivery_id);
  return key === "t" ? testRow(page, row) : copyRow(page, root, row);
}

/** Restarts the delivery of a row, and asks first if the receiver has answered well already. */
async function retryRow(page, row) {
  const { words } = page;
  if (!may(page)) return;
  if (row.status === "pending") return page.toast(words("It is pending: its next attempt comes by itself."));
  const requestId = idOf(stateOf(row));
  const status = String(row.last_attempt?.response_status || "2xx");
  const text = words("The receiver has answered {status} already; it gets webhook-id {id} once more.", { status, id: row.event_id });
  try {
    if (row.status === "succeeded" && !(await page.confirm(text, words("Retry")))) return;
    await page.api.send("POST", `/api/deliveries/${row.delivery_id}:retry`, { customer_id: row.customer_id }, { requestId });
    page.toast(words("Restarted: one attempt, not repeated if it fails"), { href: pathOf(row), text: words("Open the delivery") });
  } catch (error) {
    page.toast(error.message);
  }
}

/** Restarts the deliveries of chosen rows, after a question with their number. */
async function retryRows(page, rows) {
  const { words } = page;
  if (!may(page)) return;
  if (rows.length > SELECTED_MAX) return page.toast(words("Use a replay: it counts first and is paced"));
  const text = words("Restarts {n} deliveries: one attempt each, not repeated if it fails.", { n: rows.length });
  if (!(await page.confirm(text, words("Retry selected")))) return;
  let restarted = 0;
  const send = (row) => {
    const options = { requestId: idOf(stateOf(row)) };
    return page.api.send("POST", `/api/deliveries/${row.delivery_id}:retry`, { customer_id: row.customer_id }, options);
  };
  await forEach(rows, send, (_, answer) => (restarted += answer ? 1 : 0), { atOnce: AT_ONCE, signal: new AbortController().signal });
  page.toast(words("{n} of {m} restarted", { n: restarted, m: rows.length }));
}

/** Opens the data of a row's event for editing, and sends it as a test to the row's webhook. */
async function testRow(page, row) {
  if (!may(page)) return;
  try {
    await testWith(page, row, await eventOfRow(page, row));
  } catch (error) {
    page.toast(error.message);
  }
}

/** Shows what can be copied of a row; of its event too, if that is kept. */
async function copyRow(page, root, row) {
  const event = await eventOfRow(page, row).catch(() => undefined);
  copyDialog(page, root, row.delivery_id, deliveryItems(page.words, row, event));
}

function eventOfRow(page, { event_id: id, customer_id: customerId }) {
  return eventOf(page, `/api/events/${id}?customer_id=${customerId}`);
}

function pathOf({ delivery_id: id, customer_id: customerId }) {
  return `/deliveries/${id}?customer_id=${customerId}`;
}

function may(page) {
  const isAllowed = page.caller?.permissions?.includes("manage") ?? false;
  if (!isAllowed) page.toast(page.words("Needs permission {p}", { p: "manage" }));
  return isAllowed;
}

function stateOf(row) {
  return `${row.delivery_id} ${row.status} ${row.attempt_count}`;
}

function idOf(state) {
  if (!ids.has(state)) {
    if (ids.size >= IDS_MAX) ids.delete(ids.keys().next().value);
    ids.set(state, crypto.randomUUID());
  }
  return ids.get(state);
}
