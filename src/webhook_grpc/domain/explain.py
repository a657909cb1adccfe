"""Why an event went to a webhook or did not, and what its delivery waits for: for people who ask where it is.

What is known is the webhook as it is now, the event, the delivery if there is one, and the receiver's health as it was
last saved, a second or two ago. What the webhook was like when the event was published is not kept, so it is concluded:
whoever matched has a delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from .breaker import BreakerState
from .matching import matches
from .model import Attempt, Delivery, DeliveryStatus, Event, Trigger, WebhookStatus
from .pace import ReceiverHealth
from .record import record

_PATTERNS_SHOWN_MAX: Final = 3


class Verdict(StrEnum):
    """Whether an event goes to a webhook, and why not."""

    MATCHED = "matched"
    TYPE_NOT_SUBSCRIBED = "type_not_subscribed"
    CREATED_LATER = "created_later"
    DISABLED = "disabled"
    CHANGED_LATER = "changed_later"
    TEST_OF_ANOTHER = "test_of_another"


class Standing(StrEnum):
    """What a delivery waits for, or that it ended."""

    NONE = "none"  # there is no delivery
    ENDED = "ended"
    SCHEDULED = "scheduled"
    PAUSED = "paused"
    BREAKER_OPEN = "breaker_open"
    HELD = "held"
    RATE_LIMITED = "rate_limited"
    WAITING_FOR_SLOT = "waiting_for_slot"
    ENDING = "ending"
    WAITING_FOR_KEY = "waiting_for_key"


@record
class Candidate:
    """A webhook of the event's customer, as far as it matters here."""

    webhook_id: int
    name: str
    status: WebhookStatus
    events: Sequence[str]
    rate_limit_per_second: int | None
    create_time: datetime
    missing_key: str | None = None  # the id of a key of its secrets that the process lacks which delivers to it


@record
class Explanation:
    """What an event means for one webhook. `until_time`: until when its delivery waits, if that is known."""

    verdict: Verdict
    standing: Standing
    until_time: datetime | None
    text: str


def explain(
    webhook: Candidate, event: Event, delivery: Delivery | None, health: ReceiverHealth, now: datetime
) -> Explanation:
    """Explains one webhook. `event` and `delivery` belong to its customer; `now` is by the database's clock."""
    if delivery is None:
        verdict, text = _why_none(webhook, event)
        return Explanation(verdict, Standing.NONE, None, text)
    if delivery.status is not DeliveryStatus.PENDING:
        return Explanation(Verdict.MATCHED, Standing.ENDED, None, _how_ended(webhook, delivery))
    standing, until_time, text = _what_it_waits_for(webhook, delivery, health, now)
    return Explanation(Verdict.MATCHED, standing, until_time, text)


def _why_none(webhook: Candidate, event: Event) -> tuple[Verdict, str]:
    if event.test_webhook_id == webhook.webhook_id:
        return Verdict.MATCHED, "The event is a test of this webhook: its one attempt is not in the log yet."
    if event.test_webhook_id is not None:
        return Verdict.TEST_OF_ANOTHER, f"The event is a test of webhook {event.test_webhook_id}: it goes nowhere else."
    if webhook.create_time > event.create_time:
        return Verdict.CREATED_LATER, f"The webhook was created later, at {_moment(webhook.create_time)}."
    if not matches(event.event_type, webhook.events):
        subscribed = ", ".join(f"`{pattern}`" for pattern in webhook.events[:_PATTERNS_SHOWN_MAX])
        more = len(webhook.events) - _PATTERNS_SHOWN_MAX
        and_more = f" and {more} more" if more > 0 else ""
        return (
            Verdict.TYPE_NOT_SUBSCRIBED,
            f"The webhook subscribes to {subscribed}{and_more}, not to `{event.event_type}`.",
        )
    if webhook.status is WebhookStatus.DISABLED:
        return Verdict.DISABLED, "The webhook is disabled, and was when the event was published."
    return Verdict.CHANGED_LATER, (
        "The webhook would match now, but did not when the event was published: it was changed since, or was disabled "
        "then; CreateReplay with include_undelivered delivers it all the same."
    )


def _how_ended(webhook: Candidate, delivery: Delivery) -> str:
    story = _story(delivery)
    match delivery.status:
        case DeliveryStatus.SUCCEEDED:
            return f"Delivered at {_moment(delivery.update_time)}: {story}."
        case DeliveryStatus.FAILED:
            return f"Failed: {story}{_how_again(webhook, delivery)}."
        case DeliveryStatus.EXPIRED:
            return f"Expired: {story}; the event is older than events are kept."
        case _:
            return f"Cancelled: {story}; {_why_cancelled(webhook, delivery)}{_how_again(webhook, delivery)}."


