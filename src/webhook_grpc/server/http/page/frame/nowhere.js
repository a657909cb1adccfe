// What is shown for an address that the page does not have.

import { element } from "../shared/look.js";

export const LOOK = "";

/** Shows that there is no such page, and where to go. */
export function view({ words }) {
  const link = element("a", { href: "/" }, words("Live"));
  return { node: element("main", {}, element("p", {}, words("There is no such page.")), link), stop: () => undefined };
}
