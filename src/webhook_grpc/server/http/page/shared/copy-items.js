// What can be copied of a thing, for a menu: pairs of a name and a text.

import { queryOf } from "../data/route.js";
import { asSent, curl, grpcurl } from "../data/shell-quote.js";

/** Returns what can be copied of a delivery; without its `event`, what does not need it. */
export function deliveryItems(words, delivery, event) {
  const { delivery_id: id, customer_id: customerId } = delivery;
  const query = `?customer_id=${customerId}`;
  const items = [
    [words("Copy as curl"), curl(location.origin, `/api/deliveries/${id}${query}`)],
    ["grpcurl", grpcurl("GetDelivery", { customer_id: customerId, delivery_id: id })],
    ["webhook-id", delivery.event_id],
    ["delivery_id", id],
    [words("Copy link"), `${location.origin}/deliveries/${id}${query}`],
  ];
  return event ? [...items, [words("Data"), event.data_text], [words("As it was sent"), asSent(delivery, event)]] : items;
}

/**
 * Returns what can be copied of a list: its filter as a call, and as a link. `method` is the gRPC method, `statuses` the
 * prefix of its enum's values.
 */
export function listItems(words, path, filter, { method, statuses: prefix = "" }) {
  const prefixes = { statuses: prefix, outcomes: "ATTEMPT_OUTCOME" };
  const proto = (name, value) => (name in prefixes ? value.map((one) => `${prefixes[name]}_${one.toUpperCase()}`) : value === "true" || value);
  const request = Object.fromEntries(Object.entries(filter).map(([name, value]) => [name, proto(name, value)]));
  return [
    [words("Copy as curl"), curl(location.origin, path + queryOf(filter))],
    ["grpcurl", grpcurl(method, request)],
    [words("Copy link"), `${location.origin}${location.pathname}${queryOf(filter)}`],
  ];
}

/** Returns what can be copied of a webhook. */
export function webhookItems(words, { webhook_id: id, customer_id: customerId, url }) {
  const query = `?customer_id=${customerId}`;
  return [
    [words("Copy as curl"), curl(location.origin, `/api/webhooks/${id}${query}`)],
    ["grpcurl", grpcurl("GetWebhook", { customer_id: customerId, webhook_id: id })],
    ["webhook_id", String(id)],
    [words("URL"), url],
    [words("Copy link"), `${location.origin}/webhooks/${id}${query}`],
  ];
}

/** Returns what can be copied of an event. */
export function eventItems(words, { event_id: id, customer_id: customerId, data_text: data }) {
  const query = `?customer_id=${customerId}`;
  return [
    [words("Copy as curl"), curl(location.origin, `/api/events/${id}${query}`)],
    ["grpcurl", grpcurl("GetEvent", { customer_id: customerId, event_id: id })],
    ["event_id", id],
    [words("Copy link"), `${location.origin}/events/${id}${query}`],
    [words("Data"), data],
  ];
}
