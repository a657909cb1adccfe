// What a person may do with a delivery. Each act names its consequence before it happens; what is harmless asks nothing.

import { actButton, acted } from "../shared/act-button.js";
import { deliveryItems } from "../shared/copy-items.js";
import { testWith } from "../shared/event-test.js";
import { element } from "../shared/look.js";
import { LOOK as MENU_LOOK, copyMenu } from "../shared/menu.js";

export const ACTS_LOOK = MENU_LOOK;

const ENDED = ["succeeded", "failed", "cancelled", "expired"];

/**
 * Returns the buttons of a delivery. What can't be done is disabled, with the reason. `event` is null when it is no
 * longer kept; `webhook` is what is known of its webhook.
 */
export function acts(page, delivery, event, webhook = {}) {
  const buttons = element("div", { className: "buttons" }, retryButton(page, delivery, event, webhook));
  buttons.append(cancelButton(page, delivery), testButton(page, delivery, event), copyMenu(page, deliveryItems(page.words, delivery, event)));
  return buttons;
}

function pathOf(delivery) {
  return `/api/deliveries/${delivery.delivery_id}`;
}

function retryButton(page, delivery, event, webhook) {
  const { words } = page;
  const requestId = crypto.randomUUID(); // of the delivery as it is shown: it is restarted once, however often one clicks
  const why = whyNotRetried(words, delivery, event, webhook);
  const retry = async (button, id) => {
    await page.api.send("POST", `${pathOf(delivery)}:retry`, { customer_id: delivery.customer_id }, { requestId: id });
    page.toast(words("Restarted: one attempt, not repeated if it fails"));
    acted(button);
  };
  const act = async (button) => {
    if (delivery.status !== "succeeded") return retry(button, requestId);
    const status = String(delivery.last_attempt?.response_status || "2xx");
    const text = words("The receiver has answered {status} already; it gets webhook-id {id} once more.", { status, id: delivery.event_id });
    const id = await page.confirm(text, words("Retry"), { title: titleOf(words("Retry"), delivery) });
    if (id) await retry(button, id);
  };
  return actButton(page, words("Retry"), act, { why, name: "retry" });
}

function whyNotRetried(words, delivery, event, webhook) {
  if (!ENDED.includes(delivery.status)) return words("It is pending: its next attempt comes by itself.");
  if (!event) return words("Its event is no longer kept.");
  if (event.test_webhook_id) return words("A test is not retried; send another one.");
  return webhook.status === "disabled" ? words("Its webhook is disabled; resume it first.") : "";
}

function cancelButton(page, delivery) {
  const { words } = page;
  const why = delivery.status === "pending" ? "" : words("It has ended already.");
  const act = async (button) => {
    const text = words("Ends as cancelled. A request under way is not broken off.");
    const send = () => page.api.send("POST", `${pathOf(delivery)}:cancel`, { customer_id: delivery.customer_id });
    if (await page.confirm(text, words("Cancel delivery"), { title: titleOf(words("Cancel delivery"), delivery), act: send })) acted(button);
  };
  return actButton(page, words("Cancel delivery"), act, { why, name: "cancel" });
}

function titleOf(verb, delivery) {
  return `${verb}: ${delivery.delivery_id}`;
}

function testButton(page, delivery, event) {
  const { words } = page;
  const why = event ? "" : words("Its event is no longer kept.");
  return actButton(page, words("Test with this event"), () => testWith(page, delivery, event), { why, name: "test" });
}
