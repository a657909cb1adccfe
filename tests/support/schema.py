"""What a schema is made of, as text, so that two can be compared; and partitions as a running process makes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tests.support.postgres import query
from webhook_grpc.store.schema.partitions import first_id

_COLUMNS: LiteralString = """
SELECT table_name, ordinal_position, column_name, data_type, column_default, is_nullable, generation_expression
FROM information_schema.columns WHERE table_schema = current_schema() AND table_name !~ '^_?yoyo' ORDER BY 1, 2
"""
_INDEXES: LiteralString = """
SELECT c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, p.inhparent::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_inherits p ON p.inhrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname !~ '^_?yoyo' ORDER BY 1
"""
_CONSTRAINTS: LiteralString = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = current_schema()::regnamespace AND conrelid::regclass::text !~ '^_?yoyo' ORDER BY 1, 2
"""
_RELATIONS: LiteralString = """
SELECT relname, relkind::text, reloptions, CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname !~ '^_?yoyo' ORDER BY 1
"""
_FUNCTIONS: LiteralString = """
SELECT proname, pg_get_functiondef(oid), proacl::text, obj_description(oid)
FROM pg_proc WHERE pronamespace = current_schema()::regnamespace ORDER BY 1
"""
_ROWS: LiteralString = """
SELECT event_type, built_in::text FROM event_types
UNION ALL SELECT 'shards', count(*)::text FROM shards
UNION ALL SELECT 'meta', count(*)::text FROM meta
ORDER BY 1
"""
INVALID: LiteralString = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


def described(url: str) -> list[tuple[Any, ...]]:
    """Every table, column, index, constraint, view and function of ours, and the rows that migrations make.

    Without the name of the schema, so that the same things in two schemas are equal.
    """
    parts = (_COLUMNS, _INDEXES, _CONSTRAINTS, _RELATIONS, _FUNCTIONS, _ROWS)
    [(schema,)] = query(url, "SELECT current_schema()::text")
    return [tuple(_without(schema, value) for value in row) for part in parts for row in query(url, part)]


def _without(schema: str, value: Any) -> Any:
    return re.sub(rf"\b{schema}\b(\.|', 'pg_temp')", r"our\1", value) if isinstance(value, str) else value


def add_partition(url: str, table: str, day: int) -> str:
    """Makes the partition of a day of January 2026, as every version of the service does; returns its name."""
    name = f"{table}_202601{day:02}"
    days = datetime(2026, 1, day, tzinfo=UTC), datetime(2026, 1, day + 1, tzinfo=UTC)
    lower, upper = (first_id(at) if table == "events" else at for at in days)
    names = {"table": sql.Identifier(table), "name": sql.Identifier(name)}
    bounds = {"lower": sql.Literal(str(lower)), "upper": sql.Literal(str(upper))}
    attach = "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({lower}) TO ({upper})"
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)").format(**names))
        connection.execute(sql.SQL(attach).format(**names, **bounds))
    return name
