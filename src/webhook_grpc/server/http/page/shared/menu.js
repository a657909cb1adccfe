// A menu of things to copy. It opens and closes by itself, by click, Enter, Escape and when the focus leaves.

import { addSheet, element, sheetOf } from "./look.js";

export const LOOK = `
.menu { position: relative; }
.menu > summary { list-style: none; cursor: pointer; border: 1px solid var(--line); border-radius: 6px; min-height: 28px; padding: 2px 8px; }
.menu > summary::-webkit-details-marker { display: none; }
.menu > div { position: absolute; left: 0; z-index: 2; display: grid; min-width: 200px; max-width: calc(100vw - 32px); background: var(--bg); border: 1px solid var(--line); border-radius: 6px; padding: 4px; }
.menu > div > button { border-color: transparent; text-align: left; }
@media (max-width: 720px) { .menu > div { position: fixed; left: 16px; right: 16px; bottom: 16px; } }
@media (pointer: coarse) { .menu > summary { min-height: 44px; } }
`;

const DIALOG_SHEET = sheetOf(`
dialog.copies[open] { display: grid; gap: 4px; min-width: min(280px, calc(100vw - 32px)); max-height: calc(100dvh - 32px); overflow: auto; overflow-wrap: anywhere; }
dialog.copies h2 { font-size: 16px; margin: 0 0 8px; }
dialog.copies button { text-align: left; }
`);

/** Returns a menu that copies texts: `items` are pairs of a name and a text; one without a text is disabled. */
export function copyMenu(page, items) {
  const list = element("div", { tabIndex: -1 }); // a browser that focuses no clicked button focuses this instead
  const menu = element("details", { className: "menu" }, element("summary", {}, `${page.words("Copy")} ▾`), list);
  const close = () => {
    menu.open = false;
    menu.firstElementChild.focus();
  };
  list.append(...copyButtons(page, items, menu, close));
  menu.addEventListener("focusout", ({ relatedTarget }) => menu.contains(relatedTarget) || (menu.open = false));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation(); // it closes the menu, not the view
    menu.open = false;
    menu.firstElementChild.focus();
  });
  return menu;
}

/** Shows a dialog with the same, for a row that has no room for a menu. The focus goes back to where it was. */
export function copyDialog(page, root, title, items) {
  const { words } = page;
  addSheet(root, DIALOG_SHEET);
  const close = element("button", { type: "button" }, words("Close"));
  const dialog = element("dialog", { className: "copies", ariaLabel: words("Copy") }, element("h2", {}, `${words("Copy")}: `, element("code", {}, title)));
  dialog.append(...copyButtons(page, items, close, () => dialog.close()), close);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the keys of the page are not meant
  dialog.addEventListener("close", () => dialog.remove());
  root.append(dialog);
  dialog.showModal();
}

function copyButtons(page, items, near, done) {
  return items.map(([name, text]) => {
    const button = element("button", { type: "button", disabled: !text, title: text ? "" : page.words("Too long for a command line") }, name);
    button.addEventListener("click", async () => {
      await copy(page, text, near);
      done();
    });
    return button;
  });
}

/** Copies a text and says so; says it too if the browser refuses. `near` is an element of the same dialog or view. */
export async function copy(page, text, near) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else if (!copySelected(text, near)) throw new Error("refused"); // over plain HTTP there is no clipboard to write to
    page.toast(page.words("Copied"));
  } catch {
    page.toast(page.words("The browser does not let this page copy."));
  }
}

function copySelected(text, near) {
  const area = element("textarea", { value: text });
  near.after(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}
