// The form for a token.

import { element } from "../shared/look.js";

/** Shows the dialog, and in it why; returns it. `signIn(token)` is called with what was typed. */
export function askToken(root, words, why, signIn) {
  const user = element("input", { autocomplete: "username", hidden: true }); // password managers look for one
  const input = element("input", { type: "password", autocomplete: "current-password", required: true, id: "token" });
  const problem = element("div", { className: "problem", role: "alert" });
  const hint = element("div", { className: "muted" }, words("The page needs a token, which stays in this tab's memory."));
  const button = element("button", { className: "primary" }, words("Sign in"));
  const form = element("form", { method: "dialog" }, user, element("label", { for: "token" }, words("Token")), input, hint, problem, button);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const token = input.value.trim();
    input.value = "";
    if (token) signIn(token);
  });
  const dialog = element("dialog", {}, form);
  root.append(dialog);
  dialog.showModal();
  problem.textContent = why; // after it is shown, so that it is read out
  return dialog;
}
