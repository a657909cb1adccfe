"""Decides which process may send and settle which shard.

A process is alive while its lease (`workers`) lasts; a shard belongs to the process in its `owner`, at its `epoch`.
Only the database's clock decides whether a lease has run out. An expired worker id is never used again: its process
takes a new id and owns nothing until it has taken shards again.

That clock may step back. A lease that ends later than any renewal could have made it end was written before the step.
It is not valid, and its shards may be taken. See docs/decisions/0017-clocks.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.record import record
from webhook_grpc.store import db
from webhook_grpc.store.connection.session import Row
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.schema.migration_files import program_version

from .marks import ProcessMark

INSERT_WORKER: Final = """
INSERT INTO workers (
    worker_id, lease_until, lease_seconds, version, secret_key_ids, machine, namespaces, pid, started_ticks
)
VALUES (
    %(worker)s, now() + %(ttl)s * interval '1 second', %(ttl)s, %(version)s, %(secret_key_ids)b::bigint[],
    %(machine)s, %(namespaces)s, %(pid)s, %(started_ticks)s
)
RETURNING lease_until
"""

# Returns no row: the lease had run out. A lease that ends too late, because the clock stepped back, becomes valid again
# when its process renews it. If its shards were taken meanwhile, SELECT_OWNED_SHARDS says so.
RENEW_LEASE: Final = """
WITH clock AS MATERIALIZED (SELECT now() AS at)
UPDATE workers w SET lease_until = c.at + %(ttl)s * interval '1 second', retiring = %(retiring)s
FROM clock c
WHERE w.worker_id = %(worker)s AND w.lease_until > c.at
RETURNING w.lease_until
"""

# Whether a lease is valid. It was written to end one length of the lease later, so one that ends more than twice its
# length from now was written before the clock stepped back. Lengths differ between processes.
_IS_VALID_NOW: Final = "(w.lease_until > now() AND w.lease_until <= now() + 2 * w.lease_seconds * interval '1 second')"
_IS_VALID_AT: Final = "(w.lease_until > c.at AND w.lease_until <= c.at + 2 * w.lease_seconds * interval '1 second')"

# How many processes share the work, and the longest of their leases in seconds.
COUNT_LIVE_WORKERS: Final = f"""
SELECT count(*), max(w.lease_seconds) FROM workers w WHERE {_IS_VALID_NOW} AND NOT w.retiring
"""

# How many shards belong to no live process, and how many of them because a lease ends too late.
COUNT_FREE_SHARDS: Final = f"""
SELECT count(*), count(*) FILTER (WHERE w.lease_until > now())
FROM shards s LEFT JOIN workers w ON w.worker_id = s.owner
WHERE s.owner IS NULL OR w.worker_id IS NULL OR NOT {_IS_VALID_NOW}
"""

SELECT_OWNED_SHARDS: Final = "SELECT shard, epoch FROM shards WHERE owner = %(worker)s"

# Takes at most so many shards that belong to no live process. Chosen at random, so that processes that start together
# choose different ones; locked in order, so that these can't deadlock. The UPDATE checks the lease once more.
TAKE_SHARDS: Final = f"""
WITH candidates AS MATERIALIZED (
    SELECT s.shard, s.epoch, s.owner IS NOT NULL AS was_abandoned, now() AS at
    FROM shards s LEFT JOIN workers w ON w.worker_id = s.owner
    WHERE s.owner IS NULL OR w.worker_id IS NULL OR NOT {_IS_VALID_NOW}
    ORDER BY random()
    LIMIT %(count)s
), locked AS MATERIALIZED (
    SELECT s.shard FROM shards s
    WHERE s.shard = ANY(ARRAY(SELECT shard FROM candidates))
    ORDER BY s.shard
    FOR NO KEY UPDATE OF s
)
UPDATE shards s SET owner = %(worker)s, epoch = s.epoch + 1,
    abandoned_at = CASE WHEN c.was_abandoned THEN c.at ELSE s.abandoned_at END
FROM candidates c
WHERE s.shard = c.shard AND s.epoch = c.epoch AND s.shard = ANY(ARRAY(SELECT shard FROM locked))
    AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.worker_id = s.owner AND {_IS_VALID_AT})
