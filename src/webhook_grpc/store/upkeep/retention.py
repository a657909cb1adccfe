"""Deletes by age: drops whole days of events and of the log, and deletes small things in batches.

Nothing undelivered is ever deleted. A day is dropped only when no row of the outbox and no command has an event of that
day or of an earlier one: owners end overdue deliveries first (engine/duties/expiry.py). Two processes may call each
function at once, and a call may be interrupted anywhere: the next call goes on from what it finds. All use the believed
time (domain/clock.py): a clock that jumps ahead deletes nothing.
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

# Detaching a partition locks its table against everybody, and until the lock is granted, later statements queue up
# behind it. It waits for two locks, the table's and the partition's, each at most this long; so nobody waits 100 ms.
DETACH_LOCK_TIMEOUT_MS: Final = 40
DETACH_TRIES: Final = 5
DETACH_PAUSE_SECONDS: Final = (0.5, 1.5)  # between two tries, for the statements that waited
DROP_LOCK_TIMEOUT_MS: Final = 300  # nothing reads a detached table, except people
DAYS_PER_CALL: Final = 8
KEYS_PER_BATCH: Final = 10_000
ROWS_PER_BATCH: Final = 500
ERASURE_DAYS: Final = 400  # tombstones outlive backups: after a restore, these customers are erased again

_IN_USE: Final = frozenset({"55P03", "40P01"})  # somebody held a lock for too long; a deadlock was broken up
_GONE: Final = "42P01"  # another process was quicker

# Scans the outbox, which is small beside what is about to be dropped. Ends at the first row that it finds.
SELECT_UNDELIVERED_EXIST: Final = """
SELECT EXISTS (SELECT 1 FROM deliveries WHERE event_id < %(bound)b)
    OR EXISTS (SELECT 1 FROM commands WHERE event_id < %(bound)b)
"""

# Keeps the last `seq` of each shard before its rows are dropped: else the `seq` of a quiet shard would begin again. A
# statement of its own, which locks shards in the order of settling: in one transaction with the detaching, settling
# could hold the table and wait for the shard, while we hold the shard and wait for the table.
KEEP_LAST_SEQS: Final = """
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

# Functions of the owner of the tables (0014). One message, and so one transaction that the server commits: a client
# that is stopped between the two statements holds no lock.
DETACH_PARTITION: Final = """
SELECT set_config('lock_timeout', {timeout}, true);
SELECT detach_partition({table}, {day})
"""
DROP_PARTITION: Final = """
SELECT set_config('lock_timeout', {timeout}, true);
SELECT drop_partition({table}, {day})
"""

# Tables that were detached before their process ended: named like our partitions, but not partitions.
SELECT_DETACHED_PARTITIONS: Final = """
SELECT c.relname FROM pg_class c JOIN pg_class parent ON parent.relnamespace = c.relnamespace
WHERE parent.oid = to_regclass(%(table)s) AND c.relkind = 'r' AND NOT c.relispartition
    AND c.relname ~ ('^' || %(table)s || '_[0-9]{8}$')
ORDER BY c.relname
"""

DELETE_OLD_KEYS: Final = f"""
WITH deleted AS (
    DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM idempotency_keys
        WHERE created_at < {BELIEVED_NOW} - %(hours)s * interval '1 hour'
        ORDER BY created_at
        LIMIT %(limit)s
    ))
    RETURNING 1
)
SELECT count(*) FROM deleted
"""

DELETE_OLD_REPLAYS: Final = f"""
WITH deleted AS (
    DELETE FROM replays WHERE replay_id = ANY(ARRAY(
        SELECT replay_id FROM replays
        WHERE status <> 'running' AND finished_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
        LIMIT %(limit)s
    ))
    RETURNING 1
)
SELECT count(*) FROM deleted
"""

DELETE_OLD_ERASURES: Final = f"""
WITH deleted AS (
    DELETE FROM erasures WHERE customer_id = ANY(ARRAY(
        SELECT customer_id FROM erasures
        WHERE completed_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
        LIMIT %(limit)s
    ))
    AND completed_at < {BELIEVED_NOW} - %(days)s * interval '1 day'
    RETURNING 1
)
SELECT count(*) FROM deleted
"""

# A deleted webhook keeps its row while anything may refer to it. The age matters for a publication that still saw the
# webhook active and is not committed yet: no owner finds, and cancels, a row of the outbox without a webhook.
PURGE_WEBHOOKS: Final = f"""
WITH deleted AS (
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
SELECT count(*) FROM deleted
"""

