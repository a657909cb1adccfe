"""Why an event went to a webhook or did not, and what its delivery waits for: one row for each case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.explain import Candidate, Standing, Verdict, explain
from webhook_grpc.domain.model import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Event,
    FailureReason,
    Outcome,
    Trigger,
    WebhookStatus,
)
from webhook_grpc.domain.pace import ReceiverHealth

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVENT_ID = UUID(int=1)
WEBHOOK_ID = 7
OTHER_WEBHOOK_ID = 8
WELL = ReceiverHealth()


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def make_webhook(**fields: Any) -> Candidate:
    """One that existed before the event, asks for its type and is active."""
    values: dict[str, Any] = {
        "webhook_id": WEBHOOK_ID,
        "name": "orders",
        "status": WebhookStatus.ACTIVE,
        "events": ["job.*"],
        "rate_limit_per_second": None,
        "create_time": after(-3600),
    }
    return Candidate(**{**values, **fields})


def make_event(**fields: Any) -> Event:
    """A minute old."""
    values: dict[str, Any] = {
        "event_id": EVENT_ID,
        "customer_id": 42,
        "event_type": "job.completed",
        "occur_time": after(-60),
        "create_time": after(-60),
        "body": b"",
        "data_start": 0,
        "attributes": {},
    }
    return Event(**{**values, **fields})


def make_attempt(**fields: Any) -> Attempt:
    """Answered with 500."""
    values: dict[str, Any] = {
        "event_id": EVENT_ID,
        "webhook_id": WEBHOOK_ID,
        "customer_id": 1,
        "event_type": "job.completed",
        "attempt_number": 1,
        "start_time": after(-50),
        "latency_ms": 5,
        "outcome": Outcome.HTTP_ERROR,
        "response_status": 500,
        "response_body": b"",
        "reason": FailureReason.STATUS,
        "trigger": Trigger.SCHEDULED,
        "own_headers": (),
        "response_headers": {},
        "delivery_status": DeliveryStatus.PENDING,
        "next_attempt_time": None,
    }
    return Attempt(**{**values, **fields})


ANSWERED_500 = make_attempt()
TIMED_OUT = make_attempt(outcome=Outcome.TIMEOUT, response_status=None, reason=FailureReason.TIMEOUT)
TIMED_OUT_TEXT = "without an answer (timeout: the receiver did not answer within the webhook's timeout)"


def make_delivery(**fields: Any) -> Delivery:
    """Pending, tried once, due again since a second."""
    values: dict[str, Any] = {
        "event_id": EVENT_ID,
        "webhook_id": WEBHOOK_ID,
        "customer_id": 42,
        "event_type": "job.completed",
        "status": DeliveryStatus.PENDING,
        "attempt_count": 1,
        "last_attempt": ANSWERED_500,
        "next_attempt_time": after(-1),
        "create_time": after(-60),
        "update_time": after(-50),
    }
    return Delivery(**{**values, **fields})


UNTRIED = make_delivery(attempt_count=0, last_attempt=None, next_attempt_time=after(-60))


# --- why there is none -----------------------------------------------------------------------------------------------

WOULD_MATCH = (
    "The webhook would match now, but did not when the event was published: it was changed since, or was disabled "
    "then; CreateReplay with include_undelivered delivers it all the same."
)
NONE: list[tuple[str, dict[str, Any], dict[str, Any], Verdict, str]] = [
    (
        "it asks for other types",
        {"events": ["alert.*", "job.failed"]},
        {},
        Verdict.TYPE_NOT_SUBSCRIBED,
        "The webhook subscribes to `alert.*`, `job.failed`, not to `job.completed`.",
    ),
    (
        "it asks for many other types",
        {"events": ["a.*", "b.*", "c.*", "d.*", "e.*"]},
        {},
        Verdict.TYPE_NOT_SUBSCRIBED,
        "The webhook subscribes to `a.*`, `b.*`, `c.*` and 2 more, not to `job.completed`.",
    ),
    (
        "it asks for other types and is disabled",
        {"events": ["alert.*"], "status": WebhookStatus.DISABLED},
        {},
        Verdict.TYPE_NOT_SUBSCRIBED,
        "The webhook subscribes to `alert.*`, not to `job.completed`.",
    ),
    (
        "it was created later",
        {"create_time": after(-59)},
        {},
        Verdict.CREATED_LATER,
        "The webhook was created later, at 2026-01-01T11:59:01Z.",
    ),
    (
        "it was created later, and asks for other types, and is disabled",
        {"create_time": after(-59), "events": ["alert.*"], "status": WebhookStatus.DISABLED},
        {},
        Verdict.CREATED_LATER,
        "The webhook was created later, at 2026-01-01T11:59:01Z.",
    ),
    (
        "it is disabled",
        {"status": WebhookStatus.DISABLED},
        {},
        Verdict.DISABLED,
        "The webhook is disabled, and was when the event was published.",
    ),
    (
        "it would match now",
        {},
        {},
        Verdict.CHANGED_LATER,
        WOULD_MATCH,
    ),
    (
        "it would match now, and is paused",
        {"status": WebhookStatus.PAUSED},
        {},
        Verdict.CHANGED_LATER,
        WOULD_MATCH,
    ),
    (
        "it was created in the same moment",
        {"create_time": after(-60), "events": ["alert.*"]},
        {},
        Verdict.TYPE_NOT_SUBSCRIBED,
        "The webhook subscribes to `alert.*`, not to `job.completed`.",
    ),
    (
        "it is another's test",
        {"create_time": after(-1)},
        {"test_webhook_id": OTHER_WEBHOOK_ID},
        Verdict.TEST_OF_ANOTHER,
        "The event is a test of webhook 8: it goes nowhere else.",
    ),
    (
        "it is its own test, which is under way",
        {"events": ["alert.*"], "status": WebhookStatus.DISABLED},
        {"test_webhook_id": WEBHOOK_ID},
        Verdict.MATCHED,
        "The event is a test of this webhook: its one attempt is not in the log yet.",
    ),
]


@pytest.mark.parametrize(("webhook", "event", "verdict", "text"), [row[1:] for row in NONE], ids=[r[0] for r in NONE])
def test_why_there_is_no_delivery(webhook: dict[str, Any], event: dict[str, Any], verdict: Verdict, text: str) -> None:
    explained = explain(make_webhook(**webhook), make_event(**event), None, WELL, NOW)
    assert (explained.verdict, explained.standing, explained.until_time) == (verdict, Standing.NONE, None)
    assert explained.text == text


# --- how it ended ----------------------------------------------------------------------------------------------------

ENDED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "succeeded at once",
        {},
        {
            "status": DeliveryStatus.SUCCEEDED,
            "last_attempt": make_attempt(outcome=Outcome.SUCCEEDED, response_status=204),
        },
        "Delivered at 2026-01-01T11:59:10Z: 1 attempt made, answered with 204.",
    ),
    (
        "succeeded after retries, by hand",
        {},
        {
            "status": DeliveryStatus.SUCCEEDED,
            "attempt_count": 13,
            "last_attempt": make_attempt(outcome=Outcome.SUCCEEDED, response_status=200),
            "trigger": Trigger.MANUAL,
        },
        (
            "Delivered at 2026-01-01T11:59:10Z: 13 attempts made, the last one answered with 200, restarted by "
            "RetryDelivery."
        ),
    ),
    (
        "failed",
        {},
        {"status": DeliveryStatus.FAILED, "attempt_count": 12},
        "Failed: 12 attempts made, the last one answered with 500; RetryDelivery restarts it.",
    ),
    (
        "failed without an answer",
        {},
        {"status": DeliveryStatus.FAILED, "attempt_count": 12, "last_attempt": TIMED_OUT},
        f"Failed: 12 attempts made, the last one {TIMED_OUT_TEXT}; RetryDelivery restarts it.",
    ),
    *(
        (
            f"failed by its certificate: {reason.name}",
            {},
            {
                "status": DeliveryStatus.FAILED,
                "last_attempt": make_attempt(outcome=Outcome.TLS_ERROR, response_status=None, reason=reason),
            },
            f"Failed: 1 attempt made, without an answer (tls_error: {text}); RetryDelivery restarts it.",
        )
        for reason, text in [
            (FailureReason.CERTIFICATE_EXPIRED, "the receiver's TLS certificate has expired"),
            (FailureReason.CERTIFICATE_SELF_SIGNED, "the receiver's TLS certificate is self-signed"),
            (
                FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY,
                (
                    "the receiver's TLS certificate is from an authority that is not known here, or its chain is not "
                    "complete"
                ),
            ),
            (
                FailureReason.CERTIFICATE_NAME,
                "the receiver's TLS certificate is for another host name than the webhook's URL has",
            ),
            (
                FailureReason.CLIENT_CERTIFICATE_WANTED,
                "the receiver wants a TLS client certificate, which webhooks do not have",
            ),
        ]
    ),
    (
        "failed and the webhook is deleted",
        {"status": WebhookStatus.DELETED},
        {"status": DeliveryStatus.FAILED, "attempt_count": 12},
        "Failed: 12 attempts made, the last one answered with 500.",
    ),
    (
        "failed and the webhook is disabled",
        {"status": WebhookStatus.DISABLED},
        {"status": DeliveryStatus.FAILED, "attempt_count": 12},
        "Failed: 12 attempts made, the last one answered with 500; ResumeWebhook and then RetryDelivery restart it.",
    ),
    (
        "expired",
        {},
        {"status": DeliveryStatus.EXPIRED, "last_attempt": None},
        "Expired: 1 attempt made; the event is older than events are kept.",
    ),
    (
        "cancelled by 410",
        {"status": WebhookStatus.DISABLED},
        {"status": DeliveryStatus.CANCELLED, "last_attempt": make_attempt(response_status=410)},
        (
            "Cancelled: 1 attempt made, answered with 410; the receiver answered 410 Gone, which disables a webhook; "
            "ResumeWebhook and then RetryDelivery restart it."
        ),
    ),
    (
        "cancelled and the webhook is deleted",
        {"status": WebhookStatus.DELETED},
        {"status": DeliveryStatus.CANCELLED, "attempt_count": 0, "last_attempt": None},
        "Cancelled: no attempt made; the webhook is deleted.",
    ),
    (
        "cancelled and the webhook is disabled",
        {"status": WebhookStatus.DISABLED},
        {"status": DeliveryStatus.CANCELLED, "attempt_count": 2, "last_attempt": None},
        "Cancelled: 2 attempts made; the webhook is disabled; ResumeWebhook and then RetryDelivery restart it.",
    ),
    (
        "cancelled and the webhook is well",
        {},
        {"status": DeliveryStatus.CANCELLED, "attempt_count": 0, "last_attempt": None, "trigger": Trigger.REPLAY},
        (
            "Cancelled: no attempt made, restarted by a replay; the webhook was disabled then, or CancelDelivery or "
            "CancelReplay was called; RetryDelivery restarts it."
        ),
    ),
    (
        "a test",
        {},
        {"status": DeliveryStatus.FAILED, "trigger": Trigger.TEST},
        "Failed: 1 attempt made, answered with 500, as a test; TestWebhook makes another.",
    ),
]


@pytest.mark.parametrize(("webhook", "delivery", "text"), [row[1:] for row in ENDED], ids=[row[0] for row in ENDED])
def test_how_a_delivery_ended(webhook: dict[str, Any], delivery: dict[str, Any], text: str) -> None:
    explained = explain(make_webhook(**webhook), make_event(), make_delivery(**delivery), WELL, NOW)
    assert (explained.verdict, explained.standing) == (Verdict.MATCHED, Standing.ENDED)
    assert explained.until_time is None
    assert explained.text == text


# --- what it waits for -----------------------------------------------------------------------------------------------


def opened(probe_seconds: float, **fields: Any) -> ReceiverHealth:
    return ReceiverHealth(BreakerState.OPEN, after(probe_seconds), after(-900), **fields)


LATER = {"next_attempt_time": after(30)}
WAITING: list[tuple[str, dict[str, Any], dict[str, Any], ReceiverHealth, Standing, float | None, str]] = [
    (
        "due",
        {},
        {},
        WELL,
        Standing.WAITING_FOR_SLOT,
        None,
        "It is due and waits for one of the webhook's slots, or is being sent: 1 attempt made, answered with 500.",
    ),
    (
        "due later",
        {},
        LATER,
        WELL,
        Standing.SCHEDULED,
        30,
        "The next attempt is due at 2026-01-01T12:00:30Z: 1 attempt made, answered with 500.",
    ),
    (
        "due later after a timeout, with a rate limit",
        {"rate_limit_per_second": 5},
        {**LATER, "attempt_count": 3, "last_attempt": TIMED_OUT},
        WELL,
        Standing.SCHEDULED,
        30,
        f"The next attempt is due at 2026-01-01T12:00:30Z: 3 attempts made, the last one {TIMED_OUT_TEXT}.",
    ),
    (
        "begun anew",
        {},
        {"last_attempt": None, "trigger": Trigger.MANUAL, "attempt_count": 12},
        WELL,
        Standing.WAITING_FOR_SLOT,
        None,
        (
            "It is due and waits for one of the webhook's slots, or is being sent: 12 attempts made, restarted by "
            "RetryDelivery."
        ),
    ),
    (
        "paused",
        {"status": WebhookStatus.PAUSED},
        {},
        WELL,
        Standing.PAUSED,
        None,
        "The webhook is paused: 1 attempt made, answered with 500; it goes on with ResumeWebhook.",
    ),
    (
        "paused, due later, breaker open, held",
        {"status": WebhookStatus.PAUSED},
        LATER,
        opened(60, hold_until=after(90)),
        Standing.PAUSED,
        None,
        "The webhook is paused: 1 attempt made, answered with 500; it goes on with ResumeWebhook.",
    ),
    (
        "the webhook is deleted",
        {"status": WebhookStatus.DELETED},
        LATER,
        opened(60),
        Standing.ENDING,
        None,
        "The webhook is deleted: 1 attempt made, answered with 500; it is about to be cancelled.",
    ),
    (
        "the webhook is disabled",
        {"status": WebhookStatus.DISABLED},
        {},
        WELL,
        Standing.ENDING,
        None,
        "The webhook is disabled: 1 attempt made, answered with 500; it is about to be cancelled.",
    ),
    (
        "breaker open",
        {"rate_limit_per_second": 5},
        {},
        opened(60, throttled_until=after(600)),
        Standing.BREAKER_OPEN,
        60,
        (
            "The receiver has failed too often: 1 attempt made, answered with 500; nothing is sent to it "
            "until 2026-01-01T12:01:00Z, then one request."
        ),
    ),
    (
        "breaker open, due before the probe",
        {},
        LATER,
        opened(60),
        Standing.BREAKER_OPEN,
        60,
        (
            "The receiver has failed too often: 1 attempt made, answered with 500; nothing is sent to it "
            "until 2026-01-01T12:01:00Z, then one request."
        ),
    ),
    (
        "breaker open, due after the probe",
        {},
        LATER,
        opened(10),
        Standing.SCHEDULED,
        30,
        "The next attempt is due at 2026-01-01T12:00:30Z: 1 attempt made, answered with 500.",
    ),
    (
        "breaker open and the probe is due",
        {},
        {},
        opened(-1),
        Standing.BREAKER_OPEN,
        None,
        (
            "The receiver has failed too often: 1 attempt made, answered with 500; one request is about to try it "
            "again, or tries it now."
        ),
    ),
    (
        "breaker open, held for longer",
        {},
        {},
        opened(60, hold_until=after(90)),
        Standing.HELD,
        90,
        (
            "The receiver asked for it with Retry-After: 1 attempt made, answered with 500; nothing is sent to it "
            "until 2026-01-01T12:01:30Z."
        ),
    ),
    (
        "breaker open for longer than it is held",
        {},
        {},
        opened(90, hold_until=after(60)),
        Standing.BREAKER_OPEN,
        90,
        (
            "The receiver has failed too often: 1 attempt made, answered with 500; nothing is sent to it "
            "until 2026-01-01T12:01:30Z, then one request."
        ),
    ),
    (
        "held",
        {"rate_limit_per_second": 5},
        {},
        ReceiverHealth(hold_until=after(60), throttled_until=after(600)),
        Standing.HELD,
        60,
        (
            "The receiver asked for it with Retry-After: 1 attempt made, answered with 500; nothing is sent to it "
            "until 2026-01-01T12:01:00Z."
        ),
    ),
    (
        "due after the hold",
        {},
        LATER,
        ReceiverHealth(hold_until=after(20)),
        Standing.SCHEDULED,
        30,
        "The next attempt is due at 2026-01-01T12:00:30Z: 1 attempt made, answered with 500.",
    ),
    (
        "the hold is over",
        {},
        {},
        ReceiverHealth(hold_until=after(-1)),
        Standing.WAITING_FOR_SLOT,
        None,
        "It is due and waits for one of the webhook's slots, or is being sent: 1 attempt made, answered with 500.",
    ),
    (
        "slowed down by 429",
        {"rate_limit_per_second": 5},
        {},
        ReceiverHealth(throttled_until=after(600)),
        Standing.RATE_LIMITED,
        None,
        (
            "It is due; the receiver answered 429: 1 attempt made, answered with 500; requests are sent more slowly "
            "until 2026-01-01T12:10:00Z."
        ),
    ),
    (
        "no longer slowed down",
        {},
        {},
        ReceiverHealth(throttled_until=after(0)),
        Standing.WAITING_FOR_SLOT,
        None,
        "It is due and waits for one of the webhook's slots, or is being sent: 1 attempt made, answered with 500.",
    ),
    (
        "its own rate limit",
        {"rate_limit_per_second": 5},
        {},
        WELL,
        Standing.RATE_LIMITED,
        None,
        (
            "It is due and waits for its turn, or is being sent: 1 attempt made, answered with 500; the webhook gets 5 "
            "requests a second."
        ),
    ),
    (
        "half-open",
        {},
        {},
        ReceiverHealth(BreakerState.HALF_OPEN),
        Standing.WAITING_FOR_SLOT,
        None,
        "It is due: 1 attempt made, answered with 500; the receiver is being tried again, with few requests at a time.",
    ),
]


@pytest.mark.parametrize(
    ("webhook", "delivery", "health", "standing", "seconds", "text"),
    [row[1:] for row in WAITING],
    ids=[row[0] for row in WAITING],
)
def test_what_a_delivery_waits_for(
    webhook: dict[str, Any],
    delivery: dict[str, Any],
    health: ReceiverHealth,
    standing: Standing,
    seconds: float | None,
    text: str,
) -> None:
    explained = explain(make_webhook(**webhook), make_event(), make_delivery(**delivery), health, NOW)
    assert (explained.verdict, explained.standing) == (Verdict.MATCHED, standing)
    assert explained.until_time == (None if seconds is None else after(seconds))
    assert explained.text == text


def test_a_delivery_that_was_not_tried_yet_says_so() -> None:
    explained = explain(make_webhook(status=WebhookStatus.PAUSED), make_event(), UNTRIED, WELL, NOW)
    assert explained.text == "The webhook is paused: no attempt made; it goes on with ResumeWebhook."


def test_whoever_has_a_delivery_has_matched_whatever_the_webhook_asks_for_now() -> None:
    webhook = make_webhook(events=["alert.*"], create_time=after(0))
    assert explain(webhook, make_event(), UNTRIED, WELL, NOW).verdict is Verdict.MATCHED


times = st.one_of(st.none(), st.floats(-1000, 1000).map(after))


@given(
    st.sampled_from(WebhookStatus),
    st.sampled_from(DeliveryStatus),
    st.sampled_from(BreakerState),
    st.one_of(st.none(), st.integers(1, 1000)),
    times, times, times, times,
)  # fmt: skip
def test_whatever_is_known_gives_one_sentence_and_no_time_that_has_passed(
    webhook_status: WebhookStatus,
    status: DeliveryStatus,
    breaker: BreakerState,
    rate: int | None,
    due: datetime | None,
    probe: datetime | None,
    hold: datetime | None,
    throttled: datetime | None,
) -> None:
    webhook = make_webhook(status=webhook_status, rate_limit_per_second=rate)
    delivery = replace(make_delivery(), status=status, next_attempt_time=due)
    health = ReceiverHealth(breaker, probe, None, hold, throttled)
    explained = explain(webhook, make_event(), delivery, health, NOW)
    assert explained.until_time is None or explained.until_time > NOW
    assert (explained.standing is Standing.ENDED) is (status is not DeliveryStatus.PENDING)
    has_time = {Standing.SCHEDULED, Standing.HELD}
    assert explained.until_time is not None or explained.standing not in has_time
    assert explained.text.endswith(".")
    assert explained.text.count(". ") == 0
    assert len(explained.text) < 300
