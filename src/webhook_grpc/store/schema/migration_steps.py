"""Runs steps of migrations beside live traffic: none delays other statements for long, none is lost half-done.

- A step that takes a lock is a transaction of its own and gives up soon, because statements behind it wait as long as
  it does. It locks one table, so it can't be part of a deadlock. It is tried again until it succeeds.
- An index is made CONCURRENTLY. What a failed try left (an INVALID index) is dropped first.
- On a partitioned table an index is made ON ONLY the parent, and one CONCURRENTLY on each partition, which is then
  attached. Partitions that are made meanwhile get theirs from Postgres when they are attached.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, LiteralString

import psycopg
from psycopg import errors, sql

from webhook_grpc.store.connection.session import Row

from .migration_files import Index, MigrationStep, StepKind, index_of

LOCK_MILLISECONDS: Final = 200
# Postgres cancels an autovacuum for which another statement has waited as long as deadlock_timeout, which is 1 s.
PATIENT_LOCK_MILLISECONDS: Final = 1_500
PATIENT_AFTER_SECONDS: Final = 30.0
STEP_SECONDS_MAX: Final = 300.0  # tries of one step
PAUSE_SECONDS_MIN: Final = 0.05
PAUSE_SECONDS_MAX: Final = 2.0
# CREATE INDEX CONCURRENTLY delays nobody, and waits for every open transaction.
INDEX_LOCK_MILLISECONDS: Final = 600_000
INDEX_ROUNDS_MAX: Final = 20  # partitions may be made and dropped meanwhile

SET_LOCK_TIMEOUT: Final = "SELECT set_config('lock_timeout', %(milliseconds)s, %(in_transaction)s)"

# Whether the index is of this table, and whether it is valid.
SELECT_INDEX_STATE: Final = """
SELECT i.indrelid = to_regclass(%(table)s), i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%(index)s)
"""
SELECT_IS_PARTITIONED: Final = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%(table)s)"
# The partitions without an index that is attached to the parent's, the oldest first.
SELECT_PARTITIONS_WITHOUT_INDEX: Final = """
SELECT c.relname FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
WHERE p.inhparent = to_regclass(%(table)s) AND NOT EXISTS (
    SELECT 1 FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
    WHERE i.indrelid = c.oid AND a.inhparent = to_regclass(%(index)s)
)
ORDER BY c.relname
"""

_BUSY: Final = (errors.LockNotAvailable, errors.DeadlockDetected)
_VANISHED: Final = (errors.UndefinedTable, errors.UndefinedObject)

Connection = psycopg.Connection[Row]


class StepBlocked(Exception):
    """Other transactions have held the locks that the step needs, in every try."""


class NameTaken(Exception):
    """Something that is not ours has a name that the step needs."""


def run_step(connection: Connection, step: MigrationStep, record: Callable[[], None]) -> None:
    """Runs a step and records it: in one transaction if the step can, else so that both may be repeated.

    Raises StepBlocked, NameTaken, psycopg.Error.
    """
    if step.kind is StepKind.TRANSACTION:
        _in_transaction(connection, step.sql, record)
        return
    if step.kind is StepKind.INDEX:
        _build_index(connection, index_of(step))
    else:
        _alone(connection, step.sql)
    record()


def _in_transaction(
    connection: Connection, statement: LiteralString | sql.Composed, record: Callable[[], None] | None = None
) -> None:
    for lock_milliseconds in _tries():
        try:
            with connection.transaction():
                _limit_waiting(connection, lock_milliseconds, in_transaction=True)
                connection.execute(statement)
                if record is not None:
                    record()
        except _BUSY:
            continue
        return


def _alone(
    connection: Connection, statement: LiteralString | sql.Composed, milliseconds: int = INDEX_LOCK_MILLISECONDS
) -> None:
    """Runs a statement that can't be in a transaction, or would hold too many locks there."""
    for _ in _tries():
        try:
            _limit_waiting(connection, milliseconds, in_transaction=False)
            connection.execute(statement)
        except _BUSY:
            continue
        return


