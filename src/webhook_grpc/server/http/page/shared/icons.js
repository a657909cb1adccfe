// Shapes of states and outcomes, drawn in the colour of their text. The word stands beside each, so they are hidden from
// screen readers.

const SVG = "http://www.w3.org/2000/svg";

// For each shape its parts: [element, attributes]; `fill` and `cut` are classes of the style sheet.
const SHAPES = {
  pending: [["circle", { cx: 8, cy: 8, r: 6 }], ["path", { d: "M8 4.5V8l2.5 1.5" }]],
  succeeded: [["circle", { cx: 8, cy: 8, r: 7, class: "fill" }], ["path", { d: "M4.8 8.3 7 10.5 11.3 5.8", class: "cut" }]],
  failed: [
    ["rect", { x: 1.5, y: 1.5, width: 13, height: 13, rx: 2, class: "fill" }],
    ["path", { d: "m5.2 5.2 5.6 5.6m0-5.6-5.6 5.6", class: "cut" }],
  ],
  cancelled: [["circle", { cx: 8, cy: 8, r: 6 }], ["path", { d: "m3.8 12.2 8.4-8.4" }]],
  expired: [["path", { d: "M4 2h8M4 14h8M4.8 2c0 4 6.4 8 6.4 12M11.2 2c0 4-6.4 8-6.4 12" }]],
  disabled: [["path", { d: "M8 2v6M4.6 4.6a5 5 0 1 0 6.8 0" }]],
  copy: [["path", { d: "M5 5V2h9v9h-3M2 5h9v9H2z" }]],
  disc: [["circle", { cx: 8, cy: 8, r: 5, class: "fill" }]],
  square: [["rect", { x: 3, y: 3, width: 10, height: 10, class: "fill" }]],
  triangle: [["path", { d: "M8 2.5 14 13H2z", class: "fill" }]],
  rhomb: [["path", { d: "M8 2 14 8 8 14 2 8z", class: "fill" }]],
  dot: [["circle", { cx: 8, cy: 8, r: 1.5, class: "fill" }]],
};

const MADE = new Map(); // one of each: a copy costs less than its parts

/** Returns a shape as an element; an unknown one is a dot. */
export function icon(name) {
  const known = name in SHAPES ? name : "dot";
  if (!MADE.has(known)) MADE.set(known, made(SHAPES[known]));
  return MADE.get(known).cloneNode(true);
}

function made(shape) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, attributes] of shape) {
    const part = document.createElementNS(SVG, kind);
    for (const [attribute, value] of Object.entries(attributes)) part.setAttribute(attribute, String(value));
    svg.append(part);
  }
  return svg;
}
