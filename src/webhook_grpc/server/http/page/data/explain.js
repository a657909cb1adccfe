// What an event means for a webhook, in a sentence, from the fields of ExplainEvent.

import { milliseconds, seconds, span } from "./time.js";

const VERDICTS = {
  type_not_subscribed: "It subscribes to {events}, not to {event_type}.",
  created_later: "It was created at {time}, after the event.",
  disabled: "It is disabled, and was when the event was published.",
  changed_later: "It would match now, but did not then. A replay can still send it.",
  test_of_another: "A test of webhook {id}; it goes nowhere else.",
};
const STANDINGS = {
  scheduled: "{story}. Next attempt {time}.",
  paused: "Paused: {story}. Sent once resumed.",
  held: "The receiver asked for a pause (Retry-After): {story}. Until {time}.",
  rate_limited: "Due; waits for its turn under the rate limit: {story}.",
  waiting_for_slot: "Due; waits for a free slot, or is being sent: {story}.",
  ending: "Its webhook is deleted or disabled: {story}. About to be cancelled.",
  waiting_for_key:
    "The secret of its webhook can't be opened here: {story}. It goes on once the operator has added the key.",
};
const ENDINGS = {
  succeeded: "Delivered {time}: {story}.",
  failed: "Failed: {story}. Retry restarts it.",
  cancelled: "Cancelled: {story}. Retry restarts it.",
  expired: "Expired: {story}; the event is no longer kept.",
};
const PROBE_LATER = "The receiver failed too often: {story}. Nothing is sent until {time}, then one request.";
const PROBE_NOW = "The receiver failed too often: {story}. It is being tried again now.";

/**
 * Returns the sentence of one entry of ExplainEvent. What the page does not know is the server's own sentence.
 * `words` says a text in the reader's language, `clock` writes a time, `webhook` is what else is known of the webhook.
 */
export function explain(entry, event, words, clock, webhook = {}) {
  const text = sentenceOf(entry);
  if (!text || (text.includes("{events}") && !webhook.events)) return entry.explanation ?? "";
  const time = timeOf(entry, webhook);
  if (text.includes("{time}") && Number.isNaN(time)) return entry.explanation ?? "";
  return words(text, {
    story: story(entry.delivery, words),
    time: Number.isNaN(time) ? "" : clock(time),
    events: (webhook.events ?? []).join(", "),
    event_type: event.event_type,
    id: String(event.test_webhook_id ?? ""),
  });
}

function sentenceOf(entry) {
  if (entry.verdict !== "matched") return VERDICTS[entry.verdict];
  if (entry.standing === "ended") return ENDINGS[entry.delivery?.status];
  if (entry.standing === "breaker_open") return entry.until_time ? PROBE_LATER : PROBE_NOW;
  return STANDINGS[entry.standing];
}

function timeOf(entry, webhook) {
  if (entry.verdict === "created_later") return milliseconds(webhook.create_time);
  if (entry.standing === "ended") return milliseconds(entry.delivery?.update_time);
  return milliseconds(entry.until_time);
}

/** Returns what has happened with a delivery so far. */
export function story(delivery, words) {
  const count = delivery?.attempt_count ?? 0;
  if (!count) return words("not tried yet");
  const outcome = outcomeText(delivery.last_attempt, words);
  if (!outcome) return count === 1 ? words("1 attempt") : words("{n} attempts", { n: count });
  return count === 1 ? words("1 attempt: {outcome}", { outcome }) : words("{n} attempts, the last {outcome}", { n: count, outcome });
}

/** Returns how an attempt ended, in words; empty if that is not known. */
export function outcomeText(attempt, words) {
  if (!attempt?.outcome) return "";
  switch (attempt.outcome) {
    case "succeeded":
    case "http_error":
      return words("answered {status}", { status: String(attempt.response_status) });
    case "timeout":
      return words("no answer in {span}", { span: span(seconds(attempt.latency)) });
    case "connection_error":
      return words("could not connect");
    case "tls_error":
      return words("bad TLS");
    case "protocol_error":
      return words("not HTTP");
    case "blocked":
      return words("address not allowed");
    case "internal_error":
      return words("not prepared");
    default:
      return attempt.outcome;
  }
}
