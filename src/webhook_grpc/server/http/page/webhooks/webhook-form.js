// The form of a webhook. What is wrong stands under its field: what the page sees as it is typed, and what the service says.

import { SIGNATURE_TYPES, delayText, delaysOf, draftOf, durationOf, fieldOf, policyDelays, policyOf, urlProblem } from "../data/webhook-draft.js";
import { visible } from "../data/json-text.js";
import { seconds } from "../data/time.js";
import { EventPatterns } from "./event-patterns.js";
import { Field, LOOK as FIELDS_LOOK, Pairs, numberOf } from "../shared/form-fields.js";
import { element } from "../shared/look.js";
import { waitsNode } from "./retry-line.js";

export const LOOK = FIELDS_LOOK;

const ADVANCED = ["retry_policy", "timeout", "max_in_flight", "rate_limit_per_second", "signature_type", "headers", "labels", "description"];

/** The form: `node` is what is shown, `fields` its fields by the API's names. */
export class WebhookForm {
  /** `webhook` is what it was before, `{}` for a new one, which can bring a secret of its own. */
  constructor(page, webhook, eventTypes, { customerId = "" } = {}) {
    this._words = page.words;
    this.fields = {};
    const before = draftOf(webhook);
    const isNew = !webhook.webhook_id;
    const nodes = [];
    if (isNew && !page.caller.customer_id) nodes.push(this._customer(customerId));
    nodes.push(this._name(before), this._url(before), this._events(before, eventTypes));
    if (isNew) nodes.push(this._secret());
    this._details = element("details", {}, element("summary", {}, this._words("Advanced")), this._advanced(before));
    this._details.open = ADVANCED.some((name) => JSON.stringify(before[name]) !== JSON.stringify(draftOf({})[name]));
    this.node = element("div", { className: "form" }, ...nodes, this._details);
  }

  /**
   * Returns what was chosen, by the API's names, or null if something can't be read; that stands under its field then.
   */
  read() {
    this._patterns.take();
    if (this._isUnreadable()) return null;
    return {
      name: this._nameInput.value,
      url: this._urlInput.value.trim(),
      events: this._patterns.value,
      description: this._description.value,
      retry_policy: policyOf(delaysOf(this._delays.value) ?? []),
      timeout: this._timeout.value === "" ? null : durationOf(Number(this._timeout.value)),
      max_in_flight: numberOf(this._inFlight),
      rate_limit_per_second: numberOf(this._rate),
      headers: this._headers.value,
      labels: this._labels.value,
      signature_type: this._signatureType.value,
    };
  }

  /** The customer that was typed; empty if the caller has one. */
  get customerId() {
    return this._customerInput?.value.trim() ?? "";
  }

  /** The secret that was typed; empty if the service is to make one. */
  get secret() {
    return this._own?.checked ? this._secretInput.value : "";
  }

  /** Forgets the secret. */
  clearSecret() {
    if (this._secretInput) this._secretInput.value = "";
  }

  /** Shows each violation under its field; returns those that have none. */
  show(violations) {
    const byField = Map.groupBy(violations, ({ field }) => fieldOf(field));
    for (const [name, field] of Object.entries(this.fields)) {
      field.say(...(byField.get(name) ?? []).map((one) => `${visible(one.field)}: ${visible(one.description)}`));
      if (field.isWrong && ADVANCED.includes(name)) this._details.open = true;
    }
    Object.values(this.fields).find((field) => field.isWrong)?.focus();
    return violations.filter(({ field }) => !(fieldOf(field) in this.fields));
  }

  /** Returns whether something can't be read, and says so: what a field shows must not be dropped without a word. */
  _isUnreadable() {
    const wrong = ["events", "retry_policy"].filter((name) => (name === "events" ? this._patterns.rest : delaysOf(this._delays.value) === null));
    const say = (name, problem) => {
      if (problem) wrong.push(name);
      this.fields[name].say(...(problem ? [this._words(problem)] : []));
    };
    const numbers = { timeout: this._timeout, max_in_flight: this._inFlight, rate_limit_per_second: this._rate };
    for (const [name, input] of Object.entries(numbers)) say(name, input.validity.badInput && "A number is needed.");
    for (const [name, pairs] of [["headers", this._headers], ["labels", this._labels]]) say(name, pairs.problem);
    if (wrong.some((name) => ADVANCED.includes(name))) this._details.open = true;
    if (wrong.length) this.fields[wrong[0]].focus();
    return wrong.length > 0;
  }

  _add(name, title, control, hint) {
    this.fields[name] = new Field(name, title, control, hint);
    return this.fields[name].node;
  }

