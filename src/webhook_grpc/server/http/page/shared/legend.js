// What the shapes mean: of the states of a delivery, and of the outcomes of its attempts.

import { COLOURS, STATUSES } from "../data/store.js";
import { icon } from "./icons.js";
import { element } from "./look.js";

const OUTCOMES = [
  ["disc", "Succeeded"],
  ["square", "Answered with an error"],
  ["triangle", "no answer: no connection, no TLS, no HTTP, or not in time"],
  ["rhomb", "not sent: the address is not allowed, or the request could not be built"],
  ["dot", "not tried yet, or not seen by this page"],
];

export const LEGEND_LOOK = `
.legend { position: relative; }
.legend > summary { cursor: pointer; color: var(--muted); }
.legend > dl { position: absolute; right: 0; z-index: 3; width: max-content; max-width: min(420px, calc(100vw - 32px)); margin: 4px 0 0; padding: 8px 12px; display: grid; grid-template-columns: 16px 1fr; gap: 4px 8px; align-items: center; background: var(--bg); border: 1px solid var(--line); border-radius: 6px; }
.legend dt { display: flex; }
.legend .ok { color: var(--ok); } .legend .wait { color: var(--wait); } .legend .bad { color: var(--bad); } .legend .off { color: var(--off); }
.legend dd { margin: 0; color: var(--ink); }
.legend dt.wide { grid-column: 1 / -1; font-size: 12px; color: var(--muted); }
@media (max-width: 720px) { .legend > dl { right: auto; left: 0; } }
`;

/** Returns the legend, folded. */
export function legendNode(words) {
  const pair = (shape, colour, word) => [element("dt", { className: colour }, icon(shape)), element("dd", {}, words(word))];
  const head = (word) => element("dt", { className: "wide" }, words(word));
  const statuses = Object.entries(STATUSES).flatMap(([name, word]) => pair(name, COLOURS[name] ?? "off", word));
  const outcomes = OUTCOMES.flatMap(([shape, word]) => pair(shape, "muted", word));
  const list = element("dl", {}, head("A delivery is"), ...statuses, head("One shape for each attempt, the oldest first"), ...outcomes);
  const node = element("details", { className: "legend" }, element("summary", {}, words("Legend")), list);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !node.open) return;
    event.stopPropagation(); // it closes the legend, not the view
    node.open = false;
    node.firstElementChild.focus();
  });
  node.addEventListener("focusout", ({ relatedTarget }) => node.contains(relatedTarget) || (node.open = false));
  return node;
}
