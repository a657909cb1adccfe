// Charts of numbers that the server has counted in bins. Classes differ by pattern too. A bin is read by the pointer or by
// arrow keys, and opened by a click or Enter; a table says the same in words.

import { span } from "../data/time.js";
import { element } from "./look.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 96;
const LEAST_SECONDS = 0.001;
const MOST_SECONDS = 30;
const PLACES_MIN = 36; // of bars that come one by one: the first of them does not fill the chart
const CLASSES = { good: "Succeeded", error: "Answered with an error", silent: "no answer" };

export const LOOK = `
figure { margin: 0; min-width: 0; }
svg.chart { width: 100%; height: 96px; stroke: none; background: var(--surface); display: block; }
.chart .good { fill: var(--ok); } .chart .error { fill: url(#hatch); color: var(--bad); } .chart .silent { fill: url(#cross); color: var(--wait); }
.chart pattern path { stroke: currentColor; stroke-width: 2; }
.chart pattern#hatch { color: var(--bad); } .chart pattern#cross { color: var(--wait); }
.chart .line { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.chart .p95 { stroke-dasharray: 6 3; } .chart .p99 { stroke-dasharray: 2 3; } .chart .limit { stroke: var(--line); }
.chart .one { fill: var(--wait); }
.chart .bin { fill: none; stroke: var(--accent); stroke-width: 1.5; }
.plot { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 6px; font-size: 12px; color: var(--muted); margin-top: 4px; }
.plot .y { display: flex; flex-direction: column; justify-content: space-between; text-align: right; line-height: 1; }
.plot .x { grid-column: 2; display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; line-height: 1.2; }
.bins { border: solid var(--line); border-width: 0 0 1px 1px; }
.bins.opens { cursor: pointer; }
.key { display: flex; flex-wrap: wrap; min-height: 18px; gap: 2px 12px; font-size: 12px; color: var(--muted); }
.key > span { display: flex; gap: 4px; align-items: center; }
svg.chart.swatch { width: 16px; height: 12px; }
figcaption, .read { font-size: 12px; color: var(--muted); min-height: 18px; }
table { border-collapse: collapse; font-size: 12px; } td, th { padding: 0 12px 0 0; text-align: left; font-weight: 400; }
`;

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, String(value));
  made.append(...children);
  return made;
}

/** Returns the patterns of the classes; a page has one chart that uses them. */
function patterns() {
  const hatch = svg("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse" }, svg("path", { d: "M0 5 5 0" }));
  const cross = svg("pattern", { id: "cross", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, svg("path", { d: "M0 6 6 0M0 0l6 6" }));
  return svg("defs", {}, hatch, cross);
}

function canvas(...children) {
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...children);
}

/** Returns a chart of attempts by class, one bar for each bin: {label, until, good, error, silent}. `open(index)` opens a bin. */
export function stack(caption, bins, words, open) {
  const most = Math.max(1, ...bins.map((bin) => bin.good + bin.error + bin.silent));
  const width = WIDTH / bins.length;
  const bars = bins.flatMap((bin, index) => {
    let bottom = HEIGHT;
    return Object.keys(CLASSES).map((name) => {
      const tall = (bin[name] / most) * HEIGHT;
      bottom -= tall;
      return svg("rect", { x: index * width, y: bottom, width: Math.max(1, width - 1), height: tall, class: name });
    });
  });
  const cells = (bin) => Object.keys(CLASSES).map((name) => words("{n}", { n: bin[name] }));
  const heads = Object.values(CLASSES).map((word) => words(word));
  const key = Object.entries(CLASSES).map(([name, word]) => [swatch(svg("rect", { width: 16, height: 12, class: name })), words(word)]);
  return figure({ caption, bins, cells, heads, words, open, key, axis: [words("{n}", { n: most }), "0"] }, [patterns(), ...bars]);
}

/** Returns a chart of one number in bins: {label, until, value}, written by `said(value)`. */
export function bars(caption, bins, said, words) {
  const most = Math.max(1, ...bins.map((bin) => bin.value));
  const places = Math.max(PLACES_MIN, bins.length);
  const width = WIDTH / places;
  const shapes = bins.map((bin, index) => {
    const tall = (bin.value / most) * HEIGHT;
    return svg("rect", { x: index * width, y: HEIGHT - tall, width: Math.max(1, width - 1), height: tall, class: "one" });
  });
  return figure({ caption, bins, cells: (bin) => [said(bin.value)], heads: [caption], words, axis: [said(most), said(0)], places }, shapes);
}

