"""Lists that are merged from one list for each webhook: what lists of deliveries and of attempts share.

They are merged because the log's indexes begin with the webhook. A step reads a bounded number of rows of each webhook;
where that bound cuts off a webhook's rows, the step ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString, Protocol, TypeVar

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database
from webhook_grpc.store.log.rows import LogRow, log_columns

OLDEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
NEWEST: Final = datetime(9999, 12, 31, tzinfo=UTC)

# Most callers want recent rows, and each daily partition has its own indexes: for one page over a thousand webhooks, a
# list must not look for each of them in all of these.
_SPANS: Final = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))
_ROWS_PER_WEBHOOK_MAX: Final = 250
_ROWS_PER_WEBHOOK_OF_ALL_MIN: Final = 20
LOOK_COST: Final = 10  # looking for the next row of one webhook costs about as much as reading so many rows
ANSWER_SHOWN: Final = 2  # times a message holds an answer: as bytes and as text

# One of these begins each statement: `wanted` are the webhooks of the filter.
WANTED_BY_ID: Final = """
WITH wanted AS MATERIALIZED (
    SELECT id, shard FROM webhooks
    WHERE id = ANY(%(webhook_ids)b::bigint[]) AND (%(customer_id)b::bigint IS NULL OR customer_id = %(customer_id)b)
)"""
WANTED_BY_CUSTOMER: Final = """
WITH wanted AS MATERIALIZED (
    SELECT id, shard FROM webhooks WHERE customer_id = %(customer_id)b
)"""
WANTED_ALL: Final = """
WITH wanted AS MATERIALIZED (
    SELECT id, shard FROM webhooks
)"""

# Rows of the log by their keys: the columns of LogRow, the size of the request, the number of the key.
SELECT_LOG_ROWS: Final = f"""
SELECT {log_columns("a")},
    (SELECT octet_length(e.body) FROM events e WHERE e.event_id = a.event_id), k.ord
FROM unnest(%(shards)b::smallint[], %(seqs)b::bigint[], %(times)b::timestamptz[])
    WITH ORDINALITY AS k(shard, seq, created_at, ord)
CROSS JOIN LATERAL (
    SELECT * FROM attempts WHERE shard = k.shard AND seq = k.seq AND created_at = k.created_at LIMIT 1
) a
"""


class Merged(Protocol):
    """A row of a step that is merged from the rows of many webhooks."""

    @property
    def is_cut(self) -> bool:
        """Returns whether the bound cuts off its webhook's rows after this one."""
        ...


class InLog(Protocol):
    """Something with a row in the log."""

    @property
    def log_key(self) -> tuple[int, int, datetime]:
        """Returns the row's primary key: shard, `seq`, time."""
        ...


AnyMerged = TypeVar("AnyMerged", bound=Merged)


@record
class SizedRow:
    """A row of the log and the size of the request, None if the event is deleted."""

    row: LogRow
    request_bytes: int | None


def wanted_by(customer_id: int | None, webhook_ids: Sequence[int]) -> LiteralString:
    """Returns the beginning of a statement about the webhooks of a filter."""
    if webhook_ids:
        return WANTED_BY_ID
    return WANTED_ALL if customer_id is None else WANTED_BY_CUSTOMER


def rows_per_webhook(customer_id: int | None, webhook_ids: Sequence[int], step_rows: int) -> int:
    """Returns how many rows a step reads of each webhook at most."""
    if len(webhook_ids) == 1:
        return step_rows
    if webhook_ids or customer_id is not None:
        return min(step_rows, _ROWS_PER_WEBHOOK_MAX)
    return min(max(step_rows // 5, _ROWS_PER_WEBHOOK_OF_ALL_MIN), _ROWS_PER_WEBHOOK_MAX)


class LookBack:
    """How far back a step looks: for all customers an hour, when no row is left there a day, and so on."""

    def __init__(self, start: datetime, spans: Sequence[timedelta]) -> None:
        self.start = start
        self._spans = spans

    @classmethod
    def over(cls, customer_id: int | None, webhook_ids: Sequence[int], start: datetime) -> LookBack:
        """Makes one for a filter. The webhooks of one customer are few: a step looks back to the start at once."""
        return cls(start, () if webhook_ids or customer_id is not None else _SPANS)

    def floor(self, before: datetime) -> datetime:
        """Returns the earliest time of the next step. A wrong clock here makes the list slower, not wrong."""
        if not self._spans:
            return self.start
        return max(self.start, min(before, datetime.now(UTC)) - self._spans[0])

    def widen(self) -> None:
        """Looks back further from now on. Called when no row is left down to the floor."""
        self._spans = self._spans[1:]


def until_cut(found: Sequence[AnyMerged]) -> tuple[Sequence[AnyMerged], bool]:
    """Returns the rows up to the first that is cut, and whether there is one."""
    for number, row in enumerate(found, 1):
        if row.is_cut:
            return found[:number], True
    return found, False


async def whole_rows(database: Database, found: Sequence[InLog]) -> list[SizedRow | None]:
    """Returns the rows of the log, in the order of `found`; None where a row was deleted meanwhile."""
    if not found:
        return []
    keys = [row.log_key for row in found]
    parameters: dict[str, Any] = {
        "shards": [shard for shard, _, _ in keys],
        "seqs": [seq for _, seq, _ in keys],
        "times": [at for _, _, at in keys],
    }
    rows: dict[int, SizedRow] = {}
    for *columns, request_bytes, ord_ in await database.rows(SELECT_LOG_ROWS, parameters):
        rows[ord_] = SizedRow(LogRow._make(columns), request_bytes)
    return [rows.get(number) for number in range(1, len(keys) + 1)]
