"""What is kept for how long: whole days of events and of the log are dropped, small things are deleted in batches.

Nothing undelivered is ever removed. A day goes only when no row of the outbox and no command refers to an event of it
or of an earlier day: owners end what is overdue first (engine/duties/expiry.py). Every function may be called by two
processes at once, and be broken off anywhere: the next call goes on from what it finds. All go by the believed time
(domain/clock.py): a clock that jumps ahead deletes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from psycopg import sql

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.retention import first_day_kept
from webhook_grpc.store.clock import BELIEVED_NOW, believed_now
from webhook_grpc.store.connection.failures import LOST_RACES
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.partitions import Table, day_of, first_id, next_day, partition_days, start_of

# Detaching a partition locks its table against everybody: until the lock is granted, whatever comes later queues up
# behind it. Two locks are waited for, the table's and the partition's, each at most so long; so nobody waits 100 ms.
DETACH_LOCK_TIMEOUT_MS: Final = 40
DETACH_TRIES: Final = 5
DETACH_PAUSE_SECONDS: Final = (0.5, 1.5)  # between two tries, for those who waited
DROP_LOCK_TIMEOUT_MS: Final = 300  # nobody else reads a detached table, unless by hand
DAYS_PER_CALL: Final = 8
KEYS_PER_BATCH: Final = 10_000
ROWS_PER_BATCH: Final = 500
ERASURE_DAYS: Final = 400  # tombstones outlive backups: who restores one must know whom to erase again

_IN_USE: Final = frozenset({"55P03", "40P01"})  # somebody held a lock for too long; a deadlock was broken up
_GONE: Final = "42P01"  # another process was quicker

# A scan of the outbox, which is small beside what is about to be dropped; it ends at the first row that it finds.
UNDELIVERED: Final = """
SELECT EXISTS (SELECT 1 FROM deliveries WHERE event_id < %(bound)b)
    OR EXISTS (SELECT 1 FROM commands WHERE event_id < %(bound)b)
"""

# How far the log of each shard reached, before the rows that say so go: else a quiet shard's seq would begin again. In
# a statement of its own and in the order in which settling locks shards: in one transaction with the detaching, a
# settling could hold the table and wait for the shard while we hold the shard and wait for the table.
KEEP_SEQS: Final = """
WITH newest AS MATERIALIZED (
    SELECT s.shard, (
        SELECT max(a.seq) FROM attempts a WHERE a.shard = s.shard AND a.created_at < %(before)b
    ) AS seq
    FROM shards s
), behind AS MATERIALIZED (
    SELECT s.shard, n.seq FROM shards s JOIN newest n ON n.shard = s.shard
    WHERE s.last_seq < n.seq
    ORDER BY s.shard
    FOR NO KEY UPDATE OF s
)
UPDATE shards s SET last_seq = greatest(s.last_seq, b.seq) FROM behind b WHERE s.shard = b.shard
"""

# One message and so one transaction, committed by the server itself: a client that is stopped between the two
# statements holds no lock.
DETACH: Final = """
SELECT set_config('lock_timeout', {timeout}, true);
ALTER TABLE {table} DETACH PARTITION {partition}
"""
DROP: Final = """
SELECT set_config('lock_timeout', {timeout}, true);
DROP TABLE IF EXISTS {partition}
"""

# Detached, and then the process ended: tables that are named like our partitions and are none.
DETACHED: Final = """
SELECT c.relname FROM pg_class c JOIN pg_class parent ON parent.relnamespace = c.relnamespace
WHERE parent.oid = to_regclass(%(table)s) AND c.relkind = 'r' AND NOT c.relispartition
    AND c.relname ~ ('^' || %(table)s || '_[0-9]{8}$')
