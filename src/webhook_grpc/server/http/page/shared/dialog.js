// A dialog that asks before an act: what it is about, what follows from it, and the verb on the button.

import { addSheet, element, sheetOf } from "./look.js";
import { problemNode } from "./problem.js";

/** How dialogs look: for `addSheet`. */
export const SHEET = sheetOf(`
dialog.secret { display: grid; gap: 12px; }
dialog.ask { width: min(480px, calc(100vw - 32px)); max-height: calc(100dvh - 32px); overflow: auto; overflow-wrap: anywhere; }
dialog.ask textarea { width: 100%; }
dialog.ask p { margin: 0; }
dialog.ask h2 { font-size: 16px; margin: 0; }
dialog label.stacked { display: grid; gap: 4px; }
dialog.ask .line { justify-content: flex-end; }
button.danger:not(:disabled) { background: var(--bad); border-color: var(--bad); color: var(--bg); }
`);

let count = 0; // of the dialogs that were opened, for the ids of their titles

/**
 * Asks, and returns the request_id if it was confirmed, else "". The request_id is made when the dialog opens, so that
 * a double click, or a call that is repeated, acts once.
 *
 * `title` names the ids, `text` (a text, a node, or a list of them) the consequence, and `verb` stands on the button.
 * `danger` makes the verb red. `confirmText` (a text, or a function that returns one) has to be typed before the verb
 * is enabled; "" for nothing. `confirmLabel` names that field. `act(requestId)` is optional: the dialog then stays open
 * while it runs, shows its problem, and can be confirmed again, with the same request_id. With `stays`, the dialog stays
 * open after the act too, which may have put its answer into it.
 */
export function ask(root, page, question) {
  addSheet(root, SHEET);
  const dialog = new Dialog(page, question);
  root.append(dialog.node);
  dialog.node.showModal();
  return dialog.closed;
}

class Dialog {
  constructor(page, { title, text, verb, danger = false, confirmText = "", confirmLabel, act, stays = false }) {
    const { words } = page;
    const id = `dialog-${++count}`;
    this._page = page;
    this._act = act;
    this._stays = stays;
    this._requestId = crypto.randomUUID();
    this._confirmText = typeof confirmText === "function" ? confirmText : () => confirmText;
    this._no = element("button", { type: "button", autofocus: true }, words("Cancel"));
    this._yes = element("button", { className: danger ? "danger" : "primary" }, verb);
    this._problem = element("div", { role: "alert" });
    const typed = this._typedNode(confirmLabel ?? words("Type the name to confirm"));
    const line = element("div", { className: "line" }, this._no, this._yes);
    this._form = element("form", { method: "dialog" }, element("h2", { id }, title ?? verb), ...[text].flat(), typed, this._problem, line);
    this.node = element("dialog", { className: "ask", "aria-labelledby": id }, this._form);
    this.closed = new Promise((resolve, reject) => Object.assign(this, { _resolve: resolve, _reject: reject }));
    this._listen();
    this._check();
  }

  _typedNode(label) {
    this._shown = element("code", {});
    this._input = element("input", { autocomplete: "off", spellcheck: false });
    this._typed = element("label", { className: "stacked" }, element("span", {}, `${label}: `, this._shown), this._input);
    return this._typed;
  }

  _listen() {
    this._no.addEventListener("click", () => this.node.close());
    for (const name of ["input", "change"]) this._form.addEventListener(name, () => this._check());
    this._form.addEventListener("submit", (event) => (event.preventDefault(), this._confirm()));
    this.node.addEventListener("keydown", (event) => event.stopPropagation()); // the keys of the page are not meant
    this.node.addEventListener("click", ({ target }) => target.closest("a") && this.node.close()); // it leads elsewhere
    this.node.addEventListener("close", () => this._closed());
  }

  _check() {
    const wanted = this._confirmText();
    this._typed.hidden = !wanted;
    this._shown.textContent = wanted;
    this._yes.disabled = this._isActing || (wanted !== "" && this._input.value !== wanted);
  }

  async _confirm() {
    if (this._yes.disabled) return;
    this._isActing = true;
    this._check();
    this._problem.replaceChildren();
    try {
      await this._act?.(this._requestId);
      this._done();
    } catch (error) {
      this._isActing = false;
      this._check();
      if (this.node.open) this._problem.replaceChildren(problemNode(this._page, error));
      else this._reject(error);
    }
  }

  _done() {
    this._resolve(this._requestId);
    this._isActing = false;
    if (!this._stays) return this.node.close();
    this._no.textContent = this._page.words("Close");
    this._check();
  }

  /** Ends the question. An act that still runs says by itself how it ended. */
  _closed() {
    this.node.remove();
    if (!this._isActing) this._resolve("");
  }
}
