// Fields of a form: each with its name, a hint, and what is wrong with it.

import { element } from "./look.js";

export const LOOK = `
.form { display: grid; gap: 16px; max-width: 720px; }
.field { display: grid; gap: 4px; justify-items: start; }
.field > label, .field > .name { font-weight: 600; }
.field input:not([type="checkbox"], [type="radio"]), .field textarea { width: 100%; }
.field .number { width: 120px !important; }
.field .wrong { color: var(--bad); }
.field .wrong:empty, .field .muted:empty { display: none; }
.pairs, .chosen { display: grid; gap: 4px; width: 100%; }
.pairs > div { display: grid; grid-template-columns: 1fr 1fr auto; gap: 4px; }
.add { display: grid; grid-template-columns: 1fr auto; gap: 4px; width: 100%; }
.chips { display: flex; flex-wrap: wrap; gap: 4px; list-style: none; margin: 0; padding: 0; }
.chips li { display: flex; gap: 4px; align-items: center; background: var(--surface); border-radius: 6px; padding: 0 0 0 8px; overflow-wrap: anywhere; }
.chips button { min-width: 28px; border-color: transparent; }
.waits { display: flex; flex-wrap: wrap; gap: 4px 0; list-style: none; margin: 0; padding: 0; align-items: center; }
.waits li { display: flex; align-items: center; }
.waits li::before { content: "●"; } .waits li span { border-bottom: 1px solid var(--line); padding: 0 8px; margin: 0 2px; }
fieldset { border: 1px solid var(--line); border-radius: 6px; display: grid; gap: 12px; margin: 0; min-width: 0; }
@media (max-width: 480px) { .pairs > div { grid-template-columns: 1fr auto; } .pairs > div > :first-child { grid-column: 1 / 3; } }
`;

/** A field: `node` is the whole of it; `say` shows what is wrong, or nothing. */
export class Field {
  /** `control` is the input, or a group of them, which the name then stands for. */
  constructor(name, title, control, hint = "") {
    const id = `field-${name}`;
    const isGroup = !("value" in control);
    this.hint = element("div", { className: "muted", id: `${id}-hint` }, hint);
    this._wrong = element("div", { className: "wrong", id: `${id}-wrong`, role: "alert" });
    this._control = control;
    if (isGroup) {
      control.setAttribute("role", "group");
      control.ariaLabel = title;
    } else control.id = id;
    control.setAttribute("aria-describedby", `${id}-hint ${id}-wrong`);
    const label = isGroup ? element("div", { className: "name" }, title) : element("label", { for: id }, title);
    this.node = element("div", { className: "field" }, label, control, this.hint, this._wrong);
  }

  say(...texts) {
    this._wrong.replaceChildren(...texts.map((text) => element("div", {}, text)));
    if ("value" in this._control) this._control.setAttribute("aria-invalid", String(texts.length > 0)); // no group is invalid
  }

  get isWrong() {
    return this._wrong.childElementCount > 0;
  }

  focus() {
    (this._control.querySelector?.("input, button") ?? this._control).focus();
  }
}

/**
 * Rows of names and values. Values of `hidden` pairs are not shown: what stands there already stays unless something
 * is typed over it.
 */
export class Pairs {
  constructor(words, before, { isHidden = false } = {}) {
    this._words = words;
    this._isHidden = isHidden;
    this._rows = element("div", { className: "pairs" });
    const add = element("button", { type: "button" }, words("Add"));
    add.addEventListener("click", () => this._add("", undefined).focus());
    this.node = element("div", { className: "pairs" }, this._rows, element("span", {}, add));
    for (const [name, value] of Object.entries(before).sort()) this._add(name, value);
  }

  _add(name, before) {
    const isKept = this._isHidden && before !== undefined;
    const key = element("input", { value: name, ariaLabel: this._words("Name"), spellcheck: false });
    const value = element("input", { value: isKept ? "" : (before ?? ""), ariaLabel: this._words("Value"), placeholder: isKept ? this._words("unchanged, not shown") : "", autocomplete: "off" });
    const remove = element("button", { type: "button", ariaLabel: `${this._words("Remove")} ${name}` }, "✕");
    const row = element("div", {}, key, value, remove);
    row.read = () => [key.value.trim(), isKept && !value.value ? before : value.value];
    remove.addEventListener("click", () => {
      row.remove();
      this.node.dispatchEvent(new Event("input", { bubbles: true }));
    });
    this._rows.append(row);
    return key;
  }

  /** What can't be read, as words; "" for nothing. */
  get problem() {
    const pairs = [...this._rows.children].map((row) => row.read());
    const names = pairs.map(([name]) => name).filter(Boolean);
    if (pairs.some(([name, value]) => !name && value)) return "A value has no name.";
    return new Set(names).size < names.length ? "A name stands there twice." : "";
  }

  get value() {
    return Object.fromEntries([...this._rows.children].map((row) => row.read()).filter(([name]) => name));
  }
}

/** Returns a number field's number, 0 for an empty one. */
export function numberOf(input) {
  return input.value === "" ? 0 : Number(input.value);
}
