"""Rows of the log: their columns in one order, how they are written, and what a row means.

Every statement that reads whole rows selects `log_columns(…)`, and its rows become a `LogRow`; every statement that
writes rows writes LOG_INSERT_COLUMNS. Only this module turns a row into a Delivery or an Attempt.

A delivery that has not been tried, cancelled or redelivered yet has no row. It is a row of the outbox whose `due_at` is
its event's `created_at`, with attempt = 0 and trigger IS NULL: `unlogged_columns` shows it as a row of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple
from uuid import UUID

import orjson

from webhook_grpc.domain.model import (
    Attempt,
    AttemptResult,
    Delivery,
    DeliveryStatus,
    FailureReason,
    Outcome,
    Trigger,
)
from webhook_grpc.domain.record import record
from webhook_grpc.store.connection import arrays

# The columns of LogRow, in its order: a test compares them. Large: what a receiver answered, and headers.
LOG_COLUMNS: Final[tuple[LiteralString, ...]] = (
    "event_id", "webhook_id", "customer_id", "event_type", "status", "attempt_count", "next_due_at",
    "event_created_at", "created_at", "trigger", "replay_id", "outcome", "started_at", "latency_ms", "response_status",
    "response_body", "reason", "own_headers", "response_headers",
)  # fmt: skip
_LARGE: Final[Mapping[LiteralString, LiteralString]] = {
    "response_body": "NULL::bytea",
    "own_headers": "NULL::text",
    "response_headers": "NULL::text",
}
_CHANGE_BYTES: Final = 3000  # without its response body, as an object and written for watchers
_UNLOGGED_NULLS: Final[LiteralString] = "NULL" + ", NULL" * (len(LOG_COLUMNS) - LOG_COLUMNS.index("trigger") - 1)

# What a statement that writes rows of the log gives, in this order.
LOG_INSERT_COLUMNS: Final = """shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at,
        status, attempt_count, next_due_at, trigger, replay_id, outcome, started_at, latency_ms, reason,
        response_status, response_body, own_headers, response_headers"""


def log_columns(alias: LiteralString, *, with_large: bool = True) -> LiteralString:
    """Returns the columns of LogRow as a part of a statement that calls a row of `attempts` `alias`.

    Without the large ones, NULLs stand in their places.
    """
    columns: list[LiteralString] = [f"{alias}.{column}" for column in LOG_COLUMNS]
    if not with_large:
        columns = [_LARGE.get(column, selected) for column, selected in zip(LOG_COLUMNS, columns, strict=True)]
    return ", ".join(columns)


def unlogged_columns(due_at: LiteralString, event_created_at: LiteralString) -> LiteralString:
    """Returns the columns of LogRow from `status` on for a delivery that is in the outbox and not in the log."""
    return f"'pending', 0, {due_at}, {event_created_at}, {event_created_at}, {_UNLOGGED_NULLS}"


class LogRow(NamedTuple):
    """A row of the log. A NamedTuple, because the live stream reads rows in bulk: 0.4 µs each, a dataclass 2.

    In a row without an attempt (`outcome` None) all columns of the attempt are None.
    """

    event_id: UUID
    webhook_id: int
    customer_id: int
    event_type: str
    status: str
    attempt_count: int
    next_due_at: datetime | None
    event_created_at: datetime
    created_at: datetime
    trigger: str | None
    replay_id: int | None
    outcome: str | None
    started_at: datetime
    latency_ms: int
    response_status: int | None
    response_body: bytes | None
    reason: str
    own_headers: str | None
    response_headers: str | None


@record
class Change:
    """One row of the log: a delivery as the row left it."""

    shard: int
    seq: int
    delivery: Delivery


def change_from_row(row: Sequence[Any]) -> Change:
    """Returns the change of a row that has `shard`, `seq` and the columns of LogRow."""
    shard, seq, *columns = row
    return Change(shard, seq, delivery_from_row(LogRow._make(columns)))


def change_bytes(change: Change) -> int:
    """Returns about how much memory a change takes."""
    return _CHANGE_BYTES + (len(change.delivery.last_attempt.response_body) if change.delivery.last_attempt else 0)


def delivery_from_row(row: LogRow, request_bytes: int | None = None) -> Delivery:
    """Returns the delivery as the row left it. `request_bytes`: the size of the attempt's request, if it is known."""
    return Delivery(
        event_id=row.event_id,
        webhook_id=row.webhook_id,
        customer_id=row.customer_id,
        event_type=row.event_type,
        status=_STATUSES.get(row.status, DeliveryStatus.PENDING),
        attempt_count=row.attempt_count,
        last_attempt=attempt_from_row(row, request_bytes),
        next_attempt_time=row.next_due_at,
        create_time=row.event_created_at,
        update_time=row.created_at,
        trigger=_TRIGGERS.get(row.trigger, Trigger.SCHEDULED),
        replay_id=row.replay_id,
    )


