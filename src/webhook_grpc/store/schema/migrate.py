"""Migrates the schema: applies plain SQL files, forward only, step by step, beside live traffic.

The row that records a step is written in the transaction of the step, or after a step that may be repeated. So a
migrator may die at any statement, and the next one goes on. Only one works at a time: it holds an advisory lock, which
ends with its connection. A server never migrates a real database: it says what to run. See docs/decisions/0016.

Until 0004 yoyo-migrations did this, and recorded it in `_yoyo_migration`. What is recorded there counts, and that table
stays as it is: processes of older versions read it when they start.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import psycopg
from psycopg import errors, sql

from webhook_grpc.store.connection import server_checks
from webhook_grpc.store.connection.opening import bounded, opened
from webhook_grpc.store.connection.placing import Place, refuse_to_come_before, schema_of
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.connection.session import Pooling, set_session_sync

from .migration_files import Migration, migration_names, program_version, read_migrations
from .migration_plan import PlannedStep, planned_steps
from .migration_steps import Connection, NameTaken, StepBlocked, run_step
from .versions import COUNT_OLDER_PROCESSES, COUNT_OTHER_SESSIONS, count_older_in

LOCK_KEY: Final = int.from_bytes(hashlib.sha256(b"webhook-grpc migrate").digest()[:8], "big", signed=True)
LOCK_SECONDS_MAX: Final = 3_600.0  # waiting for another migrator, which may be building indexes
_POLL_SECONDS_MAX: Final = 1.0
OLDER_SECONDS_MAX: Final = 600.0  # waiting for the last process of an older version, which drains
_OLDER_POLL_SECONDS: Final = 0.5

# Not `schema_migrations`: applications that share the database have a table of that name.
CREATE_MIGRATIONS_TABLE: Final = """
CREATE TABLE webhook_migrations (
    name text PRIMARY KEY,
    steps_done integer NOT NULL,
    step_count integer NOT NULL,
    works_with integer NOT NULL,  -- programs from this version on work while it is applied, and after
    applied_at timestamptz NOT NULL DEFAULT now()  -- the first step
)
"""
# On a table that was made for a new installation, until that is complete: nobody has used it, so nothing has to wait.
MARK: Final = "a new installation, not complete yet"
SET_MARK: Final = f"COMMENT ON TABLE webhook_migrations IS '{MARK}'"
CLEAR_MARK: Final = "COMMENT ON TABLE webhook_migrations IS NULL"
SELECT_HAS_MARK: Final = """
SELECT obj_description(to_regclass(format('%%I.webhook_migrations', %(schema)s::text)), 'pg_class') = %(mark)s
"""
# A migrator may die between the last step and the end of the mark. No process has been there while no shard was taken.
SELECT_IS_USED: Final = sql.SQL("SELECT EXISTS (SELECT FROM {}.shards WHERE epoch > 0)")
RECORD_STEPS: Final = """
INSERT INTO webhook_migrations (name, steps_done, step_count, works_with)
VALUES (%(name)s, %(steps_done)s, %(step_count)s, %(works_with)s)
ON CONFLICT (name) DO UPDATE SET steps_done = excluded.steps_done
"""
# With the schema: a start reads them in a session that has none of our settings.
SELECT_RECORDED: Final = sql.SQL("SELECT name, steps_done, step_count, works_with FROM {}.webhook_migrations")
SELECT_RECORDED_BY_YOYO: Final = sql.SQL(
    "SELECT migration_id FROM {}._yoyo_migration WHERE migration_id = ANY(%(names)s)"
)
SELECT_EXISTS: Final = """
SELECT to_regclass(name) IS NOT NULL OR to_regproc(name) IS NOT NULL
FROM (SELECT format('%%I.%%I', %(schema)s::text, %(name)s::text) AS name) n
"""
# Not pg_advisory_lock: a session that waits in it has a snapshot, for which CREATE INDEX CONCURRENTLY would wait.
# By the schema: who migrates another installation of the database may be building indexes for hours.
TRY_LOCK: Final = """
SELECT pg_try_advisory_lock(
    %(key)s::bigint # CASE %(schema)s::text WHEN 'public' THEN 0 ELSE hashtextextended(%(schema)s::text, 0) END
)
"""

# What the last statement of each of yoyo's files made. yoyo ran each file in a transaction and recorded it in another
# one: if a migrator died between the two, the file is applied but not recorded.
MADE_BY_YOYO: Final[Mapping[str, str]] = {
    "0001-initial.pre": "webhook_logs",
    "0002-webhook-health.pre": "webhook_health",
    "0003-history-and-redelivery.pre": "erasures",
    "0004-publish-event.pre": "publish_event",
}


class SchemaError(Exception):
    """The database's schema is not the one that this program needs, or could not be migrated to it."""


