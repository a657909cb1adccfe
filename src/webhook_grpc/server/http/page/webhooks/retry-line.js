// A retry schedule as a line: what one waits between attempts, and the sum.

import { span } from "../data/time.js";
import { delayText } from "../data/webhook-draft.js";
import { element } from "../shared/look.js";

/** Returns a retry schedule as a line of waits between attempts, with their sum. */
export function waitsNode(words, delays) {
  if (!delays.length) return element("div", {}, words("The service's own schedule: 12 attempts over about 76 hours unless the operator chose another."));
  const items = [...delays.map((delay) => element("li", {}, element("span", {}, delayText(delay)))), element("li", {})];
  const sum = delays.reduce((total, delay) => total + delay, 0);
  const said = words("{n} attempts over {span}, each wait ± 20 %", { n: delays.length + 1, span: span(sum) });
  return element("div", {}, element("ol", { className: "waits" }, ...items), said);
}
