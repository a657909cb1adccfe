// The first run: there is no webhook yet, so the page says how to make one and how to publish a first event.

import { commandLine, curlPost, grpcurl } from "../data/shell-quote.js";
import { actButton, may } from "./act-button.js";
import { element } from "./look.js";
import { copy } from "./menu.js";

const TYPE = "job.completed"; // one of those that are there from the start
const DATA = { job_id: "job-abc123" };

/** Returns what is shown while there is no webhook, or null if there is one. Throws Problem. */
export async function firstRun(page, { customer_id: customerId } = {}) {
  if (!may(page, "read")) return null;
  const query = customerId ? `&customer_id=${encodeURIComponent(customerId)}` : "";
  const found = await page.api.get(`/api/webhooks?page_size=1${query}`);
  return found.webhooks.length ? null : firstRunNode(page, customerId);
}

/** Returns what is shown while there is no webhook. */
export async function firstRunNode(page, customerId) {
  const { words } = page;
  const customer = page.caller.customer_id ?? customerId ?? 1;
  const lines = firstEvent(page.caller.grpc_address, customer, Boolean(await page.getToken()));
  const create = actButton(page, words("Create webhook"), () => page.go(`/webhooks/new${customerId ? `?customer_id=${customerId}` : ""}`), { className: "primary" });
  return element(
    "section",
    { className: "panel first-run" },
    element("h2", { className: "title" }, words("No webhook yet"), create),
    element("p", {}, words("Then publish a first event:")),
    ...lines.map((line) => lineNode(page, line)),
  );
}

/** Returns the lines that publish a first event: with curl, with grpcurl, and with the service's own command line. */
function firstEvent(grpcAddress, customer, hasToken) {
  const event = { customer_id: customer, event_type: TYPE, data: DATA };
  const address = grpcAddress.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname);
  return [
    curlPost(location.origin, "/api/events", { event }, { hasToken }),
    grpcurl("PublishEvent", { event }, { address, hasToken, isPlaintext: location.protocol === "http:" }),
    commandLine("events", "publish", TYPE, JSON.stringify(DATA), "-c", String(customer), "-a", address),
  ];
}

function lineNode(page, line) {
  const button = element("button", { type: "button" }, page.words("Copy"));
  button.addEventListener("click", () => copy(page, line, button));
  return element("div", { className: "copy-line" }, element("pre", {}, line), button);
}
