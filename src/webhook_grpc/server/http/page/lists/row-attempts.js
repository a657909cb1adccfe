// The attempts of one delivery, in a line below a list: the newest first.

import { outcomeText } from "../data/explain.js";
import { visible } from "../data/json-text.js";
import { SHAPES } from "../data/store.js";
import { absolute, milliseconds, seconds, span } from "../data/time.js";
import { icon } from "../shared/icons.js";
import { element, sheetOf } from "../shared/look.js";

/** The look of the line, for the root in which it stands. */
export const UNFOLDED_SHEET = sheetOf(`
.unfolded { display: flex; flex-wrap: wrap; gap: 4px 16px; padding: 8px 12px; margin: 0; list-style: none; border-top: 1px solid var(--line); background: var(--surface); max-height: 120px; overflow-y: auto; }
.unfolded li { display: flex; gap: 6px; align-items: center; }
.unfolded svg { width: 12px; height: 12px; }
`);

/** Asks for the attempts of a row's delivery and returns them as a list; a problem is its only item. */
export async function attemptsNode(api, row, words, options) {
  const list = element("ol", { className: "unfolded", "aria-label": words("Attempts"), tabIndex: 0 });
  try {
    const { attempts } = await api.get(`/api/deliveries/${row.delivery_id}/attempts?customer_id=${row.customer_id}`);
    list.append(...attempts.map((attempt) => itemOf(attempt, words, options)));
    if (!attempts.length) list.append(element("li", {}, words("not tried yet")));
  } catch (error) {
    list.append(element("li", { role: "alert" }, visible(error.message)));
  }
  return list;
}

function itemOf(attempt, words, options) {
  const at = absolute(milliseconds(attempt.start_time), { ...options, fraction: false });
  const text = `${outcomeText(attempt, words)} · ${span(seconds(attempt.latency))} · ${at}`;
  return element("li", {}, element("b", {}, String(attempt.attempt_number)), icon(SHAPES[attempt.outcome]), text);
}
