// What a person may do with a delivery. Each act names its consequence before it happens; what is harmless asks nothing.

import { element } from "./look.js";
import { curl, grpcurl } from "../data/shell-quote.js";

/** Returns the buttons of a delivery. What the caller may not do is disabled, with the reason. */
export function acts(page, delivery, event) {
  const { words } = page;
  const buttons = element("div", { className: "buttons" });
  const isPending = delivery.status === "pending";
  const may = page.caller?.permissions?.includes("manage") ?? false;
  const path = `/api/deliveries/${delivery.delivery_id}`;
  const body = { customer_id: delivery.customer_id };
  const add = (word, isPossible, act) => {
    const button = element("button", { disabled: !may || !isPossible }, words(word));
    if (!may) button.title = words("Needs permission {p}", { p: "manage" });
    button.addEventListener("click", async () => {
      button.disabled = true; // a double click acts once
      await act(button).catch((error) => page.toast(error.message));
      button.disabled = false;
    });
    buttons.append(button);
  };
  const done = (button) => button.dispatchEvent(new CustomEvent("acted", { bubbles: true, composed: true }));
  const retry = async (button, requestId) => {
    await page.api.send("POST", `${path}:retry`, body, { requestId });
    page.toast(words("Restarted: one attempt, not repeated if it fails"));
    done(button);
  };
  add("Retry", ["failed", "cancelled", "succeeded"].includes(delivery.status) && Boolean(event), async (button) => {
    const requestId = crypto.randomUUID();
    if (delivery.status !== "succeeded") return retry(button, requestId);
    const text = words("The receiver has answered already; it gets webhook-id {id} once more.", { id: delivery.event_id });
    if (await page.confirm(text, words("Retry"))) await retry(button, requestId);
  });
  add("Cancel delivery", isPending, async (button) => {
    const text = words("Ends as cancelled. A request under way is not broken off.");
    if (!(await page.confirm(text, words("Cancel delivery")))) return;
    await page.api.send("POST", `${path}:cancel`, body);
    done(button);
  });
  buttons.append(copyMenu(page, delivery));
  return buttons;
}

function copyMenu(page, delivery) {
  const { words } = page;
  const items = [
    ["webhook-id", delivery.event_id],
    ["delivery_id", delivery.delivery_id],
    [words("Copy link"), `${location.origin}/deliveries/${delivery.delivery_id}?customer_id=${delivery.customer_id}`],
    [words("Copy as curl"), curl(location.origin, `/api/deliveries/${delivery.delivery_id}?customer_id=${delivery.customer_id}`)],
    ["grpcurl", grpcurl("GetDelivery", { customer_id: delivery.customer_id, delivery_id: delivery.delivery_id })],
  ];
  const menu = element("select", { ariaLabel: words("Copy") }, new Option(words("Copy"), ""), ...items.map(([name, text]) => new Option(name, text)));
  menu.addEventListener("change", async () => {
    if (menu.value) await navigator.clipboard?.writeText(menu.value).catch(() => undefined);
    page.toast(words("Copied"));
    menu.value = "";
  });
  return menu;
}
