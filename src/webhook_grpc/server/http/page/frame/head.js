// The head of the page: where one can go, for an operator whose data is shown, and how.

import { isId, queryOf } from "../data/route.js";
import { element } from "../shared/look.js";

export const LINKS = [
  ["", "Live"],
  ["webhooks", "Webhooks"],
  ["deliveries", "Deliveries"],
  ["events", "Events"],
  ["replays", "Replays"],
  ["event-types", "Types"],
  ["audit", "Audit"], // for who may read it
];
export const THEMES = ["auto", "light", "dark"];
const REMEMBERED_MAX = 10;
const STORED = "webhook-grpc customers";

export const HEAD_LOOK = `
nav { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; }
nav a { min-height: 24px; display: inline-flex; align-items: center; }
nav a[aria-current] { color: var(--ink); font-weight: 600; text-decoration: none; }
.customer input { width: 132px; }
`;

/** The links and the customer box. `nodes` are the elements. */
export class Head {
  /** `chosen(customerId)` is called when an operator chooses a customer; empty: all. */
  constructor(words, chosen) {
    this._links = LINKS.map(([page, word]) => [page, element("a", { hidden: page === "audit" }, words(word))]);
    this._known = element("datalist", { id: "customers" });
    const input = element("input", { inputMode: "numeric", pattern: "[1-9][0-9]{0,18}", placeholder: words("All customers"), autocomplete: "off" });
    input.setAttribute("list", this._known.id);
    input.addEventListener("change", () => {
      const id = input.value.trim();
      if (!input.reportValidity()) return;
      if (id) remember(id);
      chosen(id);
    });
    this._input = input;
    this._box = element("label", { className: "customer", hidden: true }, words("Customer"), input, this._known);
    this.nodes = [element("nav", { ariaLabel: words("Pages") }, ...this._links.map(([, link]) => link)), this._box];
  }

  /** Shows where the reader is. `customerId` is the customer that lists are of, kept in all links; empty for all. */
  show(route, customerId, caller) {
    for (const [page, link] of this._links) {
      link.href = `/${page}${queryOf({ customer_id: customerId })}`;
      const isWithin = (route?.page === "attempts" ? "deliveries" : route?.page) === page;
      const isHere = isWithin && route.page === page && !route.id && !route.act;
      link.hidden = page === "audit" && !caller.permissions.includes("admin");
      if (isWithin) link.setAttribute("aria-current", isHere ? "page" : "true");
      else link.removeAttribute("aria-current");
    }
    this._box.hidden = caller?.customer_id !== undefined;
    this._input.value = customerId;
    this._known.replaceChildren(...remembered().map((id) => new Option("", id)));
  }
}

/**
 * Returns the choices of language, zone and theme, and the button of the keys. `set` has a function for each, which is called
 * with the value that was chosen.
 */
export function settingNodes(words, settings, set) {
  const help = element("button", { ariaLabel: words("Keyboard shortcuts"), title: words("Keyboard shortcuts") }, "?");
  help.addEventListener("click", set.help);
  return [
    choice("Language", [["English", "en"], ["中文", "zh"]], settings.language, set.language),
    choice("Zone", [[words("Local"), "local"], ["UTC", "utc"]], settings.zone, set.zone),
    choice(words("Dark / light"), THEMES.map((name) => [words(name), name]), settings.theme, set.theme),
    help,
  ];
}

function choice(label, options, value, chosen) {
  const select = element("select", { ariaLabel: label }, ...options.map(([text, name]) => new Option(text, name)));
  select.value = value;
  select.addEventListener("change", () => chosen(select.value));
  return select;
}

/** Returns the customers that were chosen last, the latest first: ids only. */
function remembered() {
  return (localStorage.getItem(STORED) ?? "").split(",").filter((id) => isId("customers", id));
}

function remember(id) {
  const ids = [id, ...remembered().filter((one) => one !== id)].slice(0, REMEMBERED_MAX);
  localStorage.setItem(STORED, ids.join(","));
}
