"""What lists and the stream filter by: the same fields, the same names and the same bounds everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from webhook.v1 import service_pb2

from webhook_grpc.api.call import Call
from webhook_grpc.domain import validation
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.filters import AttemptFilter, DeliveryFilter, EventFilter

from . import reading, times, words

FILTER_IDS_MAX: Final = 100


def read_delivery_filter(
    request: service_pb2.ListDeliveriesRequest | service_pb2.WatchDeliveriesRequest,
    call: Call,
    violations: list[Violation],
) -> DeliveryFilter:
    """Returns the filter that List and Watch share. Only List has a window: Watch's `start_time` is no filter."""
    customer_id = call.customer_or_all(request.customer_id, "customer_id", violations)
    is_list = isinstance(request, service_pb2.ListDeliveriesRequest)
    start_time, end_time = _read_window(request, violations) if is_list else (None, None)
    return DeliveryFilter(
        customer_id=customer_id,
        webhook_ids=_read_webhook_ids(request.webhook_ids, violations),
        event_types=_read_patterns(request.event_types, violations),
        statuses=tuple(words.read_delivery_statuses(request.statuses, violations)),
        event_id=reading.read_event_id(request.event_id, "event_id", violations) if request.event_id else None,
        replay_id=reading.read_id(request.replay_id, "replay_id", violations) if request.replay_id else None,
        start_time=start_time,
        end_time=end_time,
    )


def read_attempt_filter(
    request: service_pb2.ListDeliveryAttemptsRequest, call: Call, violations: list[Violation]
) -> AttemptFilter:
    """Returns the filter of a list of attempts, without `delivery_id`."""
    customer_id = call.customer_or_all(request.customer_id, "customer_id", violations)
    start_time, end_time = _read_window(request, violations)
    return AttemptFilter(
        customer_id=customer_id,
        webhook_ids=_read_webhook_ids(request.webhook_ids, violations),
        event_types=_read_patterns(request.event_types, violations),
        statuses=words.read_delivery_statuses(request.statuses, violations),
        outcomes=words.read_outcomes(request.outcomes, violations),
        event_id=reading.read_event_id(request.event_id, "event_id", violations) if request.event_id else None,
        start_time=start_time,
        end_time=end_time,
    )


def read_event_filter(request: service_pb2.ListEventsRequest, call: Call, violations: list[Violation]) -> EventFilter:
    """Returns the filter of a list of events."""
    customer_id = call.customer_or_all(request.customer_id, "customer_id", violations)
    start_time, end_time = _read_window(request, violations)
    if request.request_id and customer_id is None:
        violations.append(Violation("customer_id", "must be set with request_id, which each customer has its own of"))
    violations += validation.label_violations("attributes", request.attributes)
    return EventFilter(
        customer_id=customer_id,
        event_types=_read_patterns(request.event_types, violations),
        start_time=start_time,
        end_time=end_time,
        request_id=reading.read_request_id(request.request_id, violations),
        attributes=dict(request.attributes),
    )


def _read_window(request: Any, violations: list[Violation]) -> tuple[datetime | None, datetime | None]:
    """Returns `start_time` and `end_time` of a request, None where not set."""
    valid_before = len(violations)
    start_time = (
        times.read_time(request.start_time, "start_time", violations) if request.HasField("start_time") else None
    )
    end_time = times.read_time(request.end_time, "end_time", violations) if request.HasField("end_time") else None
    is_valid = len(violations) == valid_before
    if is_valid and start_time is not None and end_time is not None and end_time <= start_time:
        violations.append(Violation("end_time", "must be after start_time"))
    return start_time, end_time


def _read_patterns(patterns: Sequence[str], violations: list[Violation]) -> tuple[str, ...]:
    violations += validation.pattern_violations("event_types", patterns)
    return tuple(patterns)


def _read_webhook_ids(webhook_ids: Sequence[int], violations: list[Violation]) -> tuple[int, ...]:
    violations += webhook_id_violations(webhook_ids)
    return tuple(dict.fromkeys(webhook_ids))


def webhook_id_violations(webhook_ids: Sequence[int], field: str = "webhook_ids") -> list[Violation]:
    """Returns everything that is wrong with a filter by webhooks."""
    if len(webhook_ids) > FILTER_IDS_MAX:
        return [Violation(field, f"must have at most {FILTER_IDS_MAX} entries, has {len(webhook_ids)}")]
    return [Violation(f"{field}[{index}]", "must be positive") for index, value in enumerate(webhook_ids) if value <= 0]
