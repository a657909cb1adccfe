"""Times and durations, between messages and Python."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from webhook_grpc.domain.errors import Violation

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The last second of 9998: in another time zone it is not yet the year 10000, which Python's datetime lacks.
_UNIX_SECONDS_MAX: Final = 253_370_764_799


def seconds_of(duration: Duration) -> float:
    """Returns a Duration in seconds; NaN, which no range contains, if it is malformed."""
    same_sign = duration.seconds * duration.nanos >= 0
    if abs(duration.seconds) > 315_576_000_000 or abs(duration.nanos) > 999_999_999 or not same_sign:
        return math.nan
    return duration.seconds + duration.nanos / 1e9


def read_time(timestamp: Timestamp, field: str, violations: list[Violation]) -> datetime:
    """Returns a time; adds a violation if it does not lie between 1970 and 9998."""
    if not 0 <= timestamp.seconds <= _UNIX_SECONDS_MAX or not 0 <= timestamp.nanos <= 999_999_999:
        violations.append(Violation(field, "must be a valid time from 1970-01-01 to 9998-12-31"))
        return EPOCH
    return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def timestamp(moment: datetime) -> Timestamp:
    """Returns a time as a message, exact to the microsecond."""
    return Timestamp(**time_fields(moment))


def time_fields(moment: datetime) -> Any:
    """Returns the fields of a time's message: what a message that holds it takes as well, and need not copy."""
    since = moment - EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1000}


def duration(seconds: float) -> Duration:
    """Returns a span of time as a message, exact to the microsecond."""
    return Duration(**duration_fields(seconds))


def duration_fields(seconds: float) -> Any:
    """Returns the fields of a span's message; see `time_fields`."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return {"seconds": whole, "nanos": micros * 1000}
