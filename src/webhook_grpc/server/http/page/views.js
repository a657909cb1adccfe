// Which module shows which address. A view is loaded when it is first wanted, so that the first one is there at once.
//
// A module exports LOOK (its style sheet) and view(page, route), which returns what the page keeps while it is shown:
//   node             the element
//   stop()           ends its calls, streams and clocks
//   update(route)    optional: shows another filter of the same address; false if the view has to be made again
//   signedIn()       optional: goes on with a new token; without it the view is made again
//   key(event)       optional: takes a key that no field has; true if it did something

const VIEWS = {
  "": () => import("./live/live.js"),
  webhooks: () => import("./webhooks/webhooks.js"),
  "webhooks/new": () => import("./webhooks/webhook-edit.js"),
  "webhooks/edit": () => import("./webhooks/webhook-edit.js"),
  "webhooks/id": () => import("./webhooks/webhook.js"),
  deliveries: () => import("./lists/deliveries.js"),
  "deliveries/id": () => import("./delivery/delivery.js"),
  attempts: () => import("./lists/attempts.js"),
  events: () => import("./lists/events.js"),
  "events/id": () => import("./delivery/event.js"),
  replays: () => import("./replays/replays.js"),
  "replays/id": () => import("./replays/replay.js"),
  "replays/new": () => import("./replays/replay-new.js"),
  "event-types": () => import("./event-types/event-types.js"),
  "event-types/id": () => import("./event-types/event-type.js"),
  audit: () => import("./audit/audit.js"),
};

/** Returns the name of the view of a route, or undefined if there is none. */
export function nameOf(route) {
  const name = route && [route.page, route.act || (route.id && "id")].filter(Boolean).join("/");
  return name in VIEWS ? name : undefined;
}

/**
 * Loads the module of a view; of no name, the one that says that there is no such page. Throws TypeError if it can't be
 * loaded: the service may have a newer page.
 */
export function load(name) {
  return name === undefined ? import("./frame/nowhere.js") : VIEWS[name]();
}
