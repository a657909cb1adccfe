// A view of a list: its filter, which stands in the address, and its rows.

import { readerOf } from "../data/listing.js";
import { partOf, queryOf } from "../data/route.js";
import { Filter } from "./filter.js";
import { List } from "./list.js";
import { listItems } from "../shared/copy-items.js";
import { element } from "../shared/look.js";
import { copyMenu } from "../shared/menu.js";

/**
 * Returns a view with the filter and the list that `spec` describes:
 *   title, order                 the words above it, and in which order its rows stand
 *   address, fields              its address, and the fields of the filter (see Filter)
 *   columns, hrefOf, selection   see List
 *   path, name, rowOf            the call of the API, the field of its rows, and what a row keeps of them
 *   copied                       what is copied of the filter: {method, statuses}, see listItems
 *   isTimed                      whether the list goes back in time, as far as the history is kept
 *   isOfCustomer                 whether the call takes a customer; unset: if it is timed
 *   above, below, links(filter)  nodes before and behind the list, and links beside the title
 */
export function history(page, route, spec) {
  const { words } = page;
  const filter = new Filter(page, spec.fields, (changed) => page.go(spec.address + queryOf(changed)));
  const names = ["customer_id", ...filter.names].filter((name) => (spec.isOfCustomer ?? spec.isTimed) || name !== "customer_id");
  const list = new List(page, {
    label: words(spec.title),
    columns: spec.columns,
    hrefOf: spec.hrefOf,
    read: (wanted) => marked(filter, readerOf(page.api, spec.path, queryOf(partOf(wanted, names)), spec.name, spec.rowOf)),
    foot: { fields: filter.names, isTimed: spec.isTimed, clear: () => filter.clear(), widen: (away) => filter.widen(away) },
    selection: spec.selection,
  });
  const links = element("span", { className: "over" });
  const copies = element("span", {});
  const update = (next) => {
    links.replaceChildren(...(spec.links?.(next.filter) ?? []));
    copies.replaceChildren(copyMenu(page, listItems(words, spec.path, partOf(next.filter, names), spec.copied)));
    filter.show(next.filter);
    list.restart(next.filter);
    return true;
  };
  update(route);
  const title = element("div", { className: "over" }, element("h2", {}, words(spec.title)), element("span", { className: "muted" }, words(spec.order)), links, copies);
  const node = element("main", { className: "list-page" }, title, ...(spec.fields.length ? [filter.node] : []), ...(spec.above ?? []), list.node, ...(spec.below ?? []));
  return { node, list, stop: () => (filter.stop(), list.stop()), update, signedIn: () => list.again(), key: (event) => list.key(event) };
}

/** Returns what reads a page, and marks the fields of the filter that the API refuses. */
function marked(filter, read) {
  return async (token, signal) => {
    try {
      const page = await read(token, signal);
      filter.mark(null);
      return page;
    } catch (error) {
      filter.mark(error);
      throw error;
    }
  };
}

/** Returns a link to another list, with the part of a filter that both take. */
export function linkTo({ words }, address, word, filter) {
  const { customer_id, webhook_ids, event_types, event_id, start_time, end_time } = filter;
  const query = queryOf({ customer_id, webhook_ids, event_types, event_id, start_time, end_time });
  return element("a", { href: address + query }, `${words(word)} →`);
}