ORDER BY c.relname
"""

DELETE_KEYS: Final = f"""
WITH gone AS (
    DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM idempotency_keys
        WHERE created_at < {BELIEVED_NOW} - %(hours)s * interval '1 hour'
        ORDER BY created_at
        LIMIT %(limit)s
    ))
    RETURNING 1
)
SELECT count(*) FROM gone
"""

DELETE_REPLAYS: Final = f"""
WITH gone AS (
    DELETE FROM replays WHERE replay_id = ANY(ARRAY(
        SELECT replay_id FROM replays
        WHERE status <> 'running' AND finished_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
        LIMIT %(limit)s
    ))
    RETURNING 1
)
SELECT count(*) FROM gone
"""

DELETE_ERASURES: Final = f"""
WITH gone AS (
    DELETE FROM erasures WHERE customer_id = ANY(ARRAY(
        SELECT customer_id FROM erasures
        WHERE completed_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
        LIMIT %(limit)s
    ))
    AND completed_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
    RETURNING 1
)
SELECT count(*) FROM gone
"""

# A deleted webhook keeps its row while anything may refer to it. The age keeps it from a publication that still saw it
# active and is not committed yet: nobody would find, and cancel, a row of the outbox that belongs to no webhook.
PURGE_WEBHOOKS: Final = f"""
WITH gone AS (
    DELETE FROM webhooks WHERE id = ANY(ARRAY(
        SELECT w.id FROM webhooks w
        WHERE w.status = 'deleted' AND w.updated_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
            AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.shard = w.shard AND d.webhook_id = w.id)
            AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.shard = w.shard AND c.webhook_id = w.id)
            AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.webhook_id = w.id)
        LIMIT %(limit)s
    ))
    RETURNING 1
)
SELECT count(*) FROM gone
"""

# What an owner saved of a webhook's receiver after the webhook was gone.
DELETE_HEALTH: Final = """
DELETE FROM webhook_health h WHERE NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.id = h.webhook_id)
"""


@dataclass(slots=True)
class Dropped:
    """What became of the days that are older than they are kept."""

    dropped: list[str] = field(default_factory=list[str])
    undelivered: list[str] = field(default_factory=list[str])  # deliveries of these days have not ended
    in_use: list[str] = field(default_factory=list[str])  # somebody reads these for long: a dump, perhaps
    has_more: bool = False


async def drop_partitions(database: Database, table: Table, days: int) -> Dropped:
    """Drops the partitions that are wholly older than so many days, the oldest first, so many in a call.

    Raises Unavailable.
    """
    first_kept = first_day_kept((await believed_now(database)).date(), days)
    result = Dropped(dropped=await _drop_detached(database, table, first_kept))
    old = [(day, name) for day, name in (await partition_days(database, table)).items() if day < first_kept]
    for day, name in old[:DAYS_PER_CALL]:
        if await is_undelivered(database, next_day(day)):
            result.undelivered += [later for later_day, later in old if later_day >= day]
            return result
        if table == "attempts":
            await database.rows(KEEP_SEQS, {"before": start_of(next_day(day))})
        if not await _detach(database, table, name):
            result.in_use.append(name)
            return result  # whoever reads this one reads the table
        if await _drop(database, name):
            result.dropped.append(name)
    result.has_more = len(old) > DAYS_PER_CALL
    return result


async def is_undelivered(database: Database, before: date) -> bool:
    """Whether any delivery of an event from before a day has not ended. Raises Unavailable."""
    [(exists,)] = await database.rows(UNDELIVERED, {"bound": first_id(start_of(before))})
    return exists


async def delete_keys(database: Database, hours: int) -> int:
    """Deletes a batch of idempotency keys that are older; how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_KEYS, {"hours": hours, "limit": KEYS_PER_BATCH})
    return count


async def delete_replays(database: Database, days: int) -> int:
    """Deletes a batch of replays that ended longer ago; how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_REPLAYS, {"days": days, "limit": ROWS_PER_BATCH})
    return count


async def delete_erasures(database: Database) -> int:
    """Deletes a batch of tombstones that nobody needs any more; how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_ERASURES, {"days": ERASURE_DAYS, "limit": ROWS_PER_BATCH})
    return count


async def purge_webhooks(database: Database, days: int) -> int:
    """Removes a batch of webhooks that were deleted longer ago and have no history left; how many. Raises Unavailable.

    The number of days must be that of the log's, so that nobody finds a webhook's history without its webhook.
    """
    [(count,)] = await database.rows(PURGE_WEBHOOKS, {"days": days, "limit": ROWS_PER_BATCH})
    await database.rows(DELETE_HEALTH)
    return count


async def _drop_detached(database: Database, table: Table, first_kept: date) -> list[str]:
    dropped: list[str] = []
    for (name,) in await database.rows(DETACHED, {"table": table}):
        day = day_of(table, name)
        if day is not None and day < first_kept and await _drop(database, name):
            dropped.append(name)
    return dropped


async def _detach(database: Database, table: Table, name: str) -> bool:
    """Whether the partition is one no longer. It gives up rather than make others wait."""
    statement = sql.SQL(DETACH).format(
        timeout=sql.Literal(f"{DETACH_LOCK_TIMEOUT_MS}ms"), table=sql.Identifier(table), partition=sql.Identifier(name)
    )
    for attempt in range(DETACH_TRIES):
        if attempt:
            await asyncio.sleep(database.options.random.uniform(*DETACH_PAUSE_SECONDS))
        if await _ran(database, statement):
            return True
    return False


async def _drop(database: Database, name: str) -> bool:
    """Whether the table is gone. It may be large: its files go after the commit, and nobody waits for that."""
    statement = sql.SQL(DROP).format(timeout=sql.Literal(f"{DROP_LOCK_TIMEOUT_MS}ms"), partition=sql.Identifier(name))
    return await _ran(database, statement)


async def _ran(database: Database, statement: sql.Composed) -> bool:
    """Runs several statements as one message. False: somebody held a lock for too long. Raises Unavailable."""
    try:
        async with database.connection(LOST_RACES) as connection:
            await connection.execute(statement, prepare=False)
    except Unavailable as error:
        sqlstate = getattr(error.__cause__, "sqlstate", None)
        if sqlstate != _GONE and sqlstate not in _IN_USE:
            raise
        return sqlstate == _GONE
    return True