def _tries() -> Iterator[int]:
    """Gives for each try how many milliseconds to wait for locks; pauses between tries. Raises StepBlocked."""
    began_at, pause_seconds = time.monotonic(), PAUSE_SECONDS_MIN
    while (elapsed_seconds := time.monotonic() - began_at) < STEP_SECONDS_MAX:
        yield LOCK_MILLISECONDS if elapsed_seconds < PATIENT_AFTER_SECONDS else PATIENT_LOCK_MILLISECONDS
        time.sleep(pause_seconds * random.uniform(0.5, 1.0))  # jitter: not in step with the other transactions
        pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
    raise StepBlocked


def _limit_waiting(connection: Connection, milliseconds: int, *, in_transaction: bool) -> None:
    connection.execute(SET_LOCK_TIMEOUT, {"milliseconds": str(milliseconds), "in_transaction": in_transaction})


def _build_index(connection: Connection, index: Index) -> None:
    [(is_partitioned,)] = connection.execute(SELECT_IS_PARTITIONED, {"table": index.table}).fetchall() or [(False,)]
    if not is_partitioned:
        _build_concurrently(connection, index, index.name, index.table)
        return
    for _ in range(INDEX_ROUNDS_MAX):
        try:
            if _is_built_on_partitions(connection, index):
                return
        except _VANISHED:
            continue  # a partition was dropped meanwhile: look again
    raise StepBlocked


def _is_built_on_partitions(connection: Connection, index: Index) -> bool:
    """Runs one round; returns whether the parent's index is valid: whether every partition has one."""
    state = _state(connection, index.name, index.table)
    if state is None:
        _in_transaction(connection, _create(index, index.name, index.table, "ON ONLY"))
    for partition in _partitions_without(connection, index):
        name = f"{partition}_{index.name}"
        _build_concurrently(connection, index, name, partition)
        attach = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}")
        _in_transaction(connection, attach.format(sql.Identifier(index.name), sql.Identifier(name)))
    is_valid = _state(connection, index.name, index.table)
    if not is_valid and not _partitions_without(connection, index):
        # Postgres checks the parent's index only when one is attached, but the last partition without one was dropped.
        _in_transaction(connection, sql.SQL("DROP INDEX {}").format(sql.Identifier(index.name)))
    return bool(is_valid)


def _build_concurrently(connection: Connection, index: Index, name: str, table: str) -> None:
    for _ in range(INDEX_ROUNDS_MAX):
        state = _state(connection, name, table)
        if state:
            return
        try:
            if state is False:
                drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}")
                _alone(connection, drop.format(sql.Identifier(name)))
            _limit_waiting(connection, INDEX_LOCK_MILLISECONDS, in_transaction=False)
            connection.execute(_create(index, name, table, "ON", concurrently=True))
        except _BUSY:  # the next round drops what this try left
            time.sleep(random.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX))  # not in step with what held the lock
    raise StepBlocked


def _partitions_without(connection: Connection, index: Index) -> list[str]:
    found = connection.execute(SELECT_PARTITIONS_WITHOUT_INDEX, {"table": index.table, "index": index.name})
    return [name for (name,) in found]


def _state(connection: Connection, name: str, table: str) -> bool | None:
    """Returns whether the index is valid; None if there is none. Raises NameTaken if it is of another table."""
    row = connection.execute(SELECT_INDEX_STATE, {"index": name, "table": table}).fetchone()
    if row is None:
        return None
    is_of_table, is_valid = row
    if not is_of_table:
        raise NameTaken(name)
    return bool(is_valid)


def _create(index: Index, name: str, table: str, on: LiteralString, *, concurrently: bool = False) -> sql.Composed:
    return sql.Composed(
        [
            sql.SQL("CREATE UNIQUE INDEX " if index.is_unique else "CREATE INDEX "),
            sql.SQL("CONCURRENTLY " if concurrently else ""),
            sql.Identifier(name),
            sql.SQL(f" {on} "),
            sql.Identifier(table),
            sql.SQL(f" {index.definition}"),
        ]
    )
