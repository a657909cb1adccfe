// One event type: what it means, the schema that its data must fit, and for an operator the acts.

import { pretty, visible } from "../data/json-text.js";
import { milliseconds } from "../data/time.js";
import { DETAIL_LOOK } from "../shared/detail-look.js";
import { fact } from "../shared/facts.js";
import { element } from "../shared/look.js";
import { problemNode } from "../shared/problem.js";
import { TYPE_LOOK, typeForm, typeReason } from "./type-form.js";

export const LOOK = DETAIL_LOOK + TYPE_LOOK;

/** Shows one event type. */
export function view(page, { id }) {
  const node = element("main", { className: "detail" }, element("div", { className: "note" }, "…"));
  const abort = new AbortController();
  const path = `/api/eventTypes/${id}`;
  const show = (type) => node.replaceChildren(headNode(page, type), actsNode(page, type, { path, show }), schemaNode(page, type));
  const load = async () => {
    try {
      show(await page.api.get(path, abort));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 401) page.refused(error);
      node.replaceChildren(problemNode(page, error, load));
    }
  };
  load();
  return { node, stop: () => abort.abort(), signedIn: load };
}

function headNode(page, type) {
  const { words } = page;
  const state = words(type.archived ? "Archived" : type.built_in ? "Built in" : "Active");
  const links = [["Events", "/events"], ["Deliveries", "/deliveries"]].map(([word, path]) =>
    element("a", { href: `${path}?event_types=${type.event_type}` }, `${words(word)} →`),
  );
  return element(
    "section",
    { className: "panel" },
    element("h2", { className: "title" }, element("code", {}, type.event_type), element("span", { className: type.archived ? "off" : "ok" }, `● ${state}`)),
    element("p", { className: "story" }, visible(type.description ?? "")),
    element("p", { className: "facts" }, fact(words("Created"), page.clock(milliseconds(type.create_time))), fact(words("Changed"), page.clock(milliseconds(type.update_time))), ...links),
  );
}

function schemaNode(page, type) {
  const { words } = page;
  const text = type.json_schema;
  const shown = text ? element("pre", { tabIndex: 0, "aria-label": words("Schema") }, visible(pretty(text) ?? text)) : element("p", { className: "muted" }, words("Data may be any JSON."));
  return element("section", { className: "panel" }, element("h3", {}, words("Schema")), shown);
}

function actsNode(page, type, { path, show }) {
  const { words } = page;
  const node = element("section", { className: "buttons" });
  const change = (changes) => page.api.send("PATCH", path, changes, { etag: type.etag });
  const button = (word, reason, act) => {
    const made = element("button", { disabled: Boolean(reason), title: reason }, words(word));
    made.addEventListener("click", act);
    node.append(made);
  };
  const reason = typeReason(page);
  button("Edit", reason, () => {
    const form = typeForm(page, type, { send: change, saved: show, cancelled: () => show(type) });
    node.replaceChildren(form);
    form.querySelector("input").focus();
  });
  const isArchived = type.archived;
  button(isArchived ? "Bring back" : "Archive", reason || (type.built_in ? words("A built-in type can't be archived.") : ""), async () => {
    if (!isArchived && !(await page.confirm(words("Who subscribes to it stays subscribed; publishing is refused."), words("Archive")))) return;
    await change({ archived: !isArchived }).then(show, (error) => page.toast(error.message));
  });
  return node;
}