  _customer(customerId) {
    this._customerInput = element("input", { inputMode: "numeric", value: customerId, className: "number", autocomplete: "off" });
    return this._add("customer_id", this._words("Customer"), this._customerInput, this._words("A number. It can't be changed later."));
  }

  _name(before) {
    this._nameInput = element("input", { value: before.name, maxLength: 128, required: true });
    return this._add("name", this._words("Name"), this._nameInput);
  }

  _url(before) {
    this._urlInput = element("input", { value: before.url, type: "text", inputMode: "url", placeholder: "https://", spellcheck: false, autocomplete: "off", required: true });
    const node = this._add("url", this._words("URL"), this._urlInput);
    this._urlInput.addEventListener("input", () => {
      const problem = urlProblem(this._urlInput.value.trim());
      this.fields.url.say(...(problem ? [this._words(problem)] : []));
    });
    return node;
  }

  _events(before, eventTypes) {
    this._patterns = new EventPatterns(this._words, before.events, eventTypes);
    const hint = this._words("An exact type, a prefix like job.*, or * for all.");
    const node = this._add("events", this._words("Subscribed events"), this._patterns.node, hint);
    this._patterns.node.addEventListener("input", () => {
      const rest = this._patterns.rest;
      this.fields.events.say(...(rest ? [this._words("{text} is neither a type nor a prefix.", { text: visible(rest) })] : []));
    });
    return node;
  }

  _secret() {
    const make = element("input", { type: "radio", name: "secret", checked: true });
    this._own = element("input", { type: "radio", name: "secret" });
    this._secretInput = element("input", { type: "password", autocomplete: "new-password", hidden: true, ariaLabel: this._words("Secret") });
    const choice = element("div", { className: "chosen" }, element("label", {}, make, this._words("Make one for me")), element("label", {}, this._own, this._words("My own")), this._secretInput);
    choice.addEventListener("change", () => (this._secretInput.hidden = !this._own.checked));
    return this._add("secret", this._words("Secret"), choice, this._words("Requests are signed with it. One that is made here is shown once."));
  }

  _advanced(before) {
    const words = this._words;
    this._timeout = this._number(before.timeout ? seconds(before.timeout) : "", 1, 30, "15");
    this._timeout.step = "any";
    this._inFlight = this._number(before.max_in_flight || "", 1, 100, "10");
    this._rate = this._number(before.rate_limit_per_second || "", 1, 1000, "");
    this._signatureType = this._signatureTypes(before.signature_type);
    this._headers = new Pairs(words, before.headers, { isHidden: true });
    this._labels = new Pairs(words, before.labels);
    this._description = element("textarea", { value: before.description, rows: 2, maxLength: 1024 });
    return element(
      "div",
      { className: "form" },
      this._retryPolicy(before),
      this._add("timeout", words("Timeout"), this._timeout, words("In seconds, 1 to 30; empty: {n}.", { n: 15 })),
      this._add("max_in_flight", words("Requests at once"), this._inFlight, words("1 to {m}; empty: {n}.", { m: 100, n: 10 })),
      this._add("rate_limit_per_second", words("Requests a second"), this._rate, words("1 to {m}; empty: no limit.", { m: 1000 })),
      this._add("signature_type", words("Signatures"), this._signatureType, words("Ed25519: receivers can verify with a public key, which can't sign.")),
      this._add("headers", words("Headers"), this._headers.node, words("Sent with each request, at most 20.")),
      this._add("labels", words("Labels"), this._labels.node, words("For your own use, at most 20.")),
      this._add("description", words("Description"), this._description),
    );
  }

  _number(value, min, max, placeholder) {
    return element("input", { type: "number", className: "number", value: String(value), min: String(min), max: String(max), placeholder });
  }

  /** A type that this page does not know yet stays as it is. */
  _signatureTypes(chosen) {
    const types = { ...SIGNATURE_TYPES, [chosen]: SIGNATURE_TYPES[chosen] ?? visible(chosen) };
    const options = Object.entries(types).map(([name, text]) => new Option(this._words(text), name, false, name === chosen));
    return element("select", {}, ...options);
  }

  _retryPolicy(before) {
    this._delays = element("input", { value: policyDelays(before.retry_policy).map(delayText).join(", "), placeholder: "5 s, 30 s, 2 min, 1 h", spellcheck: false });
    const node = this._add("retry_policy", this._words("Retry schedule"), this._delays);
    const show = () => {
      const delays = delaysOf(this._delays.value);
      this.fields.retry_policy.say(...(delays ? [] : [this._words("Delays like 5 s, 2 min, 1 h, with commas between.")]));
      this.fields.retry_policy.hint.replaceChildren(waitsNode(this._words, delays ?? []));
    };
    this._delays.addEventListener("input", show);
    show();
    return node;
  }
}
