"""Reads the log on from a position, for the live stream, and finds the position of a time.

`seq` has no holes in a shard, so a reader that has seen `seq` n has seen everything before it. A hole is a bug: it is
logged as an error, and nobody waits for the missing row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final
from uuid import UUID

import structlog

from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.errors import CursorExpired, FailedPrecondition
from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database, Queries

from .rows import Change, change_from_row, log_columns

log = structlog.get_logger(__name__)

ROWS_PER_SHARD_MAX: Final = 500
ROWS_MAX: Final = 2000  # each may carry 16 KiB of response
_ROWS_AT_ONCE: Final = 25  # that become changes in one turn of the event loop
_ALL_SHARDS: Final = list(range(SHARD_COUNT))
START_OF_TIME: Final = datetime.fromisoformat("2000-01-01T00:00:00+00:00")  # before every row

# The last `seq` of each shard.
SELECT_LOG_ENDS: Final = """
SELECT s.shard, greatest(s.last_seq, (SELECT coalesce(max(a.seq), 0) FROM attempts a WHERE a.shard = s.shard)),
    clock_timestamp()
FROM shards s
ORDER BY s.shard
"""

# The oldest row of each shard that is still kept.
SELECT_LOG_BEGINNINGS: Final = """
SELECT s.shard, a.seq, a.created_at
FROM shards s
CROSS JOIN LATERAL (
    SELECT seq, created_at FROM attempts WHERE shard = s.shard ORDER BY seq LIMIT 1
) a
"""

# How far before the rows that were read last, and before now, a row that was not read yet may lie: statements that take
# long, and clocks that are set back by less.
_VISIBLE_WITHIN: Final = "interval '2 days'"
_SINCE: Final = f"least(%(read_at)b::timestamptz, now()) - {_VISIBLE_WITHIN}"

# The next rows of each shard after a position, up to another, oldest first. `read_at` only lets Postgres skip
# partitions. If the rows that were read last are of a clock that was ahead, what the clock shows now counts. If a clock
# that stepped makes it skip rows all the same, there is a hole before the next row, and everything is read again.
# Ordered by the running maximum of the time, rows of a shard keep the order of `seq` whatever the clock did, so the
# limit cuts off only later rows. `seq` has no holes, so the row after a position has the next number, and a range of
# numbers holds as many rows: no plan can read the rest of the log. Beyond a hole (its partition was dropped) the first
# row is searched.
SELECT_CHANGES: Final = f"""
SELECT r.shard, r.seq, {log_columns("r")}
FROM unnest(%(shards)b::smallint[], %(after)b::bigint[], %(until)b::bigint[]) AS k(shard, after, until)
CROSS JOIN LATERAL (
    SELECT coalesce(
        (
            SELECT seq FROM attempts
            WHERE shard = k.shard AND seq = k.after + 1 AND seq <= k.until AND created_at >= {_SINCE}
            LIMIT 1
        ),
        (
            SELECT seq FROM attempts
            WHERE shard = k.shard AND seq > k.after AND seq <= k.until AND created_at >= {_SINCE}
            ORDER BY seq
            LIMIT 1
        )
    ) AS seq
) first
CROSS JOIN LATERAL (
    SELECT * FROM attempts
    WHERE shard = k.shard AND seq >= first.seq AND seq < first.seq + %(limit_per_shard)b::integer AND seq <= k.until
        AND created_at >= {_SINCE}
    ORDER BY seq
    LIMIT %(limit_per_shard)b::integer
) r
ORDER BY max(r.created_at) OVER (PARTITION BY r.shard ORDER BY r.seq), r.shard, r.seq
LIMIT %(limit)b::integer
"""

# How far each shard was before the first row at or after a time: by bisection, which takes as many steps as the number
# of rows has binary digits. All steps are one statement, because hundreds of watchers may come at the same time. Where
# the clock was set back there may be a row of a later day before that: then how far the shard was before the first of
# these. (Few partitions are younger than a start time is old.)
SELECT_POSITION_AT: Final = """
WITH RECURSIVE bisected AS (
    SELECT e.shard, coalesce(e.first_seq - 1, e.last_seq) AS low, e.last_seq AS high
    FROM (
        SELECT s.shard,
            (SELECT seq FROM attempts WHERE shard = s.shard ORDER BY seq LIMIT 1) AS first_seq,
            greatest(s.last_seq, (SELECT coalesce(max(seq), 0) FROM attempts WHERE shard = s.shard)) AS last_seq
        FROM shards s
    ) e
    UNION ALL
    SELECT b.shard, CASE WHEN r.is_before THEN m.middle + 1 ELSE b.low END,
        CASE WHEN r.is_before THEN b.high ELSE m.middle END
    FROM bisected b
    CROSS JOIN LATERAL (SELECT (b.low + b.high) / 2 AS middle) m
    LEFT JOIN LATERAL (
        SELECT created_at < %(start_time)b AS is_before FROM attempts
        WHERE shard = b.shard AND seq > m.middle
        ORDER BY seq
        LIMIT 1
    ) r ON true
    WHERE b.low < b.high
)
SELECT b.shard, coalesce(
    (
        SELECT seq - 1 FROM attempts
        WHERE shard = b.shard AND seq <= b.low AND created_at >= %(later)b
        ORDER BY seq
        LIMIT 1
    ),
    b.low
)
FROM bisected b
WHERE b.low = b.high
ORDER BY b.shard
"""

SELECT_INCARNATION: Final = "SELECT log_incarnation FROM meta"


async def incarnation(database: Queries) -> UUID:
    """Returns the name of this log; after a restore the database has another. Raises Unavailable."""
    [(value,)] = await database.rows(SELECT_INCARNATION)
    return value


async def end_position(database: Queries) -> tuple[Position, datetime]:
    """Returns the position after the newest row, and the database's time. Raises Unavailable."""
    rows = await database.rows(SELECT_LOG_ENDS)
    return tuple(last_seq for _, last_seq, _ in rows), rows[0][2]


