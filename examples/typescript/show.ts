// Shows a customer's deliveries as they change: node built/show.js http://127.0.0.1:8080 1 2026-11-29T12:00:00Z

import { watch } from "./watch.js";

const [origin = "http://127.0.0.1:8080", customer_id = "1", since] = process.argv.slice(2);
const token = process.env["WHK_TOKEN"];
const filters = { customer_id, ...(since && { start_time: since }) };
const getToken = token === undefined ? undefined : async () => token;

for await (const delivery of watch({ origin, filters, ...(getToken && { getToken }) })) {
  console.log(`${delivery.delivery_id}: ${delivery.status}`);
}
