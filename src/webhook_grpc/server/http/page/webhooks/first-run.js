// The first run: there is no webhook yet, so the page says how to make one and how to publish a first event.

import { curlPost, grpcurl, publishLine } from "../data/shell-quote.js";
import { actButton } from "../shared/act-button.js";
import { addSheet, element, sheetOf } from "../shared/look.js";
import { copy } from "../shared/menu.js";

const TYPE = "job.completed"; // one of those that are there from the start
const SHEET = sheetOf(`
.first-run { border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; min-width: 0; }
.first-run h2 { font-size: 16px; margin: 0; }
.first-run .buttons { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; }
.copy-line { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 8px; align-items: start; margin: 8px 0; }
.copy-line pre { margin: 0; padding: 4px 8px; background: var(--surface); border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
`);
const DATA = { job_id: "job-abc123" };

/** Shows, before a node, how to begin. */
export async function showFirstRun(page, customerId, before) {
  before.before(await firstRunNode(page, customerId));
  addSheet(before.getRootNode(), SHEET);
}

async function firstRunNode(page, customerId) {
  const { words } = page;
  const customer = page.caller.customer_id ?? customerId ?? 1;
  const lines = firstEvent(page.caller.grpc_address, customer, Boolean(await page.getToken()));
  const create = actButton(page, words("Create webhook"), () => page.go(`/webhooks/new${customerId ? `?customer_id=${customerId}` : ""}`), { className: "primary" });
  return element(
    "section",
    { className: "panel first-run" },
    element("div", { className: "buttons" }, element("h2", {}, words("No webhook yet")), create),
    element("p", {}, words("Then publish a first event:")),
    ...lines.map((line) => lineNode(page, line)),
  );
}

/** Returns the lines that publish a first event: with curl, with grpcurl, and with the command line. */
function firstEvent(grpcAddress, customer, hasToken) {
  const event = { customer_id: customer, event_type: TYPE, data: DATA };
  const address = grpcAddress.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname);
  const isPlaintext = location.protocol === "http:";
  return [
    curlPost(location.origin, "/api/events", { event }, { hasToken }),
    grpcurl("PublishEvent", { event }, { address, hasToken, isPlaintext }),
    publishLine(event, { address, isPlaintext }),
  ];
}

function lineNode(page, line) {
  const button = element("button", { type: "button" }, page.words("Copy"));
  button.addEventListener("click", () => copy(page, line, button));
  return element("div", { className: "copy-line" }, element("pre", {}, line), button);
}
