// Publishes an event from Node over gRPC, and waits until it has been delivered everywhere.
// npm install && npm run build && node built/publish.js 127.0.0.1:50051 1

import { problemOf, webhookClient } from "@webhook-grpc/stubs";
import { DeliveryStatus } from "@webhook-grpc/stubs/webhook/v1/delivery_pb";

const [address = "127.0.0.1:50051", customer = "1"] = process.argv.slice(2);
const customerId = BigInt(customer);
const client = webhookClient(address, { tokenFile: process.env["WHK_TOKEN_FILE"] });

try {
  const published = await client.publishEvent({
    event: {
      customerId,
      eventType: "job.completed",
      content: { case: "dataJson", value: JSON.stringify({ job_id: "job-abc123" }) },
    },
    requestId: crypto.randomUUID(), // the same again publishes nothing twice
  });
  let open = published.deliveryCount;
  const filter = { customerId, eventId: published.eventId };
  const watch = client.watchDeliveries({ ...filter, start: { case: "startTime", value: published.createTime! } });
  for await (const { deliveries } of watch) {
    for (const delivery of deliveries) {
      if (delivery.status === DeliveryStatus.PENDING) continue;
      console.log(`${delivery.deliveryId}: ${DeliveryStatus[delivery.status]}`);
      open -= 1;
    }
    if (open === 0) break;
  }
} catch (error) {
  const { reason, message, violations } = problemOf(error);
  console.error(reason, message, violations);
  process.exitCode = 1;
}
