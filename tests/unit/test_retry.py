"""What happens after an attempt. The numbers are those of docs/delivery.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.model import AttemptResult, DeliveryStatus, Outcome
from webhook_grpc.domain.retry import (
    AGAIN_SECONDS,
    DEFAULT_DELAYS_SECONDS,
    OVERLOAD_DELAY_SECONDS_MIN,
    Decision,
    RetryPolicy,
    again,
    decide,
    parse_retry_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT = RetryPolicy()
DAY = 86_400.0

jitters = st.floats(min_value=0, max_value=1, exclude_max=True)
default_attempts = st.integers(min_value=1, max_value=len(DEFAULT_DELAYS_SECONDS))


def http_error(status: int, retry_after: str | None = None) -> AttemptResult:
    """The receiver's answer."""
    return AttemptResult(Outcome.HTTP_ERROR, NOW, 5, response_status=status, retry_after=retry_after)


def ended(outcome: Outcome) -> AttemptResult:
    """An attempt that got no answer."""
    return AttemptResult(outcome, NOW, 5)


def delay_after(
    result: AttemptResult, attempt_number: int = 1, policy: RetryPolicy = DEFAULT, *, jitter: float = 0.5
) -> float:
    """The delay before the next attempt; jitter 0.5 leaves the scheduled delay as it is."""
    settlement = decide(result, attempt_number, policy, now=NOW, jitter=jitter)
    assert settlement.status is DeliveryStatus.PENDING
    assert settlement.retry_in_seconds is not None
    return settlement.retry_in_seconds


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_the_default_schedule_is_12_attempts_over_75_hours_42_minutes_and_35_seconds() -> None:
    assert len(DEFAULT_DELAYS_SECONDS) + 1 == 12
    assert timedelta(seconds=sum(DEFAULT_DELAYS_SECONDS)) == timedelta(hours=75, minutes=42, seconds=35)


@pytest.mark.parametrize(
    ("attempt_number", "delay"),
    [
        (1, timedelta(seconds=5)),
        (2, timedelta(seconds=30)),
        (3, timedelta(minutes=2)),
        (4, timedelta(minutes=10)),
        (5, timedelta(minutes=30)),
        (6, timedelta(hours=2)),
        (7, timedelta(hours=5)),
        (8, timedelta(hours=10)),
        (9, timedelta(hours=14)),
        (10, timedelta(hours=20)),
        (11, timedelta(hours=24)),
    ],
)
def test_an_attempt_that_failed_is_repeated_after(attempt_number: int, delay: timedelta) -> None:
    assert delay_after(http_error(500), attempt_number) == delay.total_seconds()


@pytest.mark.parametrize("attempt_number", [12, 13])
def test_the_delivery_fails_with_its_twelfth_attempt(attempt_number: int) -> None:
    settlement = decide(http_error(500), attempt_number, DEFAULT, now=NOW, jitter=0.5)
    assert settlement == Decision(DeliveryStatus.FAILED)


@pytest.mark.parametrize("retry_after", ["1", "3600"])
def test_a_receiver_can_not_ask_for_more_attempts_than_there_are(retry_after: str) -> None:
    settlement = decide(http_error(503, retry_after), 12, DEFAULT, now=NOW, jitter=0.5)
    assert settlement == Decision(DeliveryStatus.FAILED)


def test_a_webhooks_own_schedule_takes_the_place_of_the_default() -> None:
    own = RetryPolicy((7.0, 9.0))
    assert delay_after(http_error(500), 1, own) == 7
    assert delay_after(http_error(500), 2, own) == 9
    assert decide(http_error(500), 3, own, now=NOW, jitter=0.5) == Decision(DeliveryStatus.FAILED)


@given(default_attempts, jitters)
def test_jitter_moves_the_scheduled_delay_by_at_most_a_fifth(attempt_number: int, jitter: float) -> None:
    scheduled = DEFAULT_DELAYS_SECONDS[attempt_number - 1]
    delay = delay_after(http_error(500), attempt_number, jitter=jitter)
    assert 0.8 * scheduled <= delay <= 1.2 * scheduled


