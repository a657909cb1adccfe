// Commands to copy into a terminal. No secret is ever in them: the token and the address are variables.

import { milliseconds } from "./time.js";

const TOKEN = 'Authorization: Bearer $TOKEN';
const COMMAND_CHARACTERS_MAX = 96 * 1024; // Linux takes 128 KiB in one argument

/** Returns a text as one word of a POSIX shell. */
export function quote(text) {
  return `'${String(text).replaceAll("'", "'\\''")}'`;
}

/** Returns the curl command of a GET. */
export function curl(base, path) {
  const isPlain = path.includes("[") ? " -g" : ""; // curl takes brackets for a range
  return `curl -sS${isPlain} -H "${TOKEN}" ${quote(base + path)}`;
}

/** Returns the curl command that sends JSON; without `hasToken` it carries none. */
export function curlPost(base, path, body, { hasToken = true } = {}) {
  const token = hasToken ? ` -H "${TOKEN}"` : "";
  return `curl -sS${token} -H 'Content-Type: application/json' --data-raw ${quote(JSON.stringify(body))} ${quote(base + path)}`;
}

/** Returns the grpcurl command of a call; `address` is where to, a variable unless it is known. */
export function grpcurl(method, request, { address = "$ADDRESS", hasToken = true, isPlaintext = false } = {}) {
  const options = `${isPlaintext ? " -plaintext" : ""}${hasToken ? ' -H "authorization: Bearer $TOKEN"' : ""}`;
  const where = address.startsWith("$") ? address : word(address);
  return `grpcurl${options} -d ${quote(JSON.stringify(request))} ${where} webhook.v1.WebhookService/${method}`;
}

/** Returns the line of the command line that publishes an event, and waits for its deliveries. */
export function publishLine({ customer_id: customer, event_type: type, data }, { address, isPlaintext }) {
  const isPlaintextByItself = /^(127\.|localhost:|\[::1\])/.test(address);
  const tls = isPlaintext === isPlaintextByItself ? "" : isPlaintext ? " --no-tls" : " --tls";
  return `webhook-grpc events publish ${word(type)} ${quote(JSON.stringify(data))} --wait -c ${customer} -a ${word(address)}${tls}`;
}

function word(part) {
  return /^[\w.:/=@-]+$/.test(part) ? String(part) : quote(part);
}

/**
 * Returns the curl command that sends a delivery's request to $URL, as the service sent it but for the signatures and
 * the webhook's own headers; "" if its data is too long for a command line.
 */
export function asSent(delivery, event) {
  const at = Math.floor(milliseconds(event.occur_time) / 1000);
  const body = `{"event":"${event.event_type}","timestamp":${at},"data":${event.data_text}}`;
  if (body.length > COMMAND_CHARACTERS_MAX) return "";
  const headers = {
    "Content-Type": "application/json",
    "X-Webhook-Event": event.event_type,
    "X-Webhook-Delivery": delivery.delivery_id,
    "X-Webhook-Attempt": Math.max(1, delivery.attempt_count),
    "webhook-id": delivery.event_id,
  };
  const options = Object.entries(headers).map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`);
  return `curl -sS -X POST ${options.join(" ")} --data-raw ${quote(body)} "$URL"`;
}
