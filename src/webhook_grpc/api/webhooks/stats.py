"""GetWebhookStats: counts, latencies and backlog of one webhook."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import service_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import reading, times, words
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.model import Outcome
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import stats as store
from webhook_grpc.store.log.stats import Backlog, BinNumbers, WindowNumbers
from webhook_grpc.store.registry import webhooks

DEFAULT_WINDOW: Final = timedelta(hours=24)
WINDOW_MAX: Final = timedelta(days=31)
BIN_WIDTH_MIN: Final = timedelta(seconds=1)
BINS_MAX: Final = 200

_BREAKER_STATES: Final = {
    BreakerState.CLOSED: service_pb2.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: service_pb2.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: service_pb2.BREAKER_STATE_HALF_OPEN,
}


class StatsMethods:
    """The call that counts what happened with a webhook."""

    def __init__(self, database: Database, clock: DatabaseClock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, request: service_pb2.GetWebhookStatsRequest, call: Call) -> service_pb2.GetWebhookStatsResponse:
        """Returns the counts of a window of time, and the backlog of now."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        webhook_id = reading.read_id(request.webhook_id, "webhook_id", violations)
        now = self._clock.now()
        start, end = _read_window(request, now, violations)
        width = _read_width(request, start, end or now, violations)
        refuse_if(violations)
        await webhooks.get(self._database, customer_id, webhook_id)  # or NOT_FOUND
        backlog = await store.backlog(self._database, webhook_id)
        end = end or backlog.read_time
        start = start or end - DEFAULT_WINDOW
        message = _stats_message(start, end, await store.window(self._database, webhook_id, start, end), backlog)
        if width is not None:
            bins = await store.bins(self._database, webhook_id, start, end, width)
            message.bins.extend(_bin_message(start + number * width, found) for number, found in enumerate(bins))
        return message


def _read_window(
    request: service_pb2.GetWebhookStatsRequest, now: datetime, violations: list[Violation]
) -> tuple[datetime | None, datetime | None]:
    """Returns start and end of the window, None where not set."""
    count = len(violations)
    start = times.read_time(request.start_time, "start_time", violations) if request.HasField("start_time") else None
    end = times.read_time(request.end_time, "end_time", violations) if request.HasField("end_time") else None
    if start is not None and len(violations) == count:
        length = (end or now) - start
        if length <= timedelta(0):
            violations.append(Violation("start_time", "must be before end_time, and in the past if that is not set"))
        elif length > WINDOW_MAX:
            violations.append(Violation("start_time", f"must be at most {WINDOW_MAX.days} days before end_time"))
    return start, end


def _read_width(
    request: service_pb2.GetWebhookStatsRequest, start: datetime | None, end: datetime, violations: list[Violation]
) -> timedelta | None:
    """Returns the width of a bin, None where not set."""
    if not request.HasField("bin_width"):
        return None
    seconds = times.seconds_of(request.bin_width)
    if not BIN_WIDTH_MIN.total_seconds() <= seconds <= WINDOW_MAX.total_seconds():
        violations.append(Violation("bin_width", f"must be from 1 s to {WINDOW_MAX.days} days"))
        return None
    width = timedelta(seconds=seconds)
    if (end - (start or end - DEFAULT_WINDOW)) > BINS_MAX * width:
        violations.append(Violation("bin_width", f"must not divide the window into more than {BINS_MAX} bins"))
    return width


def _stats_message(
    start: datetime, end: datetime, numbers: WindowNumbers, backlog: Backlog
) -> service_pb2.GetWebhookStatsResponse:
    attempt_count, health = sum(numbers.outcomes.values()), backlog.health
    succeeded_count = numbers.outcomes.get(Outcome.SUCCEEDED, 0)
    is_held = health.hold_until is not None and health.hold_until > backlog.read_time
    return service_pb2.GetWebhookStatsResponse(
        start_time=times.timestamp(start),
        end_time=times.timestamp(end),
        attempt_count=attempt_count,
        outcomes=_outcome_counts(numbers.outcomes),
        success_rate=succeeded_count / attempt_count if attempt_count else 0.0,
        endings=[
            service_pb2.EndingCount(status=words.DELIVERY_STATUSES[status], count=count)
            for status, count in numbers.endings.items()
        ],
        latency_p50=_latency(numbers.latencies_ms, 50),
        latency_p95=_latency(numbers.latencies_ms, 95),
        latency_p99=_latency(numbers.latencies_ms, 99),
        truncated=numbers.is_truncated,
        pending_count=backlog.pending_count,
        due_count=backlog.due_count,
        oldest_due_age=None if backlog.oldest_due_seconds is None else times.duration(backlog.oldest_due_seconds),
        breaker_state=_BREAKER_STATES[health.breaker],
        breaker_probe_time=_time(health.probe_time) if health.breaker is BreakerState.OPEN else None,
        hold_until_time=_time(health.hold_until) if is_held else None,
        failing_since_time=_time(health.failing_since),
    )


def _bin_message(start: datetime, numbers: BinNumbers) -> service_pb2.StatsBin:
    return service_pb2.StatsBin(
        start_time=times.timestamp(start),
        outcomes=_outcome_counts(numbers.outcomes),
        latency_p50=_latency(numbers.latencies_ms, 50),
        latency_p95=_latency(numbers.latencies_ms, 95),
        latency_p99=_latency(numbers.latencies_ms, 99),
    )


def _outcome_counts(outcomes: Mapping[Outcome, int]) -> list[service_pb2.OutcomeCount]:
    return [
        service_pb2.OutcomeCount(outcome=words.OUTCOMES[outcome], count=count) for outcome, count in outcomes.items()
    ]


def _latency(latencies_ms: Mapping[int, int], percent: int) -> Duration | None:
    milliseconds = latencies_ms.get(percent)
    return None if milliseconds is None else times.duration(milliseconds / 1000)


def _time(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else times.timestamp(moment)
