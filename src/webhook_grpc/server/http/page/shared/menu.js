// A menu of things to copy. It opens and closes by itself, by click, Enter, Escape and when the focus leaves.

import { element } from "./look.js";

export const LOOK = `
.menu { position: relative; }
.menu > summary { list-style: none; cursor: pointer; border: 1px solid var(--line); border-radius: 6px; min-height: 28px; padding: 2px 8px; }
.menu > summary::-webkit-details-marker { display: none; }
.menu > div { position: absolute; left: 0; z-index: 2; display: grid; min-width: 200px; max-width: calc(100vw - 32px); background: var(--bg); border: 1px solid var(--line); border-radius: 6px; padding: 4px; }
.menu > div > button { border-color: transparent; text-align: left; }
@media (max-width: 720px) { .menu > div { position: fixed; left: 16px; right: 16px; bottom: 16px; } }
@media (pointer: coarse) { .menu > summary { min-height: 44px; } }
`;

/** Returns a menu that copies texts: `items` are pairs of a name and a text; one without a text is disabled. */
export function copyMenu(page, items) {
  const { words } = page;
  const list = element("div", { tabIndex: -1 }); // a browser that focuses no clicked button focuses this instead
  const menu = element("details", { className: "menu" }, element("summary", {}, `${words("Copy")} ▾`), list);
  for (const [name, text] of items) {
    const button = element("button", { type: "button", disabled: !text, title: text ? "" : words("Too long for a command line") }, name);
    button.addEventListener("click", async () => {
      await copy(page, text, menu);
      menu.open = false;
      menu.firstElementChild.focus();
    });
    list.append(button);
  }
  menu.addEventListener("focusout", ({ relatedTarget }) => menu.contains(relatedTarget) || (menu.open = false));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation(); // it closes the menu, not the view
    menu.open = false;
    menu.firstElementChild.focus();
  });
  return menu;
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
