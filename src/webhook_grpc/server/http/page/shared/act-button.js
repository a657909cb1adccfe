// A button that does something, and what it says to those who may not.

import { element } from "./look.js";

/** Returns whether the caller has a permission: `read`, `publish` or `manage`. */
export function may(page, permission) {
  return page.caller?.permissions?.includes(permission) ?? false;
}

/**
 * Returns a button that carries out `act(button)`. While that runs, further clicks do nothing; its problem is shown as
 * a toast. Without the permission it is disabled and says so; with a `why`, it is disabled with that reason.
 * By `name` a key finds it.
 */
export function actButton(page, word, act, { permission = "manage", why = "", name = "", className = "" } = {}) {
  const reason = may(page, permission) ? why : page.words("Needs permission {p}", { p: permission });
  const button = element("button", { type: "button", disabled: Boolean(reason), title: reason, className }, word);
  if (name) button.dataset.act = name;
  let isRunning = false;
  button.addEventListener("click", async () => {
    if (isRunning) return; // a double click acts once; the focus stays, as it would not on a disabled button
    isRunning = true;
    button.setAttribute("aria-busy", "true");
    try {
      await act(button);
    } catch (error) {
      page.toast(error.message);
    } finally {
      isRunning = false;
      button.removeAttribute("aria-busy");
    }
  });
  return button;
}

/** Says that something was done with what the view shows, so that it is loaded again. */
export function acted(node) {
  node.dispatchEvent(new CustomEvent("acted", { bubbles: true, composed: true }));
}