def test_jitter_spreads_the_attempts_over_the_whole_range() -> None:
    assert delay_after(http_error(500), 3, jitter=0) == pytest.approx(96)
    assert delay_after(http_error(500), 3, jitter=0.999999) == pytest.approx(144, rel=1e-5)


# --- how attempts end ------------------------------------------------------------------------------------------------


def test_success_ends_the_delivery() -> None:
    result = AttemptResult(Outcome.SUCCEEDED, NOW, 5, response_status=204, retry_after="60")
    assert decide(result, 1, DEFAULT, now=NOW, jitter=0.5) == Decision(DeliveryStatus.SUCCEEDED)
    assert decide(result, 12, DEFAULT, now=NOW, jitter=0.5) == Decision(DeliveryStatus.SUCCEEDED)


@pytest.mark.parametrize("attempt_number", [1, 11, 12])
def test_a_410_disables_the_webhook_and_ends_the_delivery(attempt_number: int) -> None:
    settlement = decide(http_error(410, "60"), attempt_number, DEFAULT, now=NOW, jitter=0.5)
    assert settlement == Decision(DeliveryStatus.CANCELLED, disables_webhook=True)


@pytest.mark.parametrize(
    "status", [0, 101, 199, 300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 409, 413, 415, 422, 500, 501, 599, 999]
)
def test_any_other_status_is_repeated_on_the_normal_schedule(status: int) -> None:
    settlement = decide(http_error(status), 1, DEFAULT, now=NOW, jitter=0.5)
    assert settlement == Decision(DeliveryStatus.PENDING, 5.0)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.CONNECTION_ERROR,
        Outcome.TLS_ERROR,
        Outcome.PROTOCOL_ERROR,
        Outcome.BLOCKED,
        Outcome.INTERNAL_ERROR,
    ],
)
def test_an_attempt_without_an_answer_is_repeated_on_the_normal_schedule(outcome: Outcome) -> None:
    assert decide(ended(outcome), 1, DEFAULT, now=NOW, jitter=0.5) == Decision(DeliveryStatus.PENDING, 5.0)


OVERLOADED = [http_error(429), http_error(502), http_error(503), http_error(504), ended(Outcome.TIMEOUT)]


@pytest.mark.parametrize("result", OVERLOADED)
@given(default_attempts, jitters)
def test_a_receiver_that_looks_overloaded_is_left_alone_for_a_minute(
    result: AttemptResult, attempt_number: int, jitter: float
) -> None:
    scheduled = DEFAULT_DELAYS_SECONDS[attempt_number - 1]
    delay = delay_after(result, attempt_number, jitter=jitter)
    assert delay >= OVERLOAD_DELAY_SECONDS_MIN == 60
    assert delay >= 0.8 * scheduled
    assert delay <= max(72, 1.2 * scheduled)


@pytest.mark.parametrize("result", OVERLOADED)
def test_the_minute_holds_for_a_webhooks_own_schedule_and_is_the_operators(result: AttemptResult) -> None:
    assert delay_after(result, 1, RetryPolicy((1.0,)), jitter=0) == 60
    assert delay_after(result, 1, RetryPolicy((1.0,), overload_delay_seconds_min=0), jitter=0.5) == 1
    assert delay_after(result, 1, RetryPolicy((200.0,)), jitter=0.5) == 200


