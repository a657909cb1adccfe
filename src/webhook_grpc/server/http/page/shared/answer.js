// What a receiver answered to a test, in place: a failing receiver is a result, not an error.

import { outcomeText } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { reasonText } from "../data/reasons.js";
import { seconds, span } from "../data/time.js";
import { element } from "./look.js";

/** Returns the answer of a test: status, latency, headers and body, all as text. */
export function answerNode(page, delivery) {
  const attempt = delivery.last_attempt;
  const link = element("a", { href: `/deliveries/${delivery.delivery_id}?customer_id=${delivery.customer_id}` }, page.words("Delivery"));
  if (!attempt) return element("div", {}, page.words("Cancelled"), " ", link);
  const colour = attempt.outcome === "succeeded" ? "ok" : "bad";
  const line = element("div", {}, element("b", { className: colour }, sentence(page, attempt)), " · ", link);
  const node = element("div", { className: "answer" }, line);
  if (attempt.error_message) node.append(element("div", { className: "bad" }, visible(reasonText(attempt.error_message, page.language))));
  const headers = Object.entries(attempt.response_headers ?? {}).sort();
  const pairs = headers.flatMap(([name, value]) => [element("dt", { className: "code" }, visible(name)), element("dd", { className: "code" }, visible(value))]);
  if (pairs.length) node.append(element("dl", {}, ...pairs));
  if (attempt.response_text) node.append(element("pre", {}, visible(attempt.response_text)));
  return node;
}

function sentence(page, attempt) {
  const latency = span(seconds(attempt.latency));
  if (!attempt.response_status) return outcomeText(attempt, page.words);
  return page.words("{status} in {span}", { status: String(attempt.response_status), span: latency });
}
