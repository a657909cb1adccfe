// Charts of numbers that the server has counted in bins. Classes differ by pattern too; a table says the same in words.

import { element } from "./look.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 96;
const LEAST_SECONDS = 0.001;
const MOST_SECONDS = 30;

export const LOOK = `
figure { margin: 0; }
svg.chart { width: 100%; height: 96px; stroke: none; background: var(--surface); }
.chart .good { fill: var(--ok); } .chart .error { fill: url(#hatch); color: var(--bad); } .chart .silent { fill: url(#cross); color: var(--wait); }
.chart pattern path { stroke: currentColor; stroke-width: 2; }
.chart pattern#hatch { color: var(--bad); } .chart pattern#cross { color: var(--wait); }
.chart .line { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.chart .p95 { stroke-dasharray: 6 3; } .chart .p99 { stroke-dasharray: 2 3; } .chart .limit { stroke: var(--line); }
figcaption { font-size: 12px; color: var(--muted); }
table { border-collapse: collapse; font-size: 12px; } td, th { padding: 0 12px 0 0; text-align: left; font-weight: 400; }
`;

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, String(value));
  made.append(...children);
  return made;
}

function canvas(label, ...children) {
  const hatch = svg("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse" }, svg("path", { d: "M0 5 5 0" }));
  const cross = svg("pattern", { id: "cross", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, svg("path", { d: "M0 6 6 0M0 0l6 6" }));
  const box = { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  return svg("svg", box, svg("defs", {}, hatch, cross), ...children);
}

/** Returns a chart of attempts by class, one bar for each bin: {label, good, error, silent}. */
export function stack(caption, bins, words) {
  const most = Math.max(1, ...bins.map((bin) => bin.good + bin.error + bin.silent));
  const width = WIDTH / bins.length;
  const bars = bins.flatMap((bin, index) => {
    let bottom = HEIGHT;
    return ["good", "error", "silent"].map((name) => {
      const height = (bin[name] / most) * HEIGHT;
      bottom -= height;
      return svg("rect", { x: index * width, y: bottom, width: Math.max(1, width - 1), height, class: name });
    });
  });
  const rows = bins.map((bin) => [bin.label, bin.good, bin.error, bin.silent]);
  return figure(caption, canvas(caption, ...bars), [words("From"), words("Succeeded"), words("Answered with an error"), words("no answer")], rows, words);
}

/** Returns a chart of latencies in steps, on a logarithmic scale: {label, p50, p95, p99} in seconds, NaN for none. */
export function steps(caption, bins, limit, words) {
  const width = WIDTH / bins.length;
  const line = (name) => {
    let path = "";
    bins.forEach((bin, index) => {
      if (Number.isNaN(bin[name])) return;
      const isAfterHole = index === 0 || Number.isNaN(bins[index - 1][name]);
      path += `${isAfterHole ? "M" : "L"}${index * width} ${height(bin[name])}H${(index + 1) * width}`;
    });
    return svg("path", { d: path, class: `line ${name}` });
  };
  const most = svg("path", { d: `M0 ${height(limit)}H${WIDTH}`, class: "line limit" });
  const rows = bins.map((bin) => [bin.label, bin.p50, bin.p95, bin.p99].map((value) => (Number.isNaN(value) ? "–" : value)));
  return figure(caption, canvas(caption, most, ...["p50", "p95", "p99"].map(line)), [words("From"), "p50", "p95", "p99"], rows, words);
}

function height(value) {
  const bounded = Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, value));
  return HEIGHT * (1 - Math.log(bounded / LEAST_SECONDS) / Math.log(MOST_SECONDS / LEAST_SECONDS));
}

function figure(caption, chart, heads, rows, words) {
  const row = (cells, kind) => element("tr", {}, ...cells.map((cell) => element(kind, {}, String(cell))));
  const table = element("table", {}, row(heads, "th"), ...rows.map((cells) => row(cells, "td")));
  const details = element("details", {}, element("summary", {}, words("Show as table")), table);
  return element("figure", {}, element("figcaption", {}, caption), chart, details);
}
