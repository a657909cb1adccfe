// Rows that a reader has chosen, by their ids.

import { element } from "../shared/look.js";

/** The chosen rows of a list. `rows` is a map from ids to rows; only this object writes it. */
export class Selection {
  rows = new Map();

  /** `idOf(row)` is the id of a row, `changed()` is called after each change. */
  constructor({ words, idOf, changed }) {
    this._words = words;
    this._idOf = idOf;
    this._changed = changed;
    this._boxes = new Map();
  }

  /** Chooses nothing. */
  clear() {
    this.rows.clear();
    for (const box of this._boxes.values()) box.checked = false;
    this._boxes.clear();
    if (this._all) this._all.checked = false;
    this._changed();
  }

  /** Returns the box of a row, in a label that is large enough for a finger. */
  boxNode(row, tabIndex) {
    const id = this._idOf(row);
    const box = element("input", { type: "checkbox", checked: this.rows.has(id), tabIndex, ariaLabel: `${this._words("Select")} ${id}` });
    box.addEventListener("change", () => this._choose([[id, row]], box.checked));
    this._boxes.set(id, box);
    return element("label", {}, box);
  }

  /** Returns the box that chooses all rows that `rowsOf()` returns. */
  allNode(rowsOf) {
    this._all = element("input", { type: "checkbox", ariaLabel: this._words("Select all that are shown") });
    this._all.addEventListener("change", () => {
      this._choose(rowsOf().map((row) => [this._idOf(row), row]), this._all.checked);
      for (const [id, box] of this._boxes) box.checked = this.rows.has(id);
    });
    return element("label", {}, this._all);
  }

  _choose(entries, isChosen) {
    for (const [id, row] of entries) {
      if (isChosen) this.rows.set(id, row);
      else this.rows.delete(id);
    }
    this._changed();
  }
}
