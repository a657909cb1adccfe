// The filter of a list. It stands in the address by the names of the API; what is typed is sent 250 ms after the last key.

import { PRESETS, before, fieldOf, timeOf } from "../data/period.js";
import { attributesOf, attributesText, queryOf } from "../data/route.js";
import { element } from "../shared/look.js";

const TYPING_MILLISECONDS = 250;
const NARROW = "(max-width: 720px)"; // where the filter is folded; list-look.js says the same

/**
 * The filter of a list. `node` is the element. A field is data: `name` (of the API) and `word`; `kind` is `text`, `list`
 * (several values by commas), `many` (of `options`, words by value), `switch`, `period` (start_time and end_time) or
 * `attributes`.
 */
export class Filter {
  /** `changed(filter)` is called with the whole filter after each change, and after Clear filters. */
  constructor(page, fields, changed) {
    this._page = page;
    this._changed = changed;
    this._fields = fields.map((field) => ({ ...field, ...KINDS[field.kind](page, field, (changes) => this._change(changes), (read) => this._soon(field.name, read)) }));
    this._waiting = new Map(); // what was typed and is not sent yet: how to read it, by name
    const clear = element("button", { type: "button" }, page.words("Clear filters"));
    clear.addEventListener("click", () => this.clear());
    const form = element("form", { className: "filter" }, ...this._fields.flatMap(({ nodes }) => nodes), clear);
    form.addEventListener("submit", (event) => event.preventDefault());
    this._fold = element("summary", { className: "fold" });
    this.node = element("details", { className: "filters", role: "search", open: !matchMedia(NARROW).matches }, this._fold, form);
  }

  /** Returns the names of the filter's values. */
  get names() {
    return this._fields.flatMap(({ name, kind }) => (kind === "period" ? ["start_time", "end_time"] : [name]));
  }

  /** Shows the filter of an address. A field that is being typed in is left alone. */
  show(filter) {
    this._filter = filter;
    for (const { show } of this._fields) show(filter);
    const count = this.names.filter((name) => name in filter).length;
    this._fold.textContent = [this._page.words("Filter"), count && `(${this._page.words("{n}", { n: count })})`].filter(Boolean).join(" ");
  }

  /** Takes all filters away, but the customer. */
  clear() {
    this.stop();
    this._changed({ customer_id: this._filter.customer_id });
  }

  /** Marks the fields that a problem of the API names. */
  mark(problem) {
    const wrong = (problem?.document?.violations ?? []).map(({ field }) => field.split(/[.[]/)[0]);
    for (const { name, nodes } of this._fields) {
      for (const node of nodes) node.setAttribute("aria-invalid", String(wrong.includes(name)));
    }
  }

  /** Shows another window of time: from so long ago until now. */
  widen(away) {
    this._change({ start_time: before(this._page.now(), away), end_time: "" });
  }

  stop() {
    clearTimeout(this._typing);
    this._waiting.clear();
  }

  /** Sends changes, and what was typed before them. */
  _change(changes) {
    clearTimeout(this._typing);
    const typed = Object.fromEntries([...this._waiting].map(([name, read]) => [name, read()]));
    this._waiting.clear();
    const filter = { ...this._filter, ...typed, ...changes };
    if (queryOf(filter) !== queryOf(this._filter)) this._changed(filter);
  }

  _soon(name, read) {
    this._waiting.set(name, read);
    clearTimeout(this._typing);
    this._typing = setTimeout(() => this._change({}), TYPING_MILLISECONDS);
  }
}

const partsOf = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);

// Each returns nodes, and show(filter), which writes a filter into them.
const KINDS = {
  text: (page, field, change, soon) => typed(page, field, change, soon, (text) => text.trim(), (value) => value ?? ""),
  list: (page, field, change, soon) => typed(page, field, change, soon, partsOf, (value) => (value ?? []).join(",")),
  attributes: (page, field, change, soon) => typed(page, field, change, soon, attributesOf, attributesText),
  many: manyField,
  switch: switchField,
  period: periodField,
};

function typed({ words }, { name, word, hint }, change, soon, read, write) {
  const input = element("input", { placeholder: [words(word), hint].filter(Boolean).join(": "), ariaLabel: words(word), title: words(word), autocomplete: "off", spellcheck: false });
  input.addEventListener("input", () => soon(() => read(input.value)));
  input.addEventListener("change", () => change({ [name]: read(input.value) }));
  const show = (filter) => {
    if (input.getRootNode().activeElement !== input) input.value = write(filter[name]);
  };
  return { nodes: [input], show };
}

function switchField({ words }, { name, word }, change) {
  const box = element("input", { type: "checkbox" });
  box.addEventListener("change", () => change({ [name]: box.checked ? "true" : "" }));
  return { nodes: [element("label", {}, box, words(word))], show: (filter) => (box.checked = filter[name] === "true") };
}

function manyField({ words }, { name, word, options }, change, soon) {
  const boxes = Object.keys(options).map((value) => element("input", { type: "checkbox", value }));
  const labels = boxes.map((box) => element("label", {}, box, words(options[box.value])));
  const summary = element("summary", {}, words(word));
  const node = element("details", { className: "many" }, summary, element("fieldset", { ariaLabel: words(word) }, ...labels));
  const chosen = () => boxes.filter((box) => box.checked).map(({ value }) => value);
  node.addEventListener("change", () => soon(chosen));
  node.addEventListener("focusout", ({ relatedTarget }) => node.contains(relatedTarget) || (node.open = false));
  node.addEventListener("keydown", (event) => event.key === "Escape" && (event.stopPropagation(), (node.open = false), summary.focus()));
  const show = (filter) => {
    const values = filter[name] ?? [];
    for (const box of boxes) box.checked = values.includes(box.value);
    summary.textContent = [words(word), values.map((value) => words(options[value] ?? value)).join(", ")].filter(Boolean).join(": ");
  };
  return { nodes: [node], show };
}

function periodField(page, _, change) {
  const { words, utc } = page;
  const inputs = ["From", "To"].map((word) => element("input", { type: "datetime-local", ariaLabel: words(word), step: 1 }));
  const names = ["start_time", "end_time"];
  inputs.forEach((input, index) => input.addEventListener("change", () => change({ [names[index]]: timeOf(input.value, utc) })));
  const preset = element("select", { ariaLabel: words("Window") }, new Option(words("Window"), ""), ...PRESETS.map(([word, away]) => new Option(words(word), String(away))));
  preset.addEventListener("change", () => {
    if (preset.value) change({ start_time: before(page.now(), Number(preset.value)), end_time: "" });
    preset.value = "";
  });
  const labelled = inputs.map((input, index) => element("label", {}, words(["From", "To"][index]), input));
  const show = (filter) => inputs.forEach((input, index) => (input.value = fieldOf(filter[names[index]], utc)));
  return { nodes: [element("span", { className: "period" }, preset, ...labelled)], show };
}