RETURNING s.shard, s.epoch, s.abandoned_at, c.at
"""

# Gives own shards a new epoch: statements of the old epoch that are still on their way do nothing then.
READOPT_SHARDS: Final = """
UPDATE shards SET epoch = epoch + 1
WHERE owner = %(worker)s AND shard = ANY(%(shards)s::smallint[])
RETURNING shard, epoch
"""

# Run after the shards were taken, as a statement of its own: only then are all commits of the old owner visible.
SELECT_LAST_SEQS: Final = """
SELECT s.shard, greatest(s.last_seq, (SELECT coalesce(max(a.seq), 0) FROM attempts a WHERE a.shard = s.shard))
FROM shards s
WHERE s.shard = ANY(%(shards)s::smallint[])
"""

RELEASE_SHARDS: Final = """
UPDATE shards s SET owner = NULL, last_seq = greatest(s.last_seq, r.last_seq)
FROM unnest(%(shards)s::smallint[], %(epochs)s::bigint[], %(last_seqs)s::bigint[]) AS r(shard, epoch, last_seq)
WHERE s.shard = r.shard AND s.epoch = r.epoch AND s.owner = %(worker)s
"""

# Cursors of before are then refused: they may lie beyond the end of the log, or in what has been written over.
RENAME_LOG: Final = "UPDATE meta SET log_incarnation = %(name)s"

SELECT_IS_STANDBY: Final = "SELECT pg_is_in_recovery()"

DELETE_WORKER: Final = "DELETE FROM workers WHERE worker_id = %(worker)s"

# Also leases that were written by a clock that was far ahead. A live process has renewed its lease since then, or finds
# that it has none and registers again.
DELETE_DEAD_WORKERS: Final = """
DELETE FROM workers
WHERE lease_until < now() - interval '1 day'
    OR lease_until > now() + 2 * lease_seconds * interval '1 second' + interval '1 day'
"""


@dataclass(slots=True)
class OwnedShard:
    """A shard of ours: its epoch, and the last `seq` of its log.

    If its former owner did not release it, `abandoned_at` is when that was found out: whatever was due by then may have
    been in flight when that process died, or may have killed it. `abandoned_at` is never in the future: if the
    database's clock has stepped back since, it is when this process took the shard.
    """

    epoch: int
    last_seq: int
    abandoned_at: datetime | None = None
    taken_seq: int = 0  # the last `seq` of its log when it was taken


@record
class Live:
    """The processes that share the work: how many they are, and the longest of their leases in seconds (0: none)."""

    count: int
    lease_seconds_max: float


@record
class Free:
    """How many shards belong to no live process, and how many of them because a lease ends too late."""

    count: int
    ahead_count: int


async def register(
    connection: LoopConnection,
    worker: UUID,
    ttl_seconds: float,
    secret_key_ids: Sequence[int] = (),
    mark: ProcessMark | None = None,
) -> datetime:
    """Inserts a new worker id, with the keys that its process has; returns the database's time. Raises Unavailable."""
    parameters = {
        "worker": worker,
        "ttl": ttl_seconds,
        "version": program_version(),
        "secret_key_ids": list(secret_key_ids),
        "machine": mark and mark.machine,
        "namespaces": mark and mark.namespaces,
        "pid": mark and mark.pid,
        "started_ticks": mark and mark.started_ticks,
    }
    [(lease_until,)] = await connection.rows(INSERT_WORKER, parameters)
    return lease_until - timedelta(seconds=ttl_seconds)


async def forget_dead(connection: LoopConnection) -> None:
    """Deletes worker ids whose leases ran out a day ago. Raises Unavailable."""
    await connection.rows(DELETE_DEAD_WORKERS)


async def renew(
    connection: LoopConnection, worker: UUID, ttl_seconds: float, *, retiring: bool = False
) -> datetime | None:
    """Renews the lease; returns the database's time, or None if the lease had run out. Raises Unavailable."""
    rows = await connection.rows(RENEW_LEASE, {"worker": worker, "ttl": ttl_seconds, "retiring": retiring})
    return rows[0][0] - timedelta(seconds=ttl_seconds) if rows else None


