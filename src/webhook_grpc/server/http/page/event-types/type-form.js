// The form of an event type: what is wrong with a field stands under it.

import { visible } from "../data/json-text.js";
import { element } from "../shared/look.js";

export const TYPE_LOOK = `
.type-form { display: grid; gap: 12px; max-width: 720px; border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; }
.type-form > label { display: grid; gap: 4px; align-items: start; }
.type-form textarea { font: 13px/1.45 ui-monospace, "SF Mono", Consolas, monospace; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 6px; padding: 8px; width: 100%; resize: vertical; }
.type-form input { width: 100%; }
.type-form [aria-invalid="true"] { border-color: var(--bad); }
.type-form .wrong { color: var(--bad); overflow-wrap: anywhere; }
`;

const FIELDS = [
  ["event_type", "Event type", "input", { placeholder: "order.paid", maxLength: 128, required: true, spellcheck: false, autocomplete: "off" }],
  ["description", "Description", "input", { maxLength: 1024 }],
  ["json_schema", "JSON Schema; empty: any JSON", "textarea", { rows: 12, spellcheck: false }],
];

/** Returns why the caller may not change event types; an empty text if it may. */
export function typeReason({ words, caller }) {
  if (caller?.customer_id !== undefined) return words("Event types belong to the platform; only a caller for all customers may change them.");
  return caller?.permissions?.includes("manage") ? "" : words("Needs permission {p}", { p: "manage" });
}

/**
 * Returns the form of a type. `send(type)` sends it and returns the saved one, `saved(type)` is called with that. The name of
 * a type that has one can't be changed.
 */
export function typeForm(page, type, { send, saved, cancelled }) {
  const { words } = page;
  const isNew = !type.event_type;
  const fields = FIELDS.filter(([name]) => isNew || name !== "event_type").map((field) => fieldOf(page, type, field));
  const problem = element("div", { className: "wrong", role: "alert" });
  const save = element("button", { className: "primary" }, words(isNew ? "Create event type" : "Save"));
  const cancel = element("button", { type: "button" }, words("Cancel"));
  cancel.addEventListener("click", cancelled);
  const form = element("form", { className: "type-form" }, ...fields.map(({ node }) => node), problem, element("div", { className: "line" }, save, cancel));
  form.addEventListener("keydown", (event) => event.key === "Escape" && cancelled());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    save.disabled = true; // a double click acts once
    try {
      saved(await send(Object.fromEntries(fields.map(({ name, input }) => [name, input.value.trim()]))));
    } catch (error) {
      showProblem(page, fields, problem, error);
    }
    save.disabled = false;
  });
  return form;
}

function fieldOf({ words }, type, [name, word, kind, properties]) {
  const wrong = element("span", { className: "wrong", id: `wrong-${name}` });
  const input = element(kind, { ...properties, value: type[name] ?? "", "aria-describedby": wrong.id });
  return { name, input, wrong, node: element("label", {}, element("span", {}, words(word)), input, wrong) };
}

/** Writes each violation under its field, and what belongs to none above the buttons. */
function showProblem({ words }, fields, problem, error) {
  const violations = error.document?.violations ?? [];
  const left = new Set(violations);
  for (const { name, input, wrong } of fields) {
    const mine = violations.filter(({ field }) => pathOf(field).split(/[.#[]/)[0] === name);
    mine.forEach((violation) => left.delete(violation));
    wrong.textContent = visible(mine.map(({ field, description }) => `${pathOf(field).slice(name.length)} ${description}`.trim()).join("; "));
    input.setAttribute("aria-invalid", String(mine.length > 0));
  }
  fields.find(({ input }) => input.ariaInvalid === "true")?.input.focus();
  const isStale = error.reason === "ETAG_MISMATCH";
  const others = [...left].map(({ field, description }) => `${field}: ${description}`).join("; ");
  problem.textContent = visible(isStale ? words("Somebody changed it meanwhile") : violations.length ? others : error.message);
}

const pathOf = (field) => field.replace(/^event_type\./, "");
