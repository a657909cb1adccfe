// Small parts of a panel: a fact with its name, and a status in shape, word and colour.

import { COLOURS, STATUSES } from "../data/store.js";
import { icon } from "./icons.js";
import { element } from "./look.js";

/** Returns a fact with its name. */
export function fact(name, value) {
  return element("span", {}, `${name} `, element("b", {}, value));
}

/** Returns the status of a delivery: shape, word and colour. */
export function stateNode(page, status) {
  const word = STATUSES[status] ? page.words(STATUSES[status]) : status;
  return element("span", { className: `state ${COLOURS[status] ?? "off"}` }, icon(status), word);
}

const STATES = { active: ["Active", "ok"], paused: ["Paused", "wait"], disabled: ["Disabled", "off"] };

/** Returns the status of a webhook: shape, word and colour. */
export function webhookStatusNode(page, webhook) {
  const [word, colour] = STATES[webhook.status] ?? [webhook.status, "off"];
  return element("span", { className: colour }, `● ${STATES[webhook.status] ? page.words(word) : word}`);
}
