// What a person may do with a delivery. Each act names its consequence before it happens; what is harmless asks nothing.

import { actButton, acted } from "../shared/act-button.js";
import { answerNode } from "../shared/answer.js";
import { deliveryItems } from "../shared/copy-items.js";
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

/** Opens an event's data for editing, and sends it as a test to the webhook of the delivery. */
async function testWith(page, delivery, event) {
  const { words } = page;
  const answer = element("div", { role: "status" });
  const data = element("textarea", { value: event.data_text, rows: 12, spellcheck: false, className: "code" });
  const label = element("label", { className: "stacked" }, words("Data"), data);
  const text = element("p", {}, words("One real request goes out now, to webhook {id}, as a test: type {type}.", { id: `#${delivery.webhook_id}`, type: event.event_type }));
  const send = async () => {
    answer.replaceChildren("…");
    const body = { customer_id: delivery.customer_id, event_type: event.event_type, data_json: data.value };
    const tested = await page.api.send("POST", `/api/webhooks/${delivery.webhook_id}:test`, body).finally(() => answer.replaceChildren());
    answer.replaceChildren(answerNode(page, tested.delivery));
  };
  await page.confirm([text, label, answer], words("Send test"), { title: words("Test with this event"), act: send, stays: true });
}
