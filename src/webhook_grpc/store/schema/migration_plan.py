"""Says what `migrate` would run on a database, what that locks, and about how long it takes. Changes nothing.

How long is a guess from the number of rows that Postgres believes in, at the speed of a small machine. Locks are held
for an instant where no row is looked at; whoever needs one waits at most 200 ms for it, and tries again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from webhook_grpc.domain.record import record

from .migration_effects import Effect, Lock, Work, effects_of
from .migration_files import Migration, MigrationStep
from .migration_steps import Connection

# Rows a second, or seconds, on two busy cores: docs/decisions/0082-upgrades.md.
ROWS_PER_SECOND: Final[Mapping[Work, float]] = {Work.SCAN: 1_000_000, Work.BUILD: 150_000, Work.WRITE: 10_000}
SAMPLE_SECONDS: Final = 1.0

# The rows of each table with those of its partitions, and how many partitions there are. Where Postgres has never
# counted, a row counts as 100 bytes.
SELECT_SIZES: Final = """
SELECT t.name, sum(
        CASE WHEN p.relkind = 'p' THEN 0 WHEN p.reltuples < 0 THEN pg_relation_size(p.oid) / 100 ELSE p.reltuples END
    )::bigint, count(*) - 1
FROM unnest(%(tables)s::text[]) AS t(name)
JOIN pg_class c ON c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, t.name))
CROSS JOIN LATERAL (
    SELECT c.oid AS member UNION SELECT relid::oid FROM pg_partition_tree(c.oid)
) m
JOIN pg_class p ON p.oid = m.member
GROUP BY t.name
"""


@record
class Size:
    """A table that exists: how many rows it has, about, and how many partitions."""

    rows: int
    partitions: int


@record
class PlannedStep:
    """What one statement of a migration would do. `seconds` is None if it is instant, whatever the size.

    `older_count`: processes of an older version that run, for whose end the migration waits.
    """

    schema: str
    migration: str
    step: int
    step_count: int
    statement: str
    table: str
    lock: Lock
    size: Size | None
    seconds: float | None
    older_count: int = 0

    @property
    def waiting(self) -> str:
        """Returns what of others has to wait while the lock is held."""
        return _WAITING[self.lock]


_WAITING: Final[Mapping[Lock, str]] = {
    Lock.NONE: "nobody waits",
    Lock.ROW_EXCLUSIVE: "nobody waits",
    Lock.SHARE_UPDATE_EXCLUSIVE: "nobody waits",
    Lock.SHARE: "writes wait",
    Lock.SHARE_ROW_EXCLUSIVE: "writes wait",
    Lock.ACCESS_EXCLUSIVE: "reads and writes wait",
}


def planned_steps(
    connection: Connection,
    schema: str,
    migrations: Sequence[Migration],
    steps_done: Mapping[str, int],
    older: Mapping[str, int],
) -> list[PlannedStep]:
    """Returns what is left of the migrations in a schema, in order. Raises psycopg.Error.

    `older`: of which migration how many processes are too old that run.
    """
    left = [
        (migration, number, effect)
        for migration in migrations
        for number, step in _steps_left(migration, steps_done.get(migration.name, 0))
        for effect in effects_of(step)
    ]
    sizes = _sizes(connection, schema, sorted({effect.table for _, _, effect in left if effect.table}))
    planned = (_planned(schema, migration, number, effect, sizes) for migration, number, effect in left)
    return [replace(step, older_count=older.get(step.migration, 0)) for step in planned]


def _steps_left(migration: Migration, done: int) -> list[tuple[int, MigrationStep]]:
    return list(enumerate(migration.steps, start=1))[done:]


def _sizes(connection: Connection, schema: str, tables: list[str]) -> dict[str, Size]:
    found = connection.execute(SELECT_SIZES, {"schema": schema, "tables": tables})
    return {name: Size(int(rows), int(partitions)) for name, rows, partitions in found}


def _planned(schema: str, migration: Migration, number: int, effect: Effect, sizes: Mapping[str, Size]) -> PlannedStep:
    size = sizes.get(effect.table)
    is_new = size is None  # made by a step before: nobody uses it yet
    return PlannedStep(
        schema,
        migration.name,
        number,
        len(migration.steps),
        effect.statement,
        effect.table,
        Lock.NONE if is_new else effect.lock,
        size,
        None if size is None else _seconds(effect.work, size),
    )


def _seconds(work: Work, size: Size) -> float | None:
    if work is Work.CATALOG:
        return None
    if work is Work.SAMPLE:
        return min(SAMPLE_SECONDS, size.rows / ROWS_PER_SECOND[Work.SCAN])
    return size.rows / ROWS_PER_SECOND[work]
