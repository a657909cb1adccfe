"""A database that has lived: what a month of work, of neglect and of upkeep leaves behind."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from webhook_grpc.store.schema.partitions import Table, first_id, next_day, partition_name, start_of

Connection = psycopg.Connection[tuple[Any, ...]]

REMADE_DAYS_AGO: Final = (3, 11, 24)  # whose partitions are dropped and made again

# Deliveries of a time when receivers were down, to half of the webhooks. All of them end.
BLOAT: Final[LiteralString] = """
INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
SELECT w %% 64, w, now() - (%(count)s - n) * interval '10 ms', ('ffffffff' || substr(md5(n::text), 9))::uuid,
    (w - 1) / 5 + 1, 1
FROM generate_series(1, %(count)s::integer) n CROSS JOIN LATERAL (SELECT n %% 500 * 2 + 1 AS w) k
"""
BLOAT_ENDS: Final[LiteralString] = "DELETE FROM deliveries WHERE event_id >= 'ffffffff-0000-0000-0000-000000000000'"
# As erasing a customer does it: rows of the log are written again.
REWRITE: Final[LiteralString] = "UPDATE attempts SET reason = reason WHERE webhook_id % 50 = 7"
# What was known of tables in other times: when the outbox was full, and the others nearly empty.
OLD_STATISTICS: Final[tuple[LiteralString, ...]] = (
    "UPDATE pg_class SET reltuples = 1 WHERE oid IN ('webhooks'::regclass, 'shards'::regclass, 'meta'::regclass)",
    "DELETE FROM pg_statistic WHERE starelid IN ('webhooks'::regclass, 'shards'::regclass, 'meta'::regclass)",
)


def age(url: str, bloat_count: int) -> None:
    """Ages a database of scripts/seed_history.py, whose rows stay as they are. Autovacuum has to be off."""
    today = datetime.now(UTC).date()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET jit = off")
        connection.execute(BLOAT, {"count": bloat_count})
        connection.execute("ANALYZE deliveries")
        connection.execute(BLOAT_ENDS)
        connection.execute(REWRITE)
        for days in REMADE_DAYS_AGO:
            _make_again(connection, today - timedelta(days=days))
        for statement in OLD_STATISTICS:
            connection.execute(statement)


def _make_again(connection: Connection, day: date) -> None:
    """Drops the partitions of a day and makes them again; the rows come back one by one, into indexes that grow."""
    orders: tuple[tuple[Table, str], ...] = (("events", "event_id"), ("attempts", "created_at"))
    for table, order in orders:
        bounds = [start_of(day), start_of(next_day(day))]
        lower, upper = (str(first_id(bound)) if table == "events" else bound.isoformat() for bound in bounds)
        names = {
            "day": sql.Identifier(partition_name(table, day)),
            "table": sql.Identifier(table),
            "lower": sql.Literal(lower),
            "upper": sql.Literal(upper),
            "order": sql.Identifier(order),
        }
        for statement in (
            "CREATE TEMPORARY TABLE kept AS SELECT * FROM {day}",
            "ALTER TABLE {table} DETACH PARTITION {day}",
            "DROP TABLE {day}",
            "CREATE TABLE {day} (LIKE {table} INCLUDING ALL)",
            "ALTER TABLE {table} ATTACH PARTITION {day} FOR VALUES FROM ({lower}) TO ({upper})",
            "INSERT INTO {table} SELECT * FROM kept ORDER BY {order}",
            "DROP TABLE kept",
        ):
            connection.execute(sql.SQL(statement).format(**names))