class _Applied:
    """What is applied in a schema: how many steps of each migration, also of migrations of newer programs."""

    def __init__(self, connection: Connection, schema: str) -> None:
        name_of_schema = sql.Identifier(schema)
        self.steps_done: dict[str, int] = {}
        self.complete: set[str] = set()
        self.works_with: dict[str, int] = {}
        self.has_table = _exists(connection, schema, "webhook_migrations")
        self.has_yoyo = _exists(connection, schema, "_yoyo_migration")
        if self.has_yoyo:
            names = list(MADE_BY_YOYO)
            recorded = connection.execute(SELECT_RECORDED_BY_YOYO.format(name_of_schema), {"names": names})
            self.complete.update(name for (name,) in recorded)
        if self.has_table:
            for name, steps_done, step_count, works_with in connection.execute(SELECT_RECORDED.format(name_of_schema)):
                self.steps_done[name] = steps_done
                self.works_with[name] = works_with
                if steps_done == step_count:
                    self.complete.add(name)
        self.is_new = self.is_empty or (self.has_table and _is_marked(connection, schema))

    @property
    def is_empty(self) -> bool:
        return not self.complete and not self.steps_done

    @property
    def newer(self) -> dict[str, int]:
        """Returns what newer programs have applied, and the oldest version that works with it."""
        known = migration_names()
        return {name: oldest for name, oldest in self.works_with.items() if name not in known}

    def refuse_newer(self) -> None:
        """Raises SchemaError if this program does not work with migrations that newer programs have applied."""
        version = program_version()
        newer = {name: oldest for name, oldest in self.newer.items() if oldest > version}
        if newer:
            raise SchemaError(
                f"the database's schema is too new (it has {', '.join(sorted(newer))}): it works with programs that "
                f"know migration {max(newer.values()):04d}, and this one knows those up to {version:04d}; run a newer "
                "version of webhook-grpc"
            )

    def missing(self, migrations: Iterable[Migration]) -> list[Migration]:
        """Returns those that are not applied, or not to the end."""
        return [migration for migration in migrations if migration.name not in self.complete]


