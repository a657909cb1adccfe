// How many attempts there were in the last five minutes, as bars and as numbers, and what the shapes mean.

import { RATE_SECONDS, SHAPES } from "../data/store.js";
import { icon } from "../shared/icons.js";
import { legendNode, LEGEND_LOOK } from "../shared/legend.js";
import { element, sheetOf } from "../shared/look.js";

const HEIGHT = 32;
const SVG = "http://www.w3.org/2000/svg";
const COUNTS = [
  ["disc", "succeeded", "Succeeded"],
  ["square", "square", "Answered with an error"],
  ["triangle", "other", "no answer"],
];

/** The look of the chart, for the root in which it stands. */
export const RATE_SHEET = sheetOf(`${LEGEND_LOOK}
.counts { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; color: var(--muted); }
.counts span { display: inline-flex; gap: 4px; align-items: center; }
.counts svg { width: 12px; height: 12px; }
svg.bars { width: 200px; height: 32px; stroke: none; border: solid var(--line); border-width: 0 0 1px 1px; }
.bars .succeeded { fill: var(--ok); } .bars .square { fill: var(--bad); } .bars .other { fill: var(--wait); }
.axis { font-size: 12px; color: var(--muted); }
@media (max-width: 480px) {
  .counts { font-size: 12px; }
  svg.bars, .axis { display: none; } /* the numbers say the same */
}
`);

/** The chart. `nodes` are the elements, of which the legend is the last one. */
export class RateChart {
  constructor(words) {
    this._words = words;
    this._bars = svg("svg", { class: "bars", viewBox: `0 0 240 ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }); // the numbers beside say the same
    this._axis = element("span", { className: "axis" });
    this._counts = element("div", { className: "counts" });
    this.nodes = [this._bars, this._axis, this._counts, legendNode(words)];
  }

  /** Draws the counts by outcome of each bin, the oldest first. */
  draw(counted) {
    const words = this._words;
    const bins = counted.map(classesOf);
    const most = Math.max(...bins.map((bin) => bin.succeeded + bin.square + bin.other));
    this._bars.replaceChildren(...bins.flatMap((bin, index) => barsOf(bin, index, Math.max(1, most))));
    this._axis.textContent = words("attempts/s, last 5 min, peak {n}", { n: Math.round((most / RATE_SECONDS) * 10) / 10 });
    this._counts.replaceChildren(...COUNTS.map(([shape, name, word]) => {
      const sum = bins.reduce((total, bin) => total + bin[name], 0);
      return element("span", {}, icon(shape), `${words("{n}", { n: sum })} ${words(word)}`);
    }));
  }
}

function classesOf(bin) {
  const found = { succeeded: 0, square: 0, other: 0 };
  for (const [outcome, count] of Object.entries(bin)) {
    found[outcome === "succeeded" ? "succeeded" : SHAPES[outcome] === "square" ? "square" : "other"] += count;
  }
  return found;
}

function barsOf(bin, index, most) {
  let bottom = HEIGHT;
  return Object.entries(bin).map(([name, count]) => {
    const height = (count / most) * HEIGHT;
    bottom -= height;
    return svg("rect", { x: index * 4, y: bottom, width: 3, height, class: name });
  });
}

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, String(value));
  return made;
}
