// Addresses of the page. A filter stands in the query by the names of the API, so an address is a request. No token.

const IDS = {
  customers: /^[1-9]\d{0,18}$/,
  webhooks: /^[1-9]\d{0,18}$/,
  deliveries: /^dlv_[0-9a-z]{26}_[1-9]\d{0,18}$/,
  events: /^evt_[0-9a-z]{26}$/,
  replays: /^[1-9]\d{0,18}$/,
  "event-types": /^[a-z0-9_]+(\.[a-z0-9_]+)*$/,
};
const LISTS = ["", "webhooks", "deliveries", "attempts", "events", "replays", "event-types", "audit"];
const ACTS = { webhooks: ["new", "edit"], replays: ["new"] };

/** The filters of the live list and of lists, by name; true: may have several values. */
export const FILTERS = {
  customer_id: false,
  webhook_ids: true,
  event_types: true,
  statuses: true,
  outcomes: true,
  delivery_id: false,
  event_id: false,
  replay_id: false,
  request_id: false,
  include_archived: false,
  start_time: false,
  end_time: false,
  never_delivered: false,
  problems: false,
};

/** Returns page, id, act and filter of an address, or null if the page has no such address. */
export function parse(url) {
  const { pathname, search, hash } = new URL(url, "http://page.invalid");
  const [page = "", second, third, ...more] = pathname.replace(/^\/+|\/+$/g, "").split("/").map(decoded);
  if (!LISTS.includes(page) || more.length) return null;
  const acts = ACTS[page] ?? [];
  const found = { page, id: "", act: "", filter: filterOf(search), fragment: hash.slice(1) };
  if (second === undefined) return found;
  if (acts.includes(second) && second === "new" && third === undefined) return { ...found, act: "new" };
  if (!IDS[page]?.test(second)) return null;
  if (third !== undefined && !(third === "edit" && acts.includes("edit"))) return null;
  return { ...found, id: second, act: third ?? "" };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "%";
  }
}

const ATTRIBUTE = /^attributes\[(.+)\]$/;

/**
 * Returns the filter that a query says: a list for each name that may have several values, an object for `attributes`
 * (which stand in the query as `attributes[region]=eu`), else a text.
 */
export function filterOf(search) {
  const filter = {};
  for (const [name, value] of new URLSearchParams(search)) {
    if (ATTRIBUTE.test(name)) filter.attributes = { ...filter.attributes, [ATTRIBUTE.exec(name)[1]]: value };
    if (!Object.hasOwn(FILTERS, name) || !value) continue;
    if (FILTERS[name]) filter[name] = [...(filter[name] ?? []), ...value.split(",").filter(Boolean)];
    else filter[name] = value;
  }
  return filter;
}

/** Returns the query of a filter, with its question mark; empty for none. */
export function queryOf(filter) {
  const parts = Object.keys(FILTERS)
    .filter((name) => filter[name]?.length)
    .map((name) => `${name}=${[filter[name]].flat().map(encoded).join(",")}`);
  for (const [name, value] of Object.entries(filter.attributes ?? {})) {
    parts.push(`attributes[${encoded(name)}]=${encoded(value)}`);
  }
  return parts.length ? `?${parts.join("&")}` : "";
}

/** Returns a text as a value of a query; the colons of times stay readable. */
function encoded(text) {
  return encodeURIComponent(text).replaceAll("%3A", ":");
}

/** Returns the values of a filter that a call takes, which has these names. */
export function partOf(filter, names) {
  return Object.fromEntries(Object.entries(filter).filter(([name]) => names.includes(name)));
}

/** Returns the attributes of a text such as `region=eu, plan=pro`. */
export function attributesOf(text) {
  const parts = text.split(",").map((part) => /^\s*([^=]+?)\s*=\s*(.*?)\s*$/.exec(part));
  return Object.fromEntries(parts.filter(Boolean).map(([, name, value]) => [name, value]));
}

/** Returns attributes as a text to type in. */
export function attributesText(attributes = {}) {
  return Object.entries(attributes).map(([name, value]) => `${name}=${value}`).join(", ");
}

/** Returns where a text of the search field leads: an address, or a change of the filter; null if to nothing. */
export function lookup(text) {
  const wanted = text.trim();
  if (IDS.events.test(wanted)) return { path: `/events/${wanted}` };
  if (IDS.deliveries.test(wanted)) return { path: `/deliveries/${wanted}` };
  if (/^#?[1-9]\d{0,18}$/.test(wanted)) return { path: `/webhooks/${wanted.replace("#", "")}` };
  if (/^(\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?)$/.test(wanted)) return { filter: { event_types: [wanted] } };
  return null;
}

/** Returns whether an id, of an address or typed, has the form of its kind, so that it may stand in a path. */
export function isId(kind, id) {
  return Boolean(IDS[kind]?.test(String(id)));
}