def _why_cancelled(webhook: Candidate, delivery: Delivery) -> str:
    last = delivery.last_attempt
    if last is not None and last.response_status == 410:
        return "the receiver answered 410 Gone, which disables a webhook"
    if webhook.status is WebhookStatus.DELETED:
        return "the webhook is deleted"
    if webhook.status is WebhookStatus.DISABLED:
        return "the webhook is disabled"
    return "the webhook was disabled then, or CancelDelivery or CancelReplay was called"


def _how_again(webhook: Candidate, delivery: Delivery) -> str:
    if webhook.status is WebhookStatus.DELETED:
        return ""
    if delivery.trigger is Trigger.TEST:
        return "; TestWebhook makes another"
    if webhook.status is WebhookStatus.DISABLED:
        return "; ResumeWebhook and then RetryDelivery restart it"
    return "; RetryDelivery restarts it"


def _what_it_waits_for(
    webhook: Candidate, delivery: Delivery, health: ReceiverHealth, now: datetime
) -> tuple[Standing, datetime | None, str]:
    """Of several times to wait for it is the last that counts."""
    story = _story(delivery)
    if webhook.status in {WebhookStatus.DELETED, WebhookStatus.DISABLED}:
        return Standing.ENDING, None, f"The webhook is {webhook.status.value}: {story}; it is about to be cancelled."
    if webhook.status is WebhookStatus.PAUSED:
        return Standing.PAUSED, None, f"The webhook is paused: {story}; it goes on with ResumeWebhook."
    if webhook.missing_key is not None:
        text = f"the webhook's secret is sealed with the key {webhook.missing_key}, which the process that sends lacks"
        return Standing.WAITING_FOR_KEY, None, f"It waits for the operator: {story}; {text}."
    due_time = max(delivery.next_attempt_time or now, now)
    probe_time = health.probe_time if health.breaker is BreakerState.OPEN else None
    if probe_time is not None and probe_time > max(due_time, health.hold_until or now):
        text = f"nothing is sent to it until {_moment(probe_time)}, then one request"
        return Standing.BREAKER_OPEN, probe_time, f"The receiver has failed too often: {story}; {text}."
    if health.hold_until is not None and health.hold_until > due_time:
        text = f"nothing is sent to it until {_moment(health.hold_until)}"
        return Standing.HELD, health.hold_until, f"The receiver asked for it with Retry-After: {story}; {text}."
    if due_time > now:
        return Standing.SCHEDULED, due_time, f"The next attempt is due at {_moment(due_time)}: {story}."
    return _why_due(webhook, health, story, now)


def _why_due(
    webhook: Candidate, health: ReceiverHealth, story: str, now: datetime
) -> tuple[Standing, datetime | None, str]:
    """Nothing but the receiver and its limits stands in the way."""
    if health.breaker is BreakerState.OPEN:
        text = f"The receiver has failed too often: {story}; one request is about to try it again, or tries it now."
        return Standing.BREAKER_OPEN, None, text
    if health.throttled_until is not None and health.throttled_until > now:
        text = f"requests are sent more slowly until {_moment(health.throttled_until)}"
        return Standing.RATE_LIMITED, None, f"It is due; the receiver answered 429: {story}; {text}."
    if webhook.rate_limit_per_second:
        text = f"the webhook gets {webhook.rate_limit_per_second} requests a second"
        return Standing.RATE_LIMITED, None, f"It is due and waits for its turn, or is being sent: {story}; {text}."
    if health.breaker is BreakerState.HALF_OPEN:
        text = f"It is due: {story}; the receiver is being tried again, with few requests at a time."
        return Standing.WAITING_FOR_SLOT, None, text
    text = f"It is due and waits for one of the webhook's slots, or is being sent: {story}."
    return Standing.WAITING_FOR_SLOT, None, text


def _story(delivery: Delivery) -> str:
    """What was done so far: how many attempts, how the last ended, and whether somebody restarted the delivery."""
    count, attempt = delivery.attempt_count, delivery.last_attempt
    made = {0: "no attempt made", 1: "1 attempt made"}.get(count, f"{count} attempts made")
    if attempt is not None:
        the_last = "" if count == 1 else "the last one "
        made += f", {the_last}" + (
            f"answered with {attempt.response_status}"
            if attempt.response_status
            else f"without an answer ({_why_unanswered(attempt)})"
        )
    return made + _BEGUN_BY.get(delivery.trigger, "")


def _why_unanswered(attempt: Attempt) -> str:
    """The outcome, and the sentence of the attempt as a part of ours."""
    sentence = attempt.reason.value.rstrip(".")
    return f"{attempt.outcome.value}: {sentence[:1].lower()}{sentence[1:]}" if sentence else attempt.outcome.value


_BEGUN_BY: Final = {
    Trigger.MANUAL: ", restarted by RetryDelivery",
    Trigger.REPLAY: ", restarted by a replay",
    Trigger.TEST: ", as a test",
}


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
