// Step 2 of the replay wizard: what is sent again, and to whom.

import { visible } from "../data/json-text.js";
import { REPLAYED } from "../data/replay.js";
import { isId } from "../data/route.js";
import { STATUSES } from "../data/store.js";
import { webhookStatusNode } from "../shared/facts.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";

const WEBHOOKS_MAX = 100; // that are listed, and that a replay may name

/** The fields of what is sent. `changed(part)` is called with what a person has chosen, `knew(webhooks)` with the webhooks that are ticked. */
export class WhatStep {
  constructor(page, changed, knew) {
    this._page = page;
    this._changed = changed;
    this._knew = knew;
    this._abort = new AbortController();
    this._webhooks = new Map(); // by id, as text
    this._list = element("div", { className: "choices", role: "group", ariaLabel: page.words("Webhooks") });
    this._customer = this._customerField();
    this._types = this._textField((text) => this._changed({ eventTypes: listOf(text) }));
    this._boxes = Object.keys(REPLAYED).map((status) => [status, this._box(() => this._changed({ statuses: this._chosenStatuses() }))]);
    this._never = this._box(() => this._changed({ neverDelivered: this._never.checked }));
    this._fault = element("p", { className: "bad", role: "alert" });
    this.node = this._makeNode();
  }

  stop() {
    this._abort.abort();
  }

  /** Forgets which webhooks there are: with another token the next form that is shown loads them again. */
  forget() {
    this._customerId = undefined;
  }

  /** Shows a form, and what is wrong with it; loads the webhooks of another customer. */
  show(form, fault) {
    this._form = form;
    const isFocused = (input) => input.getRootNode().activeElement === input;
    if (!isFocused(this._customer)) this._customer.value = form.customerId;
    if (!isFocused(this._types)) this._types.value = form.eventTypes.join(", ");
    for (const [status, box] of this._boxes) box.checked = form.statuses.includes(status);
    this._never.checked = form.neverDelivered;
    this._fault.textContent = fault && this._page.words(fault);
    if (this._customerId === form.customerId) return;
    this._customerId = form.customerId;
    this._load();
  }

  async _load() {
    this._abort.abort();
    this._abort = new AbortController();
    this._webhooks.clear();
    const customer = this._customerId ? `customer_id=${encodeURIComponent(this._customerId)}` : "";
    try {
      const found = await this._page.api.get(`/api/webhooks?${customer}&page_size=${WEBHOOKS_MAX}`, this._abort);
      if (this._lacksCustomer()) return this._guessCustomer(found);
      const listed = new Set(found.webhooks.map((webhook) => String(webhook.webhook_id)));
      const missing = this._form.webhookIds.filter((id) => !listed.has(id) && isId("webhooks", id));
      const more = await Promise.all(missing.map((id) => this._page.api.get(`/api/webhooks/${id}?${customer}`, this._abort)));
      for (const webhook of [...more, ...found.webhooks]) this._webhooks.set(String(webhook.webhook_id), webhook);
      this._showWebhooks(Boolean(found.next_page_token));
    } catch (error) {
      if (error.name !== "AbortError") this._list.replaceChildren(problemNode(this._page, error, () => this._load()));
    }
  }

  /** Takes the customer of all webhooks that there are, if it is one; else it has to be named. */
  _guessCustomer(found) {
    const owners = [...new Set(found.webhooks.map((webhook) => String(webhook.customer_id)))];
    this._list.replaceChildren();
    if (owners.length === 1 && !found.next_page_token) this._changed({ customerId: owners[0] });
  }

  _lacksCustomer() {
    return !this._customerId && this._page.caller?.customer_id === undefined;
  }

  _showWebhooks(areThereMore) {
    const { words } = this._page;
    const labels = [...this._webhooks].map(([id, webhook]) => {
      const box = this._box(() => this._tick(id, box.checked));
      box.checked = this._form.webhookIds.includes(id);
      return element("label", {}, box, `${visible(webhook.name)} #${id}`, webhookStatusNode(this._page, webhook));
    });
    if (!labels.length) labels.push(element("p", { className: "muted" }, words("No webhook yet")));
    if (areThereMore) labels.push(element("p", { className: "muted" }, words("The latest {n} are shown.", { n: WEBHOOKS_MAX })));
    this._list.replaceChildren(...labels);
    this._reportTicked();
  }

  _tick(id, isTicked) {
    const others = this._form.webhookIds.filter((other) => other !== id);
    this._changed({ webhookIds: isTicked ? [...others, id] : others });
    this._reportTicked();
  }

  _reportTicked() {
    this._knew(this._form.webhookIds.map((id) => this._webhooks.get(id)).filter(Boolean));
  }

  // --- fields -------------------------------------------------------------------------------------------------------

  _makeNode() {
    const { words } = this._page;
    const label = (word, input) => element("label", {}, words(word), input);
    const ticks = this._boxes.map(([status, box]) => element("label", {}, box, words(STATUSES[status])));
    const isOfOne = this._page.caller?.customer_id !== undefined; // then it is not to be chosen
    return element(
      "fieldset",
      { className: "panel step" },
      element("legend", {}, `2 · ${words("What")}`),
      element("div", { className: "fields" }, element("label", { hidden: isOfOne }, words("Customer"), this._customer), label("Event types", this._types)),
      element("p", { className: "muted" }, words("Webhooks: none ticked are all of them, but those that are disabled.")),
      this._list,
      element("div", { className: "fields", role: "group", ariaLabel: words("Status") }, ...ticks, element("label", {}, this._never, words("Events that were never delivered"))),
      this._fault,
    );
  }

  _chosenStatuses() {
    return this._boxes.filter(([, box]) => box.checked).map(([status]) => status);
  }

  _customerField() {
    return this._textField((text) => this._changed({ customerId: text.trim(), webhookIds: [] }), { inputMode: "numeric", size: 8 });
  }

  _textField(typed, properties = {}) {
    const input = element("input", { autocomplete: "off", spellcheck: false, ...properties });
    input.addEventListener("change", () => typed(input.value));
    input.addEventListener("input", () => this._changed({})); // what was counted is something else already
    return input;
  }

  _box(ticked) {
    const box = element("input", { type: "checkbox" });
    box.addEventListener("change", ticked);
    return box;
  }
}

function listOf(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}