def migrate(
    conninfo: str,
    *,
    schema: str | None = None,
    before_deployment: bool = False,
    after_deployment: bool = False,
    is_alone: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Applies the missing migrations; returns their names. May run in several places at once, beside live traffic.

    `schema` is where our tables are, or are to be; None: as `placing` says. It is made if it is not there.
    Those that must wait until no process of an older version runs (`.post`) are left out while one does.
    `before_deployment` leaves them out in any case, but for a new database. `after_deployment` waits for the end of
    such processes. `is_alone`: without a session of another process nobody lives, whatever leases say; so it is with an
    embedded database that no other process has started. `say` gets what is left out or waited for, and which
    search_path is not followed.

    Raises BadConninfo, DatabaseUnreachable, UnsuitableServer, and SchemaError if the schema is newer than this program
    works with, could not be changed, or processes of an older version did not end.
    """
    with _connected(conninfo, "migrate") as connection:
        _refuse_shared_session(
            connection,
            conninfo,
            "migrate needs a session of its own: run it with a WEBHOOK_DATABASE_URL that leads to Postgres itself",
        )
        with bounded(connection):
            _check_server(connection)
            schema = schema_of(connection, schema, say)
        set_session_sync(connection, schema, None)
        _read_applied(connection, schema).refuse_newer()
        _lock(connection, schema)
        applied = _read_applied(connection, schema)
        missing = applied.missing(_wanted(applied, before_deployment=before_deployment))
        if missing and not applied.has_table:
            make = partial(_make_table, connection, schema, is_new=applied.is_new)
            if applied.is_new:
                refuse_to_come_before(connection, schema, make)
            make()
        older = _OlderProcesses(connection, waits=after_deployment, is_alone=is_alone, say=say)
        names = [m.name for m in missing if older.let_pass(m) and _apply(connection, schema, m, applied)]
        if applied.is_new:
            with _explained("clearing the mark of webhook_migrations"):
                connection.execute(CLEAR_MARK)
        return names


def plan(conninfo: str, *, schema: str | None = None, before_deployment: bool = False) -> list[PlannedStep]:
    """Returns what `migrate` would run, in order. Changes nothing, and waits for no lock and no other migrator.

    Raises as `migrate`.
    """
    with _connected(conninfo, "plan") as connection, bounded(connection):
        server_checks.check_encoding(connection)
        schema = schema_of(connection, schema)
        applied = _read_applied(connection, schema)
        applied.refuse_newer()
        missing = applied.missing(_wanted(applied, before_deployment=before_deployment))
        left = [migration for migration in missing if not _is_applied_by_yoyo(connection, schema, migration, applied)]
        has_workers = _exists(connection, schema, "workers")
        older = {m.name: count_older_in(connection, schema, m.works_with) for m in left if m.is_post and has_workers}
        return planned_steps(connection, schema, left, applied.steps_done, older)


def check_schema(conninfo: str, pooling: Pooling = Pooling.NONE, schema: str | None = None) -> Place:
    """Returns where our tables are. Raises as `migrate` unless this program can work there.

    Sets nothing. Refuses a pooler in transaction mode unless the settings declare it.
    """
    with _connected(conninfo, "start") as connection:
        if pooling is not Pooling.TRANSACTION:
            remedy = "set WEBHOOK_DATABASE_POOLER=transaction, or give the address of Postgres itself"
            _refuse_shared_session(connection, conninfo, remedy)
        with bounded(connection):
            _check_server(connection)
            schema = schema_of(connection, schema)
            server_checks.check_usable(connection, schema)
            applied = _read_applied(connection, schema)
            applied.refuse_newer()
            if applied.is_empty:
                raise SchemaError(
                    "the database has no schema yet; run `webhook-grpc migrate` (or `make migrate`) first, or say with "
                    f"WEBHOOK_DATABASE_SCHEMA where our tables are: not in {schema}"
                )
            missing = applied.missing(read_migrations())
            if needed := [migration.name for migration in missing if not migration.is_post]:
                raise SchemaError(
                    f"the database's schema is too old (it lacks {', '.join(needed)}); run `webhook-grpc migrate` first"
                )
            server_checks.check_may_keep_partitions(connection, schema)
            server_checks.check_functions_look_here(connection, schema)
            return Place(conninfo, schema, pooling, tuple(m.name for m in missing), tuple(sorted(applied.newer)))


def _make_table(connection: Connection, schema: str, *, is_new: bool) -> None:
    """Makes the table of what is applied, and its schema if that is not there. Raises UnsuitableServer, SchemaError."""
    server_checks.ensure_may_create(connection, schema)
    with _explained("making the table webhook_migrations"):
        connection.execute(";".join((CREATE_MIGRATIONS_TABLE, SET_MARK if is_new else "")))


@contextmanager
def _connected(conninfo: str, name: str) -> Generator[Connection]:
    with opened(conninfo, name) as connection, _explained("looking at the server"):
        server_checks.check_version(connection.info.server_version)
        yield connection


def _check_server(connection: Connection) -> None:
    server_checks.check_encoding(connection)
    server_checks.check_writable(connection)


def _read_applied(connection: Connection, schema: str) -> _Applied:
    with _explained("reading webhook_migrations and _yoyo_migration"):
        return _Applied(connection, schema)


def _refuse_shared_session(connection: Connection, conninfo: str, remedy: str) -> None:
    """Raises UnsuitableServer if other clients share our session: they would have our lock and our settings."""
    if not server_checks.is_behind_pooler(connection):
        return
    with _connected(conninfo, "start") as second:
        if server_checks.is_session_shared(connection, second):
            raise UnsuitableServer(f"WEBHOOK_DATABASE_URL leads to a pooler in transaction mode; {remedy}")


def _lock(connection: Connection, schema: str) -> None:
    deadline, pause_seconds = time.monotonic() + LOCK_SECONDS_MAX, 0.01
    while time.monotonic() < deadline:
        [(is_ours,)] = connection.execute(TRY_LOCK, {"key": LOCK_KEY, "schema": schema}).fetchall()
        if is_ours:
            return
        time.sleep(pause_seconds * random.uniform(0.5, 1.0))  # the lock has no signal to wait for
        pause_seconds = min(2 * pause_seconds, _POLL_SECONDS_MAX)
    raise SchemaError(f"another `webhook-grpc migrate` has been at work for {LOCK_SECONDS_MAX:.0f} s; try again later")


def _wanted(applied: _Applied, *, before_deployment: bool) -> list[Migration]:
    is_for_later = before_deployment and not applied.is_new  # nobody uses a new database yet
    return [migration for migration in read_migrations() if not (is_for_later and migration.is_post)]


class _OlderProcesses:
    """Holds up `.post` migrations while processes run that do not work with them."""

    def __init__(self, connection: Connection, *, waits: bool, is_alone: bool, say: Callable[[str], None]) -> None:
        self._connection = connection
        self._waits = waits
        self._is_alone = is_alone
        self._say = say

    def let_pass(self, migration: Migration) -> bool:
        """Returns whether a migration may be applied now. Waits for that, if it is to; raises SchemaError."""
        if not migration.is_post or not (count := self._count(migration)):
            return True
        running = f"processes of an older version that run: {count}"
        if not self._waits:
            self._say(f"{migration.name} is left out ({running}); run `webhook-grpc migrate` when they have ended")
            return False
        self._say(f"{migration.name} waits for the end of {running}")
        until = time.monotonic() + OLDER_SECONDS_MAX
        while self._count(migration):
            if time.monotonic() > until:
                raise SchemaError(
                    f"{migration.name} waited for {OLDER_SECONDS_MAX:.0f} s for the end of {running}; end them, and "
                    "run `webhook-grpc migrate` again"
                )
            time.sleep(_OLDER_POLL_SECONDS)  # their end has no signal to wait for
        return True

    def _count(self, migration: Migration) -> int:
        with _explained("looking for processes of an older version"):
            if self._is_alone and self._connection.execute(COUNT_OTHER_SESSIONS).fetchall() == [(0,)]:
                return 0
            parameters = {"version": migration.works_with}
            [(count,)] = self._connection.execute(COUNT_OLDER_PROCESSES, parameters).fetchall()
            return int(count)


def _is_applied_by_yoyo(connection: Connection, schema: str, migration: Migration, applied: _Applied) -> bool:
    """Returns whether yoyo applied a migration without recording it."""
    made = MADE_BY_YOYO.get(migration.name)
    is_untouched = applied.has_yoyo and not applied.steps_done.get(migration.name, 0)
    return is_untouched and made is not None and _exists(connection, schema, made)


def _apply(connection: Connection, schema: str, migration: Migration, applied: _Applied) -> bool:
    """Applies the steps that are left, in order. Returns False if yoyo applied them without recording it."""
    steps_done = applied.steps_done.get(migration.name, 0)
    count = len(migration.steps)
    if _is_applied_by_yoyo(connection, schema, migration, applied):
        _record(connection, migration, count)
        return False
    for number, step in enumerate(migration.steps[steps_done:], start=steps_done + 1):
        with _explained(f"step {number} of {count} of {migration.name}"):
            run_step(connection, step, lambda number=number: _record(connection, migration, number))
    return True


def _record(connection: Connection, migration: Migration, steps_done: int) -> None:
    row = {
        "name": migration.name,
        "steps_done": steps_done,
        "step_count": len(migration.steps),
        "works_with": migration.works_with,
    }
    connection.execute(RECORD_STEPS, row)


def _is_marked(connection: Connection, schema: str) -> bool:
    """Returns whether a new installation was begun there, not completed, and not used."""
    [(has_mark,)] = connection.execute(SELECT_HAS_MARK, {"schema": schema, "mark": MARK}).fetchall()
    if not has_mark:
        return False
    if not _exists(connection, schema, "shards"):
        return True
    [(is_used,)] = connection.execute(SELECT_IS_USED.format(sql.Identifier(schema))).fetchall()
    return not is_used


def _exists(connection: Connection, schema: str, name: str) -> bool:
    [(exists,)] = connection.execute(SELECT_EXISTS, {"schema": schema, "name": name}).fetchall()
    return bool(exists)


@contextmanager
def _explained(doing: str) -> Generator[None]:
    """Turns errors that a person can fix into one sentence. The next `migrate` goes on where this one stopped."""
    try:
        yield
    except NameTaken as error:
        raise SchemaError(
            f"{doing}: `{error}` exists already: something of that name is not ours; {_OWN_SCHEMA}"
        ) from None
    except StepBlocked:
        raise SchemaError(
            f"{doing}: other transactions hold its table and never let it go; end what has been open for long "
            "(pg_stat_activity, pg_prepared_xacts), and run `webhook-grpc migrate` again, which goes on there"
        ) from None
    except psycopg.Error as error:
        raise SchemaError(f"{doing} failed: {_sentence(error)}") from error


_OWN_SCHEMA: Final = "give webhook-grpc a database or a schema (WEBHOOK_DATABASE_SCHEMA) of its own"


def _sentence(error: psycopg.Error) -> str:
    said = (error.diag.message_primary or str(error)).splitlines()[0]
    if isinstance(
        error, (errors.DuplicateTable, errors.DuplicateObject, errors.DuplicateFunction, errors.UndefinedColumn)
    ):
        return f"{said}: something of that name is not ours; {_OWN_SCHEMA}"
    if isinstance(error, errors.InsufficientPrivilege):
        return f"{said}; run it as the role that owns the schema and its tables"
    if error.sqlstate is None or error.sqlstate.startswith("57P"):
        return f"the connection to the database was lost ({said}); run `webhook-grpc migrate` again"
    return f"{said} (SQLSTATE {error.sqlstate})"
