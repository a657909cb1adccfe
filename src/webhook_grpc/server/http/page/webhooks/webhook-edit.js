// The form to create a webhook or to change one.

import { conflicts, createBody, draftOf, patchOf } from "../data/webhook-draft.js";
import { visible } from "../data/json-text.js";
import { actButton } from "../shared/act-button.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";
import { showSecret } from "./secret.js";
import { LOOK as FORM_LOOK, WebhookForm } from "./webhook-form.js";
import { choose } from "./webhook-conflict.js";

const EVENT_TYPES_MAX = 1000;

export const LOOK = `${DETAIL_LOOK}${FORM_LOOK}
.conflict { grid-template-columns: 1fr 1fr; } .conflict .side { display: grid; gap: 4px; align-content: start; }
`;

/** Shows the form of a new webhook, or of the one that the address names. */
export function view(page, { id, filter }) {
  const node = element("main", { className: "detail" });
  const abort = new AbortController();
  const customer = filter.customer_id ? `?customer_id=${encodeURIComponent(filter.customer_id)}` : "";
  let isShown = false;
  const load = async () => {
    try {
      const [webhook, eventTypes] = await Promise.all([
        id ? page.api.get(`/api/webhooks/${id}${customer}`, abort) : {},
        page.api.get(`/api/eventTypes?page_size=${EVENT_TYPES_MAX}`, abort).then((found) => found.event_types.map((type) => type.event_type), () => []),
      ]);
      node.replaceChildren(new Editor(page, webhook, eventTypes, filter, abort.signal).node);
      isShown = true;
    } catch (error) {
      if (error.name !== "AbortError") node.replaceChildren(problemNode(page, error, load));
    }
  };
  load();
  return { node, stop: () => abort.abort(), signedIn: () => isShown || load() }; // what was typed stays
}

class Editor {
  constructor(page, webhook, eventTypes, filter, signal) {
    const { words } = page;
    this._page = page;
    this._signal = signal; // says whether the view is still shown; calls that change something are not broken off
    this._before = webhook;
    this._requestId = crypto.randomUUID();
    this._types = eventTypes;
    this._customerId = filter.customer_id ?? "";
    this._form = new WebhookForm(page, webhook, eventTypes, { customerId: this._customerId });
    this._problem = element("div", { role: "alert" });
    const title = webhook.webhook_id ? `${words("Edit")}: ${visible(webhook.name)} #${webhook.webhook_id}` : words("Create webhook");
    const save = actButton(page, webhook.webhook_id ? words("Save") : words("Create webhook"), () => this._save(), { className: "primary" });
    const cancel = element("button", { type: "button" }, words("Cancel"));
    cancel.addEventListener("click", () => page.go(this._back()));
    this.node = element("section", { className: "panel" }, element("h2", { className: "title" }, title), this._form.node, this._problem, element("p", { className: "buttons" }, save, cancel));
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.matches("input") && !event.defaultPrevented) save.click();
      if (event.key === "Escape") event.stopPropagation(); // what was typed is not thrown away by a key
    });
  }

  _back() {
    const { webhook_id: id, customer_id: customerId } = this._before;
    if (id) return `/webhooks/${id}?customer_id=${customerId}`;
    return `/webhooks${this._customerId ? `?customer_id=${this._customerId}` : ""}`;
  }

  async _save() {
    const root = this.node.getRootNode();
    const draft = this._form.read();
    if (!draft) return;
    this._problem.replaceChildren();
    this._form.show([]);
    try {
      const saved = this._before.webhook_id ? await this._update(draft) : await this._create(draft);
      if (!saved) return;
      this._form.clearSecret();
      if (saved.secret) await showSecret(root, this._page, saved);
      if (!this._signal.aborted) this._page.go(`/webhooks/${saved.webhook_id}?customer_id=${saved.customer_id}`);
    } catch (error) {
      this._refused(error);
    }
  }

  _create(draft) {
    const secret = this._form.secret;
    const body = { ...createBody(draft), ...(this._form.customerId && { customer_id: this._form.customerId }), ...(secret && { secret }) };
    return this._page.api.send("POST", "/api/webhooks", body, { requestId: this._requestId });
  }

  /** Sends what has changed; returns the webhook, or undefined if the person went back to the form. */
  async _update(draft) {
    const { webhook_id: id, customer_id: customerId, etag } = this._before;
    const patch = patchOf(draftOf(this._before), draft);
    if (!Object.keys(patch).length) return this._before;
    try {
      return await this._page.api.send("PATCH", `/api/webhooks/${id}`, { ...patch, customer_id: customerId }, { etag });
    } catch (error) {
      if (error.reason !== "ETAG_MISMATCH") throw error;
    }
    const current = await this._page.api.get(`/api/webhooks/${id}?customer_id=${customerId}`);
    const found = conflicts(draftOf(this._before), draft, draftOf(current));
    const chosen = found.length ? await choose(this._page, found) : {};
    if (!chosen) return undefined;
    this._before = current;
    this._showForm({ ...current, ...draft, ...chosen });
    return this._update(this._form.read());
  }

  /** Shows what was chosen, so that it is there if the service refuses it. */
  _showForm(webhook) {
    const { node } = this._form;
    this._form = new WebhookForm(this._page, webhook, this._types);
    node.replaceWith(this._form.node);
  }

  _refused(error) {
    const violations = error.document?.violations ?? [];
    const typeIsWrong = error.reason?.startsWith("EVENT_TYPE_");
    const rest = this._form.show(typeIsWrong ? [{ field: "events", description: error.message }] : violations);
    const isShown = (violations.length || typeIsWrong) && !rest.length;
    if (!isShown) this._problem.replaceChildren(problemNode(this._page, error));
  }
}