/** Returns a small drawing of what a class or a line looks like. */
function swatch(shape) {
  return svg("svg", { class: "chart swatch", viewBox: "0 0 16 12", "aria-hidden": "true" }, shape);
}

/** Returns a chart of latencies in steps, on a logarithmic scale: {label, until, p50, p95, p99} in seconds, NaN for none. */
export function steps(caption, bins, limit, words, open) {
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
  const heads = ["p50", "p95", "p99"];
  const cells = (bin) => heads.map((name) => (Number.isNaN(bin[name]) ? "–" : span(bin[name])));
  const drawn = (name) => swatch(svg("path", { d: "M0 6H16", class: `line ${name}` }));
  const key = [...heads.map((name) => [drawn(name), name]), [drawn("limit"), `${words("Timeout")} ${span(limit)}`]];
  return figure({ caption, bins, cells, heads, words, open, key, axis: [span(MOST_SECONDS), span(LEAST_SECONDS)] }, [most, ...heads.map(line)]);
}

function height(value) {
  const bounded = Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, value));
  return HEIGHT * (1 - Math.log(bounded / LEAST_SECONDS) / Math.log(MOST_SECONDS / LEAST_SECONDS));
}

/** Returns a figure: caption, key, drawing with its axes (`axis` is the top and the bottom), and the same as a table. */
function figure({ caption, bins, cells, heads, words, open, key = [], axis, places = bins.length }, shapes) {
  const row = (texts, kind) => element("tr", {}, ...texts.map((text) => element(kind, {}, String(text))));
  const table = element("table", {}, row([words("From"), ...heads], "th"), ...bins.map((bin) => row([bin.label, ...cells(bin)], "td")));
  const said = (bin) => `${bin.label}: ${heads.map((head, index) => `${head} ${cells(bin)[index]}`).join(", ")}`;
  const [box, read] = readerNode(caption, shapes, bins.map(said), { open, places });
  const ends = [bins[0]?.label, bins.at(-1)?.until].map((text) => element("span", {}, text ?? ""));
  const plot = element("div", { className: "plot" }, element("div", { className: "y" }, ...axis.map((text) => element("span", {}, text))), box, element("div", { className: "x" }, ...ends));
  const details = element("details", {}, element("summary", {}, words("Show as table")), table);
  const keys = element("div", { className: "key" }, ...key.map(([drawing, word]) => element("span", {}, drawing, word)));
  return element("figure", {}, element("figcaption", {}, caption), keys, plot, read, details);
}

/** Returns the drawing, whose bins are read like the values of a slider and opened if they can be, and where the bin is said. */
function readerNode(caption, shapes, texts, { open, places }) {
  const width = WIDTH / places;
  const mark = svg("rect", { class: "bin", y: 0, width, height: HEIGHT, visibility: "hidden" });
  const said = element("div", { className: "read" });
  const box = element("div", { className: open ? "bins opens" : "bins", role: "slider", tabIndex: 0, ariaLabel: caption, "aria-valuemin": "1", "aria-valuemax": String(texts.length) }, canvas(...shapes, mark));
  let at = texts.length - 1;
  const show = (index) => {
    at = Math.min(texts.length - 1, Math.max(0, index));
    mark.setAttribute("x", String(at * width));
    mark.setAttribute("visibility", "visible");
    box.setAttribute("aria-valuenow", String(at + 1));
    box.setAttribute("aria-valuetext", texts[at]);
    said.textContent = texts[at];
  };
  const hide = () => {
    mark.setAttribute("visibility", "hidden");
    said.textContent = "";
  };
  box.setAttribute("aria-valuenow", String(at + 1));
  box.setAttribute("aria-valuetext", texts[at] ?? "");
  box.addEventListener("pointermove", ({ offsetX }) => show(Math.floor((offsetX / box.clientWidth) * places)));
  box.addEventListener("pointerleave", () => box.matches(":focus") || hide());
  box.addEventListener("focus", () => show(at));
  box.addEventListener("blur", hide);
  box.addEventListener("click", () => open?.(at));
  const keys = { ArrowLeft: () => show(at - 1), ArrowRight: () => show(at + 1), Home: () => show(0), End: () => show(texts.length - 1), Enter: () => open?.(at) };
  box.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });
  return [box, said];
}