# --- Retry-After -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("007", 7),
        ("999999999", 999_999_999),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120),
        ("Thu, 01 Jan 2026 00:02:00 -0000", 120),  # Python gives this one without a time zone
        ("Thu, 01 Jan 2026 02:02:00 +0200", 120),
        ("Thursday, 01-Jan-26 00:02:00 GMT", 120),  # RFC 850 and asctime: RFC 9110 still wants them read
        ("Thu Jan  1 00:02:00 2026", 120),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        ("Wed, 31 Dec 2025 23:59:59 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
    ],
)
def test_retry_after_is_read_in_both_formats(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        "-5",
        "+5",
        "1.5",
        "1e3",
        "0x10",
        "1_000",  # int() takes this and the next three
        "\u0661\u0662\u0660",
        "\uff11\uff12\uff10",
        " 120 ",
        "²",
        "9" * 10,
        "9" * 26,  # timedelta() overflows
        "9" * 5000,  # int() refuses
        "120, 60",
        "2026-01-01T00:02:00Z",
        "Fri, 31 Feb 2026 00:00:00 GMT",
        "Thu, 01 Jan 2026 25:00:00 GMT",
        "Thu, 01 Jan 99999 00:00:00 GMT",
        "Thu, 01 Jan 2026 00:02:00 +9999",
        "Thu, \u0660\u0661 Jan 2026 00:02:00 GMT",
        "Thu, 01 Jan \uff12\uff10\uff12\uff16 00:02:00 GMT",
        "Thu, 01 Jan 2_0_26 00:02:00 GMT",
    ],
)
def test_an_odd_retry_after_is_ignored(value: str | None) -> None:
    assert parse_retry_after(value, NOW) is None
    assert delay_after(http_error(500, value)) == 5


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ (GMT|[+-]\d+)"))
def test_no_retry_after_whatever_its_text_raises_or_asks_for_the_past(text: str) -> None:
    assert (parse_retry_after(text, NOW) or 0.0) >= 0


@pytest.mark.parametrize("status", [301, 404, 429, 500, 503])
def test_retry_after_is_kept_on_any_failure(status: int) -> None:
    assert delay_after(http_error(status, "300"), jitter=0) == 300
    assert delay_after(http_error(status, "Thu, 01 Jan 2026 00:05:00 GMT"), jitter=0) == 300


@pytest.mark.parametrize("retry_after", ["0", "3", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_retry_after_never_makes_it_earlier_than_the_schedule(retry_after: str) -> None:
    assert delay_after(http_error(500, retry_after), 3) == 120
    assert delay_after(http_error(503, retry_after), 1, jitter=0) == 60


@given(default_attempts, jitters, st.integers(min_value=0, max_value=86_400))
def test_an_attempt_is_never_before_retry_after_and_at_most_a_fifth_later(
    attempt_number: int, jitter: float, asked: int
) -> None:
    scheduled = DEFAULT_DELAYS_SECONDS[attempt_number - 1]
    delay = delay_after(http_error(500, str(asked)), attempt_number, jitter=jitter)
    assert delay >= asked
    assert delay >= 0.8 * scheduled
    assert delay <= 1.2 * max(asked, scheduled)


@given(default_attempts, jitters, st.integers(min_value=0, max_value=999_999_999))
def test_retry_after_is_bounded_by_a_day(attempt_number: int, jitter: float, asked: int) -> None:
    assert delay_after(http_error(500, str(asked)), attempt_number, jitter=jitter) <= 1.2 * DAY


@pytest.mark.parametrize(
    ("attempt_number", "delays", "expected"),
    [
        (1, (10.0, 20.0, 30.0), 60),  # what is left of the schedule
        (2, (10.0, 20.0, 30.0), 50),
        (3, (10.0, 20.0, 30.0), 30),
        (1, (DAY, DAY), DAY),
    ],
)
def test_retry_after_is_bounded_by_what_is_left_of_the_schedule(
    attempt_number: int, delays: tuple[float, ...], expected: float
) -> None:
    policy = RetryPolicy(delays, overload_delay_seconds_min=0)
    assert delay_after(http_error(503, "999999999"), attempt_number, policy, jitter=0) == expected


# --- what was said to a webhook that is another by now ---------------------------------------------------------------


def test_what_does_not_concern_the_webhook_any_more_is_soon_sent_again() -> None:
    settlement = again(1, RetryPolicy((60.0, 60.0)))
    assert (settlement.status, settlement.retry_in_seconds) == (DeliveryStatus.PENDING, AGAIN_SECONDS)
    assert not settlement.disables_webhook


def test_it_uses_up_an_attempt_like_any_other() -> None:
    """Else a receiver that says 410 to every other URL could be tried without end."""
    assert again(2, RetryPolicy((60.0, 60.0))).status is DeliveryStatus.PENDING
    assert again(3, RetryPolicy((60.0, 60.0))).status is DeliveryStatus.FAILED
