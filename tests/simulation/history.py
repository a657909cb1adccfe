"""A run as a history that `tests/invariants` can check: what was sent, what the tables say, what customers did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from tests.invariants.history import Asked, Endpoint, Fault, History, LogRow, Pending, Publish, Request, Switch
from webhook_grpc.domain.model import Trigger, WebhookStatus

from .course import Course
from .database.stored import EPOCH
from .model import rows
from .process import Sent

_CLOCK_SECONDS: Final = 5e-6  # times are floats here and whole microseconds there
_REACTION_SECONDS: Final = 1.5
_SWITCHES: Final = {
    WebhookStatus.ACTIVE: "resumed",
    WebhookStatus.PAUSED: "paused",
    WebhookStatus.DISABLED: "disabled",
    WebhookStatus.DELETED: "deleted",
}


def history_of(course: Course) -> History:
    """The run so far, by the loop's clock."""
    model = course.stored.model
    sent = [one for all_of in course.sent.values() for one in all_of]
    return History(
        endpoints=tuple(_endpoints(course)),
        publishes=tuple(_publishes(course)),
        requests=tuple(map(_request, sorted(sent, key=lambda one: one.started_at))),
        log=tuple(log_row(row) for rows_of_shard in model.log for row in rows_of_shard),
        pending=tuple(map(pending, model.pending_rows())),
        faults=tuple(_faults(course)),
        switches=tuple(_switches(course)),
        asked=tuple(
            Asked(kind.value, id_, str(event_id), at, None) for at, (id_, event_id, kind) in course.stored.asks
        ),
        matched=texts(model.matched),
        clock_seconds=_CLOCK_SECONDS,
        arrival_seconds=0.0,
        reaction_seconds=_REACTION_SECONDS * (20 if course.profile.long else 1),
        rate_tolerance=1.0,
    )


def log_row(row: rows.LogRow) -> LogRow:
    """A row of the model's log."""
    return LogRow(
        row.shard, row.seq, row.webhook_id, str(row.event_id), row.attempt_count, row.status.value, row.outcome,
        _seconds(row.at), _seconds(row.event_create_time),
        None if row.next_due_at is None else _seconds(row.next_due_at), row.response_status, row.reason, row.trigger,
    )  # fmt: skip


def pending(row: rows.OutboxRow) -> Pending:
    """A row of the model's outbox."""
    return Pending(row.webhook_id, str(row.event_id), row.attempt)


def _request(sent: Sent) -> Request:
    return Request(
        sent.webhook.webhook_id,
        str(sent.delivery.event_id),
        sent.attempt,
        sent.started_at,
        math.inf if sent.ended_at is None else sent.ended_at,
        sent.status or 0,
        verified=True,
        body_hash="",
        retry_after=sent.retry_after,
        decided_at=sent.dispatched_at,
        owner=sent.tenure,
        is_stale=sent.is_stale,
        is_test=sent.trigger is Trigger.TEST,
    )


def _endpoints(course: Course) -> Iterator[Endpoint]:
    for webhook in course.stored.model.webhooks.values():
        rate = webhook.rate_limit_per_second
        delays = course.delays_of(webhook)
        yield Endpoint(webhook.webhook_id, webhook.customer_id, delays_seconds=delays, rate_limit=rate)


def _publishes(course: Course) -> Iterator[Publish]:
    for event_id, answer in course.acknowledged.items():
        yield Publish(0, str(event_id), "", str(event_id), delivery_count=answer.delivery_count)


def _faults(course: Course) -> Iterator[Fault]:
    """What happens in a run that is not calm may cost any owner its lease or its memory, at any time."""
    if not course.profile.is_calm:
        yield Fault("whatever happens", 0.0, math.inf, may_duplicate=True, is_many=True)
    for since, until in course.world.deaf:
        yield Fault("statements are lost or late", since, until, may_deafen=True)


def _switches(course: Course) -> Iterator[Switch]:
    for webhook_id, changes in course.history.items():
        status = WebhookStatus.ACTIVE
        for at, webhook in changes:
            if webhook.status is not status:
                status = webhook.status
                yield Switch(webhook_id, _SWITCHES[status], at, at)


def _seconds(at: datetime) -> float:
    return (at - EPOCH).total_seconds()


def texts(matched: Mapping[UUID, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Events by the texts that name them in a history."""
    return {str(event_id): webhook_ids for event_id, webhook_ids in matched.items()}
