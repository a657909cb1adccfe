// The dialog that lists the keys, with a switch that turns them off.

import { KEY_NAMES } from "./keys.js";
import { element, sheetOf } from "../shared/look.js";

/** The look of the dialog, for the root in which it stands. */
export const HELP_SHEET = sheetOf(`
.keys { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 12px 0; }
.keys dt { font-family: ui-monospace, "SF Mono", Consolas, monospace; }
.keys dd { margin: 0; }
dialog.help { max-height: calc(100dvh - 32px); overflow-y: auto; }
dialog.help > label { display: flex; min-height: 28px; }
`);

/** Returns the dialog. `keys` has the switch: `areOn`. */
export function helpNode(words, keys) {
  const list = element("dl", { className: "keys" });
  for (const [key, word] of KEY_NAMES) list.append(element("dt", {}, key), element("dd", {}, words(word)));
  const box = element("input", { type: "checkbox", checked: keys.areOn });
  box.addEventListener("change", () => (keys.areOn = box.checked));
  const close = element("button", { type: "button", className: "primary", autofocus: true }, words("Close"));
  const title = element("h1", { id: "help-title" }, words("Keyboard shortcuts"));
  const dialog = element("dialog", { className: "help", "aria-labelledby": "help-title" }, title, element("label", {}, box, words("Keys are on")), list, close);
  close.addEventListener("click", () => dialog.close());
  return dialog;
}
