// A webhook's secret: shown once, when the service has made it, and changed for another one.

import { visible } from "../data/json-text.js";
import { milliseconds } from "../data/time.js";
import { SHEET } from "../shared/dialog.js";
import { addSheet, element } from "../shared/look.js";
import { copy } from "../shared/menu.js";

const OVERLAPS = [["24 h", 86_400], ["1 h", 3600], ["7 d", 604_800]];

/**
 * Shows the secret of a webhook, as a call has just returned it, in a dialog that stays until it is said to be stored.
 * Afterwards neither the webhook nor the document has it. Resolves when the dialog is closed.
 */
export function showSecret(root, page, webhook) {
  const { words } = page;
  const value = element("input", { type: "password", readOnly: true, value: webhook.secret, autocomplete: "off", className: "code" });
  webhook.secret = "";
  const stored = element("input", { type: "checkbox" });
  const close = element("button", { type: "button", className: "primary", disabled: true }, words("Close"));
  const reveal = element("button", { type: "button", ariaPressed: "false" }, words("Reveal"));
  const take = element("button", { type: "button", autofocus: true }, words("Copy"));
  const dialog = element(
    "dialog",
    { className: "ask secret", ariaLabel: words("Secret") },
    element("h2", {}, `${words("Secret")}: ${visible(webhook.name)} #${webhook.webhook_id}`),
    element("p", {}, element("b", {}, words("Shown only this once")), ` …${webhook.secret_hint ?? ""}`),
    element("label", { className: "stacked" }, words("Secret"), value),
    element("div", { className: "buttons" }, reveal, take),
    ...overlapNodes(page, webhook),
    element("label", {}, stored, words("I have stored it")),
    element("div", { className: "buttons" }, close),
  );
  reveal.addEventListener("click", () => {
    const isShown = value.type === "password";
    value.type = isShown ? "text" : "password";
    reveal.ariaPressed = String(isShown);
  });
  take.addEventListener("click", () => copy(page, value.value, take));
  stored.addEventListener("change", () => (close.disabled = !stored.checked));
  close.addEventListener("click", () => dialog.close());
  return untilClosed(root, dialog, value);
}

/** Returns until when both secrets sign, and which header changes over then. */
function overlapNodes(page, webhook) {
  const { words } = page;
  if (!webhook.secret_overlap_end_time) return [];
  const time = page.clock(milliseconds(webhook.secret_overlap_end_time));
  return [
    element("p", {}, words("Both secrets sign until {time}", { time }), ". ", words("webhook-signature carries both until then; X-Webhook-Signature changes over then.")),
  ];
}

function untilClosed(root, dialog, value) {
  const stay = (event) => event.preventDefault();
  addEventListener("beforeunload", stay); // leaving would lose the secret
  dialog.addEventListener("cancel", stay);
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") event.preventDefault();
  });
  addSheet(root, SHEET);
  root.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      removeEventListener("beforeunload", stay);
      value.value = "";
      value.removeAttribute("value");
      dialog.remove();
      resolve();
    });
  });
}

/** Asks for how long the old secret signs too, changes it, and shows the new one. Returns whether it was changed. */
export async function rotateSecret(root, page, webhook) {
  const { words } = page;
  const isOverlapping = milliseconds(webhook.secret_overlap_end_time) > page.now();
  const choice = overlapChoice(words, isOverlapping);
  const none = element("p", { className: "bad", hidden: true }, words("The old secret stops within a second."));
  const isNone = () => choice.querySelector("input:checked").value === "0";
  choice.addEventListener("change", () => (none.hidden = !isNone()));
  none.hidden = !isNone();
  const why = isOverlapping ? [element("p", {}, words("An earlier rotation overlaps still, so both old secrets would stop."))] : [];
  let rotated;
  const act = async (requestId) => {
    const overlap = `${choice.querySelector("input:checked").value}s`;
    const body = { customer_id: webhook.customer_id, overlap };
    rotated = await page.api.send("POST", `/api/webhooks/${webhook.webhook_id}:rotateSecret`, body, { requestId });
  };
  const title = `${words("Rotate secret")}: ${visible(webhook.name)} #${webhook.webhook_id}`;
  const confirmText = () => (isNone() ? nameToType(webhook) : "");
  const text = [element("p", {}, words("Requests are signed with a new secret. The old one signs too for:")), choice, ...why, none];
  if (!(await page.confirm(text, words("Rotate secret"), { title, confirmText, act }))) return false;
  await showSecret(root, page, rotated);
  return true;
}

function overlapChoice(words, isOverlapping) {
  const options = [...(isOverlapping ? [] : OVERLAPS), [words("none"), 0]];
  const labels = options.map(([name, value], index) => {
    return element("label", {}, element("input", { type: "radio", name: "overlap", value: String(value), checked: index === 0 }), name);
  });
  return element("fieldset", { className: "choice" }, element("legend", {}, words("Overlap")), ...labels);
}

/** Returns what is typed to confirm an act that can't be taken back: the webhook's name, or its id if that can't be typed. */
export function nameToType({ name, webhook_id: id }) {
  return visible(name) === name && name.trim() === name ? name : String(id);
}
