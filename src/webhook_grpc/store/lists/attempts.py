"""Lists of attempts, newest first: in the order of (time, webhook id, `seq`).

Each daily partition of the log has an index in that order for each webhook, so a list reads only the partitions from
which it shows rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from webhook_grpc.domain.filters import AttemptFilter
from webhook_grpc.domain.ids import ID_TIME_SLACK, INT64_MAX
from webhook_grpc.domain.matching import patterns_regex
from webhook_grpc.domain.model import Attempt, DeliveryStatus, Outcome
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database, Row
from webhook_grpc.store.log.lookup import event_time
from webhook_grpc.store.log.rows import attempt_from_row

from .merged import (
    ANSWER_SHOWN,
    LOOK_COST,
    NEWEST,
    OLDEST,
    LookBack,
    rows_per_webhook,
    until_cut,
    wanted_by,
    whole_rows,
)
from .pages import ListStep, Page, PageBounds, fill_page

FIND_BY_TIME: Final = """
, found AS (
    SELECT a.* FROM wanted w CROSS JOIN LATERAL (
        SELECT a.created_at, a.webhook_id, a.seq, a.shard, a.status, a.event_type, a.outcome,
            octet_length(a.response_body) AS size
        FROM attempts a
        WHERE a.webhook_id = w.id
            AND a.created_at >= %(from_time)b::timestamptz AND a.created_at <= %(before_time)b::timestamptz
            AND (a.created_at, a.webhook_id, a.seq)
                < (%(before_time)b::timestamptz, %(before_webhook)b::bigint, %(before_seq)b::bigint)
        ORDER BY a.created_at DESC, a.seq DESC
        LIMIT %(per_webhook)b::integer
    ) a
)"""

# A delivery has few attempts: all are read by its key, and OFFSET 0 keeps the planner from finding them by their time.
# Why there are two forms: see lookup.SELECT_DELIVERY_OF_DELETED_EVENT.
_OF_EVENT: Final[LiteralString] = """
, found AS (
    SELECT a.* FROM wanted w CROSS JOIN LATERAL (
        SELECT a.created_at, a.webhook_id, a.seq, a.shard, a.status, a.event_type, a.outcome,
            octet_length(a.response_body) AS size
        FROM attempts a
        WHERE a.webhook_id = w.id"""
_BEFORE_KEY: Final[LiteralString] = """
        OFFSET 0
    ) a
    WHERE a.created_at >= %(from_time)b::timestamptz
        AND (a.created_at, a.webhook_id, a.seq)
            < (%(before_time)b::timestamptz, %(before_webhook)b::bigint, %(before_seq)b::bigint)
)"""
FIND_BY_EVENT: Final = f"""{_OF_EVENT}
            AND a.event_id = %(event_id)b AND a.event_created_at = %(stored_from)b::timestamptz
            AND a.created_at >= %(logged_from)b::timestamptz{_BEFORE_KEY}"""
FIND_BY_DELETED_EVENT: Final = f"""{_OF_EVENT} AND (a.event_id = %(event_id)b) IS TRUE
            AND a.event_created_at >= %(stored_from)b::timestamptz
            AND a.event_created_at <= %(stored_until)b::timestamptz{_BEFORE_KEY}"""

# As delivery_statements.SELECT_NEXT_DELIVERIES. A row without an outcome is no attempt and never fits, but counts as
# read: there may be very many.
SELECT_NEXT_ATTEMPTS: Final = """
SELECT s.created_at, s.webhook_id, s.seq, s.shard, s.size, s.fits, s.is_cut, s.step_rows, s.rows_read
FROM (
    SELECT n.*,
        coalesce(n.outcome = ANY(%(outcomes)b::text[]), false) AND n.status = ANY(%(statuses)b::text[])
            AND (%(type_regex)b::text IS NULL OR n.event_type ~ %(type_regex)b::text) AS fits,
        %(per_webhook)b::integer = row_number() OVER (
            PARTITION BY n.webhook_id ORDER BY n.created_at DESC, n.seq DESC
        ) AS is_cut,
        row_number() OVER (ORDER BY n.created_at DESC, n.webhook_id DESC, n.seq DESC) AS ord,
        count(*) OVER () AS step_rows
    FROM (
        SELECT found.*, count(*) OVER () + %(look_cost)b::integer * (SELECT count(*) FROM wanted) AS rows_read
        FROM found
        ORDER BY created_at DESC, webhook_id DESC, seq DESC
        LIMIT %(limit)b::integer
    ) n
) s
WHERE s.fits OR s.is_cut OR s.ord = s.step_rows
ORDER BY s.ord
"""


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """The place of an attempt in a list. `end_time` is the time of its row in the log."""

    end_time: datetime
    webhook_id: int
    seq: int


ATTEMPTS_START: Final = AttemptKey(NEWEST, INT64_MAX, INT64_MAX)


@record
class _FoundAttempt:
    """A row of a step: a StepRow, Merged and InLog."""

    key: AttemptKey
    shard: int
    size_bytes: int
    fits: bool
    is_cut: bool

    @property
    def log_key(self) -> tuple[int, int, datetime]:
        """Returns the primary key of its row in the log."""
        return self.shard, self.key.seq, self.key.end_time


async def list_attempts(
    database: Database, wanted: AttemptFilter, before: AttemptKey, bounds: PageBounds
) -> Page[AttemptKey, Attempt]:
    """Returns the next attempts after a key, newest first. Raises Unavailable."""
    if wanted.end_time is not None:
        before = min(before, AttemptKey(wanted.end_time, 0, 0))
    place: LiteralString = FIND_BY_TIME
    of_event = dict[str, Any]()
    if (event_id := wanted.event_id) is not None:
        customer_id, stored_from, stored_until = await event_time(database, wanted.customer_id, event_id)
        wanted = replace(wanted, customer_id=customer_id)
        place = FIND_BY_EVENT if stored_from == stored_until else FIND_BY_DELETED_EVENT
        of_event = event_parameters(event_id, stored_from, stored_until)
    reader = _AttemptsReader(database, wanted, place, of_event)
    chosen, next_key = await fill_page(reader.read, before, bounds)
    logged = zip(await whole_rows(database, chosen), chosen, strict=True)
    kept = [
        (attempt, found.key)
        for sized, found in logged
        if sized is not None and (attempt := attempt_from_row(sized.row, sized.request_bytes))
    ]
    return Page([attempt for attempt, _ in kept], [key for _, key in kept], next_key)


class _AttemptsReader:
    """Reads a list of attempts step by step."""

    def __init__(
        self, database: Database, wanted: AttemptFilter, place: LiteralString, of_event: Mapping[str, Any]
    ) -> None:
        self._database = database
        self._wanted = wanted
        self._statement: LiteralString = (
            wanted_by(wanted.customer_id, wanted.webhook_ids) + place + SELECT_NEXT_ATTEMPTS
        )
        self._of_event = of_event
        start = wanted.start_time or OLDEST
        self._look_back = (
            LookBack(start, ()) if of_event else LookBack.over(wanted.customer_id, wanted.webhook_ids, start)
        )

    async def read(self, before: AttemptKey, step_rows: int) -> ListStep[AttemptKey, _FoundAttempt]:
        """Returns the next step after a key. Raises Unavailable."""
        floor = self._look_back.floor(before.end_time)
        per_webhook = rows_per_webhook(self._wanted.customer_id, self._wanted.webhook_ids, step_rows)
        parameters = {**step_parameters(self._wanted, before, floor, per_webhook, step_rows), **self._of_event}
        rows = await self._database.rows(self._statement, parameters)
        found, is_cut = until_cut([_found(row) for row in rows])
        *_, found_count, rows_read = rows[0] if rows else (0, 0)
        if is_cut or found_count == step_rows:
            return ListStep(found, rows_read, found[-1].key)
        is_last = floor <= self._look_back.start
        self._look_back.widen()
        return ListStep(found, rows_read, None if is_last else AttemptKey(floor, 0, 0))


def step_parameters(
    wanted: AttemptFilter, before: AttemptKey, floor: datetime, per_webhook: int, step_rows: int
) -> dict[str, Any]:
    """Returns the parameters of a step's statement."""
    return {
        "customer_id": wanted.customer_id,
        "webhook_ids": list(wanted.webhook_ids),
        "statuses": [status.value for status in wanted.statuses or DeliveryStatus],
        "outcomes": [outcome.value for outcome in wanted.outcomes or Outcome],
        "type_regex": patterns_regex(wanted.event_types) if wanted.event_types else None,
        "from_time": floor,
        "before_time": before.end_time,
        "before_webhook": before.webhook_id,
        "before_seq": before.seq,
        "per_webhook": per_webhook,
        "look_cost": LOOK_COST,
        "limit": step_rows,
    }


def event_parameters(event_id: UUID, stored_from: datetime, stored_until: datetime) -> dict[str, Any]:
    """Returns the parameters that FIND_BY_EVENT and FIND_BY_DELETED_EVENT have besides."""
    return {
        "event_id": event_id,
        "stored_from": stored_from,
        "stored_until": stored_until,
        "logged_from": stored_from - ID_TIME_SLACK,
    }


def _found(row: Row) -> _FoundAttempt:
    at, webhook_id, seq, shard, size, fits, is_cut, _, _ = row
    return _FoundAttempt(AttemptKey(at, webhook_id, seq), shard, ANSWER_SHOWN * (size or 0), fits, is_cut)