async def position_at(database: Database, start_time: datetime) -> Position:
    """Returns the position before the first row at or after a time, or before the log's first row. Raises Unavailable.

    In each shard time grows with `seq`, so bisection finds it, in all shards at once. Where the database's clock was
    set back, time does not grow: then the position is before one of the rows at which the log passed that time, and
    before all rows of a later day.
    """
    later = datetime.combine(start_time.astimezone(UTC).date(), time.min, UTC) + timedelta(days=1)
    rows = await database.rows(SELECT_POSITION_AT, {"start_time": start_time, "later": later})
    return tuple(seq for _, seq in rows)


@record
class Kept:
    """From where to where the log reaches: the last `seq` of each shard, and the oldest row of those that have any."""

    end: Position
    oldest: Mapping[int, tuple[int, datetime]]

    def check(self, position: Position) -> None:
        """Raises CursorExpired if rows after the position are deleted, FailedPrecondition if the log ends before it."""
        if any(seen > last for seen, last in zip(position, self.end, strict=True)):
            raise cursor_of_other_log()
        for shard in _ALL_SHARDS:
            first_seq = self.oldest[shard][0] if shard in self.oldest else self.end[shard] + 1
            if position[shard] + 1 < first_seq:
                raise self._expired()

    def _expired(self) -> CursorExpired:
        oldest = min((created_at for _, created_at in self.oldest.values()), default=None)
        return CursorExpired(
            "CURSOR_EXPIRED",
            "the log no longer reaches back to this cursor; start again with `snapshot` or a later `start_time`",
            {"oldest_time": oldest.isoformat() if oldest else ""},
        )


async def kept(database: Queries) -> Kept:
    """Returns from where to where the log reaches. Raises Unavailable."""
    end, _ = await end_position(database)
    oldest = {shard: (seq, created_at) for shard, seq, created_at in await database.rows(SELECT_LOG_BEGINNINGS)}
    return Kept(end, oldest)


async def check_position(database: Queries, position: Position) -> None:
    """Raises CursorExpired if rows after the position are deleted, FailedPrecondition if the log ends before it."""
    (await kept(database)).check(position)


def cursor_of_other_log() -> FailedPrecondition:
    """Returns the error for a cursor that was made before the database was restored, or lost commits at a failover."""
    return FailedPrecondition(
        "CURSOR_OF_OTHER_LOG",
        "the cursor belongs to a log that was replaced by a restore or a failover; start again with `snapshot`",
        "cursor",
    )


async def read(
    database: Queries,
    after: Position,
    until: Position,
    read_at: datetime = START_OF_TIME,
) -> list[Change]:
    """Returns the next changes after a position, up to another, in order within each shard. Raises Unavailable.

    Rows that are more than two days older than `read_at` may be left out. By default none is.
    """
    behind = [shard for shard in _ALL_SHARDS if after[shard] < until[shard]]
    if not behind:
        return []
    parameters = {
        "shards": behind,
        "after": [after[shard] for shard in behind],
        "until": [until[shard] for shard in behind],
        "limit": ROWS_MAX,
        "limit_per_shard": ROWS_PER_SHARD_MAX,
    }
    changes = await _changes(database, parameters, read_at)
    if read_at > START_OF_TIME and _holes(after, changes):  # a clock that stepped back gave rows earlier times
        changes = await _changes(database, parameters, START_OF_TIME)
    for change, before in _holes(after, changes):
        log.error("hole in the log", shard=change.shard, after=before, found=change.seq)
    return changes


async def _changes(database: Queries, parameters: Mapping[str, object], read_at: datetime) -> list[Change]:
    changes = list[Change]()
    for row in await database.rows(SELECT_CHANGES, {**parameters, "read_at": read_at}):
        changes.append(change_from_row(row))
        if not len(changes) % _ROWS_AT_ONCE:
            await asyncio.sleep(0)  # calls get a turn between rows
    return changes


def advanced(position: Position, changes: Sequence[Change]) -> Position:
    """Returns the position after the changes."""
    seqs = list(position)
    for change in changes:
        seqs[change.shard] = max(seqs[change.shard], change.seq)
    return tuple(seqs)


def _holes(after: Position, changes: Sequence[Change]) -> list[tuple[Change, int]]:
    """Returns each change before which rows of its shard are missing, with the last `seq` before the hole."""
    last: dict[int, int] = dict(enumerate(after))
    holes: list[tuple[Change, int]] = []
    for change in changes:
        if change.seq != last[change.shard] + 1:
            holes.append((change, last[change.shard]))
        last[change.shard] = change.seq
    return holes