# Health that an owner saved after the webhook was deleted.
DELETE_HEALTH_WITHOUT_WEBHOOK: Final = """
DELETE FROM webhook_health h WHERE NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.id = h.webhook_id)
"""


@dataclass(slots=True)
class Dropped:
    """The partitions that are older than they are kept, and what became of them."""

    dropped: list[str] = field(default_factory=list[str])
    undelivered: list[str] = field(default_factory=list[str])  # some deliveries of these days have not ended
    in_use: list[str] = field(default_factory=list[str])  # somebody holds locks on these for long: a dump, perhaps
    has_more: bool = False


async def drop_partitions(database: Database, table: Table, days: int) -> Dropped:
    """Drops partitions that are wholly older than so many days, the oldest first, at most DAYS_PER_CALL.

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
            await database.rows(KEEP_LAST_SEQS, {"before": start_of(next_day(day))})
        if not await _detach(database, table, day):
            result.in_use.append(name)
            return result  # what holds this one holds the table
        if await _drop(database, table, day):
            result.dropped.append(name)
    result.has_more = len(old) > DAYS_PER_CALL
    return result


async def is_undelivered(database: Database, before: date) -> bool:
    """Returns whether any delivery of an event from before a day has not ended. Raises Unavailable."""
    [(exists,)] = await database.rows(SELECT_UNDELIVERED_EXIST, {"bound": first_id(start_of(before))})
    return exists


async def delete_keys(database: Database, hours: int) -> int:
    """Deletes a batch of idempotency keys that are older; returns how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_OLD_KEYS, {"hours": hours, "limit": KEYS_PER_BATCH})
    return count


async def delete_replays(database: Database, days: int) -> int:
    """Deletes a batch of replays that ended longer ago; returns how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_OLD_REPLAYS, {"days": days, "limit": ROWS_PER_BATCH})
    return count


async def delete_erasures(database: Database) -> int:
    """Deletes a batch of erasures that are older than ERASURE_DAYS; returns how many. Raises Unavailable."""
    [(count,)] = await database.rows(DELETE_OLD_ERASURES, {"days": ERASURE_DAYS, "limit": ROWS_PER_BATCH})
    return count


async def purge_webhooks(database: Database, days: int) -> int:
    """Deletes a batch of rows of webhooks that were deleted longer ago and have no history left; returns how many.

    The log must be kept as many days, so that nobody finds a webhook's history without its webhook. Raises Unavailable.
    """
    [(count,)] = await database.rows(PURGE_WEBHOOKS, {"days": days, "limit": ROWS_PER_BATCH})
    await database.rows(DELETE_HEALTH_WITHOUT_WEBHOOK)
    return count


async def _drop_detached(database: Database, table: Table, first_kept: date) -> list[str]:
    dropped: list[str] = []
    for (name,) in await database.rows(SELECT_DETACHED_PARTITIONS, {"table": table}):
        day = day_of(table, name)
        if day is not None and day < first_kept and await _drop(database, table, day):
            dropped.append(name)
    return dropped


async def _detach(database: Database, table: Table, day: date) -> bool:
    """Detaches a partition; returns False if others held locks. Makes nobody wait for long."""
    statement = sql.SQL(DETACH_PARTITION).format(
        timeout=sql.Literal(f"{DETACH_LOCK_TIMEOUT_MS}ms"), table=sql.Literal(table), day=sql.Literal(day)
    )
    for attempt in range(DETACH_TRIES):
        if attempt:
            await asyncio.sleep(database.options.random.uniform(*DETACH_PAUSE_SECONDS))  # for the holder of the lock
        if await _ran(database, statement):
            return True
    return False


async def _drop(database: Database, table: Table, day: date) -> bool:
    """Drops a table; returns False if others held locks. Its files are deleted after the commit: nobody waits."""
    statement = sql.SQL(DROP_PARTITION).format(
        timeout=sql.Literal(f"{DROP_LOCK_TIMEOUT_MS}ms"), table=sql.Literal(table), day=sql.Literal(day)
    )
    return await _ran(database, statement)


async def _ran(database: Database, statement: sql.Composed) -> bool:
    """Runs several statements as one message; returns False if others held locks. Raises Unavailable."""
    try:
        async with database.connection(LOST_RACES) as connection:
            await connection.execute(statement, prepare=False)
    except Unavailable as error:
        sqlstate = getattr(error.__cause__, "sqlstate", None)
        if sqlstate != _GONE and sqlstate not in _IN_USE:
            raise
        return sqlstate == _GONE
    return True