def attempt_from_row(row: LogRow, request_bytes: int | None = None) -> Attempt | None:
    """Returns the attempt of a row, or None if the delivery ended, or was redelivered, without one."""
    if row.outcome is None:
        return None
    return Attempt(
        event_id=row.event_id,
        webhook_id=row.webhook_id,
        customer_id=row.customer_id,
        event_type=row.event_type,
        attempt_number=row.attempt_count,
        start_time=row.started_at,
        latency_ms=row.latency_ms,
        outcome=_OUTCOMES.get(row.outcome, Outcome.INTERNAL_ERROR),
        response_status=row.response_status,
        response_body=row.response_body or b"",
        reason=_REASONS.get(row.reason, FailureReason.NONE),
        trigger=_TRIGGERS.get(row.trigger, Trigger.SCHEDULED),
        own_headers=tuple(row.own_headers.split()) if row.own_headers else (),
        response_headers=orjson.loads(row.response_headers) if row.response_headers else {},
        delivery_status=_STATUSES.get(row.status, DeliveryStatus.PENDING),
        next_attempt_time=row.next_due_at,
        request_bytes=request_bytes,
    )


def attempt_parameters(attempts: Iterable[tuple[AttemptResult | None, Sequence[str]]]) -> dict[str, object]:
    """Returns the columns of attempts as arrays, NULL where there is none.

    Of each: its result, and the names of the webhook's own headers that were sent.
    """
    both = list(attempts)
    results = [result for result, _ in both]
    return {
        "outcome": arrays.texts([result.outcome.value if result else None for result in results]),
        "started_at": arrays.times([result.start_time if result else None for result in results]),
        "latency_ms": arrays.integers([result.latency_ms if result else None for result in results]),
        "reason": arrays.texts([result.reason.name.lower() if result else None for result in results]),
        "response_status": arrays.integers([result.response_status if result else None for result in results]),
        "response_body": arrays.byteas([(result.response_body or None) if result else None for result in results]),
        "own_headers": arrays.texts([" ".join(own_headers) or None for _, own_headers in both]),
        "response_headers": arrays.texts([_headers_as_json(result) for result in results]),
    }


def _headers_as_json(result: AttemptResult | None) -> str | None:
    """Returns the headers of an answer that are kept, NULL for none."""
    if result is None or not result.response_headers:
        return None
    return orjson.dumps(dict(result.response_headers)).decode("utf-8")


# The words of the log. One that a newer version wrote is in none of these.
_STATUSES: Final[Mapping[str, DeliveryStatus]] = {status.value: status for status in DeliveryStatus}
_TRIGGERS: Final[Mapping[str | None, Trigger]] = {trigger.value: trigger for trigger in Trigger}
_OUTCOMES: Final[Mapping[str, Outcome]] = {outcome.value: outcome for outcome in Outcome}
_REASONS: Final[Mapping[str, FailureReason]] = {reason.name.lower(): reason for reason in FailureReason}
