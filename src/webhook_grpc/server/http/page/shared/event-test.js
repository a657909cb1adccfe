// A test with the data of an event that was published before.

import { answerNode } from "./answer.js";
import { element } from "./look.js";

/** Opens an event's data for editing, and sends it as a test to the webhook of the delivery. */
export async function testWith(page, delivery, event) {
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
