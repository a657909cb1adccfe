"""Decides what happens after an attempt, purely by its result, the schedule and a random number.

The default schedule is that of the Standard Webhooks specification with quicker steps at the start, so that an outage
of a deployment's length is over quickly: 12 attempts over 75 h 42 m. Numbers and their reasons:
docs/delivery.md.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from .model import AttemptResult, DeliveryStatus, Outcome
from .record import record

HOUR: Final = 3600.0
DEFAULT_DELAYS_SECONDS: Final = (
    5.0,
    30.0,
    120.0,
    600.0,
    1800.0,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
OVERLOAD_DELAY_SECONDS_MIN: Final = 60.0
JITTER_SHARE: Final = 0.2
RETRY_AFTER_SECONDS_MAX: Final = 24 * HOUR
AGAIN_SECONDS: Final = 1.0

_OVERLOADED_STATUSES: Final = frozenset({429, 502, 503, 504})
_GONE: Final = 410
_DELAY_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


@record
class RetryPolicy:
    """When to try again: one more attempt than there are delays."""

    delays_seconds: tuple[float, ...] = DEFAULT_DELAYS_SECONDS
    overload_delay_seconds_min: float = OVERLOAD_DELAY_SECONDS_MIN
    jitter_share: float = JITTER_SHARE
    retry_after_seconds_max: float = RETRY_AFTER_SECONDS_MAX


@record
class Decision:
    """What an attempt does to its delivery. `retry_in_seconds` is set exactly while it stays PENDING."""

    status: DeliveryStatus
    retry_in_seconds: float | None = None
    disables_webhook: bool = False


def decide(
    result: AttemptResult, attempt_number: int, policy: RetryPolicy, *, now: datetime, jitter: float
) -> Decision:
    """Decides after attempt `attempt_number` (from 1). `jitter` is uniform in [0, 1).

    A 2xx succeeds. 410 disables the webhook and ends the delivery. Anything else is tried again until the schedule is
    used up: after the scheduled delay ±20 %, at least a minute when the receiver looks overloaded, and never before its
    Retry-After, which is bounded by what is left of the schedule.
    """
    if result.outcome is Outcome.SUCCEEDED:
        return Decision(DeliveryStatus.SUCCEEDED)
    if result.response_status == _GONE:
        return Decision(DeliveryStatus.CANCELLED, disables_webhook=True)
    left = policy.delays_seconds[attempt_number - 1 :]
    if not left:
        return Decision(DeliveryStatus.FAILED)
    return Decision(DeliveryStatus.PENDING, _delay_seconds(result, left, policy, now, jitter))


def again(attempt_number: int, policy: RetryPolicy) -> Decision:
    """Decides after an attempt whose answer was meant for a webhook that has changed since: soon again, if at all."""
    if attempt_number > len(policy.delays_seconds):
        return Decision(DeliveryStatus.FAILED)
    return Decision(DeliveryStatus.PENDING, AGAIN_SECONDS)


def _delay_seconds(
    result: AttemptResult, left: tuple[float, ...], policy: RetryPolicy, now: datetime, jitter: float
) -> float:
    later = 1 + policy.jitter_share * jitter  # never earlier than what the receiver requested
    delay = left[0] * (1 + policy.jitter_share * (2 * jitter - 1))
    if result.outcome is Outcome.TIMEOUT or result.response_status in _OVERLOADED_STATUSES:
        delay = max(delay, policy.overload_delay_seconds_min * later)
    asked = parse_retry_after(result.retry_after, now)
    if asked is not None:
        bounded = min(asked, policy.retry_after_seconds_max, max(left[0], sum(left)))
        delay = max(delay, bounded * later)
    return delay


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Returns the seconds of a Retry-After header (RFC 9110 §10.2.3), or None if it is absent or malformed.

    Only ASCII digits count: Python's int() would also take `1_000` and digits of other scripts.
    """
    if value is None:
        return None
    if _DELAY_SECONDS.fullmatch(value):
        return float(value)
    if not value.isascii() or "_" in value:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
