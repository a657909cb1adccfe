// Which events a webhook subscribes to: patterns, completed from the types that there are, and how many of them match.

import { isPattern, matchesAny } from "../data/webhook-draft.js";
import { visible } from "../data/json-text.js";
import { element } from "../shared/look.js";

/** A list of patterns. `eventTypes` are those that are known, `node` is what is shown; changes are `input` events. */
export class EventPatterns {
  constructor(words, patterns, eventTypes) {
    this._words = words;
    this._types = eventTypes;
    this.value = [...patterns];
    this._chips = element("ul", { className: "chips" });
    this._count = element("div", { className: "muted", role: "status" });
    const known = element("datalist", { id: "known-patterns" }, ...suggestions(eventTypes).map((text) => element("option", { value: text })));
    this._input = element("input", { ariaLabel: words("Event type"), placeholder: "job.*", spellcheck: false, autocomplete: "off" });
    this._input.setAttribute("list", "known-patterns");
    this._input.addEventListener("keydown", (event) => this._key(event));
    this._input.addEventListener("change", () => this.take());
    const add = element("button", { type: "button" }, words("Add"));
    add.addEventListener("click", () => this.take());
    this.node = element("div", { className: "chosen" }, this._chips, element("div", { className: "add" }, this._input, add), known, this._count);
    this._show();
  }

  /** Takes what stands in the input into the list, as far as it has the form of a pattern. */
  take() {
    const parts = this._input.value.split(/[\s,]+/).filter(Boolean);
    const taken = parts.filter(isPattern);
    this._input.value = parts.filter((part) => !isPattern(part)).join(", ");
    this.value = [...new Set([...this.value, ...taken])];
    this._changed();
  }

  /** What stands in the input and is no pattern. */
  get rest() {
    return this._input.value.trim();
  }

  _key(event) {
    if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      this.take();
    } else if (event.key === "Backspace" && !this._input.value && this.value.length) {
      this.value.pop();
      this._changed();
    }
  }

  _changed() {
    this._show();
    this.node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  _show() {
    this._chips.replaceChildren(...this.value.map((pattern) => this._chip(pattern)));
    const count = this._types.filter((type) => matchesAny(type, this.value)).length;
    this._count.textContent = this._types.length ? this._words("matches {n} of {m} types", { n: count, m: this._types.length }) : "";
  }

  _chip(pattern) {
    const remove = element("button", { type: "button", ariaLabel: `${this._words("Remove")} ${visible(pattern)}` }, "✕");
    remove.addEventListener("click", () => {
      this.value = this.value.filter((other) => other !== pattern);
      this._changed();
      this._input.focus();
    });
    return element("li", {}, element("code", {}, visible(pattern)), remove);
  }
}

/** Returns what is offered: all, each prefix that has types, and each type. */
export function suggestions(eventTypes) {
  const prefixes = eventTypes.flatMap((type) => type.split(".").slice(0, -1).map((_, depth) => `${type.split(".").slice(0, depth + 1).join(".")}.*`));
  return ["*", ...[...new Set(prefixes)].sort(), ...[...eventTypes].sort()];
}