async def count_live(connection: LoopConnection) -> Live:
    """Returns how many processes share the work, without those that are leaving. Raises Unavailable."""
    [(count, lease_seconds_max)] = await connection.rows(COUNT_LIVE_WORKERS)
    return Live(count=count, lease_seconds_max=lease_seconds_max or 0.0)


async def count_free(connection: LoopConnection) -> Free:
    """Returns how many shards belong to no live process. Raises Unavailable."""
    [(count, ahead_count)] = await connection.rows(COUNT_FREE_SHARDS)
    return Free(count=count, ahead_count=ahead_count)


async def owned_epochs(connection: LoopConnection, worker: UUID) -> dict[int, int]:
    """Returns the shards that are ours in the database, and the epoch of each. Raises Unavailable."""
    return dict(await connection.rows(SELECT_OWNED_SHARDS, {"worker": worker}))  # pyright: ignore[reportArgumentType] - rows of two


async def take(connection: LoopConnection, worker: UUID, count: int) -> dict[int, OwnedShard]:
    """Takes up to `count` shards that belong to no live process. Raises Unavailable."""
    rows = await connection.rows(TAKE_SHARDS, {"worker": worker, "count": count})
    taken = await _with_last_seqs(connection, {shard: epoch for shard, epoch, _, _ in rows})
    for shard, _, abandoned_at, at in rows:
        taken[shard].abandoned_at = None if abandoned_at is None else min(abandoned_at, at)
        taken[shard].taken_seq = taken[shard].last_seq
    return taken


async def readopt(connection: LoopConnection, worker: UUID, shards: Collection[int]) -> dict[int, OwnedShard]:
    """Gives own shards their next epoch; those missing from the answer are no longer ours. Raises Unavailable."""
    rows = await connection.rows(READOPT_SHARDS, {"worker": worker, "shards": list(shards)})
    return await _with_last_seqs(connection, dict(rows))


async def release(connection: LoopConnection, worker: UUID, shards: dict[int, OwnedShard]) -> None:
    """Releases shards, so that another process can take them at once. Raises Unavailable."""
    await connection.rows(
        RELEASE_SHARDS,
        {
            "worker": worker,
            "shards": list(shards),
            "epochs": [owned.epoch for owned in shards.values()],
            "last_seqs": [owned.last_seq for owned in shards.values()],
        },
    )


async def log_ends(connection: LoopConnection, shards: Collection[int]) -> dict[int, int]:
    """Returns the last `seq` of each of these shards. Raises Unavailable."""
    if not shards:
        return {}
    return dict(await connection.rows(SELECT_LAST_SEQS, {"shards": list(shards)}))  # pyright: ignore[reportArgumentType] - rows of two


async def is_standby(connection: LoopConnection) -> bool:
    """Returns whether the server takes changes from another one, and may be behind it. Raises Unavailable."""
    [(found,)] = await connection.rows(SELECT_IS_STANDBY)
    return found


def refuse_shorter_logs(connection: LoopConnection, reached: Mapping[int, int]) -> None:
    """Lets no statement run on a new connection to a database whose logs are shorter than `reached` says, now.

    Statements then raise Unavailable.
    """

    async def look(opened: AsyncConnection[Row]) -> None:
        known = dict(reached)
        found = await db.run(opened, SELECT_LAST_SEQS, {"shards": list(known)}) if known else []
        if any(last_seq < known[shard] for shard, last_seq in found):
            raise Unavailable("STORAGE_UNAVAILABLE", "the database is older than it was")

    connection.on_opened(look)


async def rename_log(connection: LoopConnection, name: UUID) -> None:
    """Gives the log another name. Raises Unavailable."""
    await connection.rows(RENAME_LOG, {"name": name})


async def unregister(connection: LoopConnection, worker: UUID) -> None:
    """Deletes the worker id. Raises Unavailable."""
    await connection.rows(DELETE_WORKER, {"worker": worker})


async def _with_last_seqs(connection: LoopConnection, epochs: dict[int, int]) -> dict[int, OwnedShard]:
    if not epochs:
        return {}
    last_seqs = await log_ends(connection, epochs)
    return {shard: OwnedShard(epochs[shard], last_seq) for shard, last_seq in last_seqs.items()}
