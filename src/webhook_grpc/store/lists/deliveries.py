"""Lists of deliveries as they stand, newest event first, from the log and the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.ids import ID_TIME_SLACK, INT64_MAX, earliest_id, latest_id
from webhook_grpc.domain.matching import patterns_regex
from webhook_grpc.domain.model import Delivery, DeliveryStatus
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database, Row
from webhook_grpc.store.log.lookup import event_time
from webhook_grpc.store.log.rows import delivery_from_row

from . import delivery_statements as sources
from .merged import (
    ANSWER_SHOWN,
    LOOK_COST,
    NEWEST,
    OLDEST,
    LookBack,
    SizedRow,
    rows_per_webhook,
    until_cut,
    wanted_by,
    whole_rows,
)
from .pages import ListStep, Page, PageBounds, fill_page

ENDINGS: Final = frozenset({DeliveryStatus.FAILED, DeliveryStatus.CANCELLED, DeliveryStatus.EXPIRED})
OUTBOX_ROWS_SCANNED_MAX: Final = 100_000
RETRIES_SORTED_MAX: Final = 20_000

# How many rows a statement with SELECT_RETRIED_DELIVERIES would scan, and how many it would sort.
SELECT_OUTBOX_SIZE: Final = """
SELECT count(*), count(*) FILTER (WHERE is_retry) FROM (
    SELECT d.attempt > 0 OR d.trigger IS NOT NULL AS is_retry
    FROM wanted w CROSS JOIN LATERAL (
        SELECT attempt, trigger FROM deliveries WHERE shard = w.shard AND webhook_id = w.id OFFSET 0
    ) d
    LIMIT %(limit)b::integer
) o
"""


@dataclass(frozen=True, slots=True, order=True)
class DeliveryKey:
    """The place of a delivery in a list."""

    create_time: datetime
    event_id: UUID
    webhook_id: int


_NO_EVENT: Final = UUID(int=0)
DELIVERIES_START: Final = DeliveryKey(NEWEST, UUID(int=2**128 - 1), INT64_MAX)


@record
class _FoundDelivery:
    """A row of a step: a StepRow, Merged and InLog."""

    key: DeliveryKey
    customer_id: int
    event_type: str
    log_key: tuple[int, int, datetime]
    size_bytes: int
    fits: bool
    is_cut: bool

    @property
    def is_logged(self) -> bool:
        """Returns whether the log has a row of the delivery."""
        return self.log_key[1] > 0


async def list_deliveries(
    database: Database, wanted: DeliveryFilter, before: DeliveryKey, bounds: PageBounds
) -> Page[DeliveryKey, Delivery]:
    """Returns the next deliveries after a key, newest event first. Raises Unavailable."""
    start, end = wanted.start_time or OLDEST, wanted.end_time
    if (event_id := wanted.event_id) is not None:
        customer_id, first, last = await event_time(database, wanted.customer_id, event_id)
        wanted = replace(wanted, customer_id=customer_id)
        start = max(start, first)
        before = min(before, DeliveryKey(last, event_id, INT64_MAX))
    if end is not None:
        before = min(before, DeliveryKey(end, _NO_EVENT, 0))
    reader = _DeliveriesReader(
        database,
        wanted,
        await _sources_of(database, wanted),
        LookBack.over(wanted.customer_id, wanted.webhook_ids, start),
    )
    chosen, next_key = await fill_page(reader.read, before, bounds)
    logged = iter(await whole_rows(database, [found for found in chosen if found.is_logged]))
    listed = [(_unlogged(found) if not found.is_logged else _logged(next(logged)), found.key) for found in chosen]
    kept = [(delivery, key) for delivery, key in listed if delivery is not None]
    return Page([delivery for delivery, _ in kept], [key for _, key in kept], next_key)


async def _sources_of(database: Database, wanted: DeliveryFilter) -> tuple[LiteralString, ...]:
    """Returns the sources of deliveries with the wanted statuses. Raises Unavailable."""
    statuses = set(wanted.statuses or DeliveryStatus)
    if DeliveryStatus.SUCCEEDED in statuses:
        if DeliveryStatus.PENDING in statuses:
            return sources.SELECT_LOGGED_DELIVERIES, sources.SELECT_UNLOGGED_DELIVERIES
        return (sources.SELECT_LOGGED_DELIVERIES,)
    if DeliveryStatus.PENDING not in statuses:
        return (sources.SELECT_ENDED_DELIVERIES,)
    statement = wanted_by(wanted.customer_id, wanted.webhook_ids) + SELECT_OUTBOX_SIZE
    parameters = {
        "customer_id": wanted.customer_id,
        "webhook_ids": list(wanted.webhook_ids),
        "limit": OUTBOX_ROWS_SCANNED_MAX + 1,
    }
    [(row_count, retry_count)] = await database.rows(statement, parameters)
    if row_count > OUTBOX_ROWS_SCANNED_MAX or retry_count > RETRIES_SORTED_MAX:
        return sources.SELECT_LOGGED_DELIVERIES, sources.SELECT_UNLOGGED_DELIVERIES
    pending = sources.SELECT_UNLOGGED_DELIVERIES, sources.SELECT_RETRIED_DELIVERIES
    return (sources.SELECT_ENDED_DELIVERIES, *pending) if statuses & ENDINGS else pending


class _DeliveriesReader:
    """Reads a list of deliveries step by step."""

    def __init__(
        self, database: Database, wanted: DeliveryFilter, parts: Sequence[LiteralString], look_back: LookBack
    ) -> None:
        self._database = database
        self._wanted = wanted
        self._statement: LiteralString = wanted_by(wanted.customer_id, wanted.webhook_ids) + sources.next_of(parts)
        self._look_back = look_back

    async def read(self, before: DeliveryKey, step_rows: int) -> ListStep[DeliveryKey, _FoundDelivery]:
        """Returns the next step after a key. Raises Unavailable."""
        floor = self._look_back.floor(before.create_time)
        per_webhook = rows_per_webhook(self._wanted.customer_id, self._wanted.webhook_ids, step_rows)
        parameters = step_parameters(self._wanted, before, floor, per_webhook, step_rows)
        rows = await self._database.rows(self._statement, parameters)
        found, is_cut = until_cut([_found(row) for row in rows])
        *_, found_count, rows_read = rows[0] if rows else (0, 0)
        if is_cut or found_count == step_rows:
            return ListStep(found, rows_read, found[-1].key)
        is_last = floor <= self._look_back.start
        self._look_back.widen()
        return ListStep(found, rows_read, None if is_last else DeliveryKey(floor, _NO_EVENT, 0))


def step_parameters(
    wanted: DeliveryFilter, before: DeliveryKey, floor: datetime, per_webhook: int, step_rows: int
) -> dict[str, Any]:
    """Returns the parameters of a step's statement."""
    return {
        "customer_id": wanted.customer_id,
        "webhook_ids": list(wanted.webhook_ids),
        "event_id": wanted.event_id,
        "replay_id": wanted.replay_id,
        "statuses": [status.value for status in wanted.statuses or DeliveryStatus],
        "type_regex": patterns_regex(wanted.event_types) if wanted.event_types else None,
        "endings": [status.value for status in wanted.statuses if status in ENDINGS],
        "before_time": before.create_time,
        "before_event": before.event_id,
        "before_webhook": before.webhook_id,
        "from_time": floor,
        "logged_from": floor - ID_TIME_SLACK,  # nothing is logged before its event, unless a clock was set back
        "earliest_id": earliest_id(floor),
        "latest_id": latest_id(before.create_time),
        "per_webhook": per_webhook,
        "look_cost": LOOK_COST,
        "limit": step_rows,
    }


def _found(row: Row) -> _FoundDelivery:
    create_time, event_id, webhook_id, customer_id, event_type, shard, seq, at, size, fits, is_cut, _, _ = row
    return _FoundDelivery(
        key=DeliveryKey(create_time, event_id, webhook_id),
        customer_id=customer_id,
        event_type=event_type,
        log_key=(shard, seq, at),
        size_bytes=ANSWER_SHOWN * (size or 0),
        fits=bool(fits),
        is_cut=is_cut,
    )


def _logged(sized: SizedRow | None) -> Delivery | None:
    return None if sized is None else delivery_from_row(sized.row, sized.request_bytes)


def _unlogged(found: _FoundDelivery) -> Delivery:
    """Returns a delivery without a row in the log: nothing has happened to it since its event was stored."""
    return Delivery(
        event_id=found.key.event_id,
        webhook_id=found.key.webhook_id,
        customer_id=found.customer_id,
        event_type=found.event_type,
        status=DeliveryStatus.PENDING,
        attempt_count=0,
        last_attempt=None,
        next_attempt_time=found.key.create_time,
        create_time=found.key.create_time,
        update_time=found.key.create_time,
    )
