"""A migrator may die at any statement: the next one completes what it left, and nobody can see the difference."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus

from tests.support.postgres import TestPostgres, query
from tests.support.schema import INVALID, add_partition, described
from webhook_grpc.store.schema import migration_files, migration_steps
from webhook_grpc.store.schema.migrate import TRY_LOCK, SchemaError, check_schema, migrate
from webhook_grpc.store.schema.migration_files import migration_names

Connection = psycopg.Connection[Any]
Before = Callable[[Connection, str, str], None]

PROGRESS: LiteralString = "SELECT coalesce(sum(steps_done), 0) FROM webhook_migrations"
FILL: LiteralString = """
INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events)
SELECT n, 'name', 'https://example.com', 'x', 'hint', false, '{*}' FROM generate_series(1, 100) n
"""
# Waits for us in CREATE INDEX CONCURRENTLY.
WAITING: LiteralString = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONCURRENTLY%'
"""


class Killed(BaseException):
    """Not an Exception: nothing may handle it, as nothing handles kill -9."""


@pytest.fixture
def urls(postgres: TestPostgres, worker_id: str) -> Generator[tuple[str, str]]:
    """Two databases of the first version, with rows and partitions."""
    names = [f"webhook_test_crash_{number}_{worker_id}" for number in (1, 2)]
    first, second = (postgres.create_database(name) for name in names)
    for url in (first, second):
        _migrate_to(url, 1)
        _fill(url)
    yield first, second
    for name in names:
        postgres.drop_database(name)


@pytest.fixture
def before_statements(monkeypatch: pytest.MonkeyPatch) -> Callable[[Before], None]:
    """Has a function called before each statement of a migrator."""
    execute = psycopg.Connection.execute

    def install(before: Before) -> None:
        def executed(connection: Connection, statement: Any, *arguments: Any, **options: Any) -> Any:
            if connection.info.parameter_status("application_name") == "webhook-grpc migrate":
                before(
                    connection, statement if isinstance(statement, str) else statement.as_string(None), str(arguments)
                )
            return execute(connection, statement, *arguments, **options)  # pyright: ignore - as it was called

        monkeypatch.setattr(psycopg.Connection, "execute", executed)

    return install


def _fill(url: str) -> None:
    query(url, FILL)
    for table in ("events", "attempts"):
        for day in (1, 2):
            add_partition(url, table, day)


def _drop(url: str, table: str, day: int) -> None:
    query(url, sql.SQL("DROP TABLE {}").format(sql.Identifier(f"{table}_202601{day:02}")))


def _migrate_to(url: str, count: int) -> None:
    names = migration_names()[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration_files, "migration_names", lambda: names)
        assert migrate(url)


@pytest.mark.slow(3)
def test_a_migrator_may_be_killed_at_every_statement(
    urls: tuple[str, str], postgres: TestPostgres, worker_id: str, before_statements: Callable[[Before], None]
) -> None:
    """Each statement, at each state of the database, is once the one that a migrator did not come to."""
    undisturbed, _ = urls
    migrate(undisturbed)
    url = postgres.create_database(f"webhook_test_crash_2_{worker_id}")
    killed = set[tuple[int, TransactionStatus, str, str]]()
    is_locked = False
    with psycopg.connect(url, autocommit=True) as other:

        def kill(connection: Connection, statement: str, parameters: str) -> None:
            nonlocal is_locked
            progress = _progress(other) if is_locked else -1  # what comes before the lock is the same at each state
            status = connection.info.transaction_status  # some are tried in a transaction that is rolled back
            if (at := (progress, status, statement, parameters)) not in killed:
                killed.add(at)
                connection.pgconn.finish()  # the server sees what it sees of a process that was killed
                raise Killed
            is_locked = is_locked or statement == TRY_LOCK

        before_statements(kill)
        is_filled = False
        while True:
            is_locked = False
            try:
                migrate(url)
            except Killed:
                if not is_filled and _progress(other) == 1:
                    is_filled = True
                    _fill(url)
                continue
            break
    assert len(killed) > 3 * sum(len(migration.steps) for migration in migration_files.read_migrations())
    check_schema(url)
    assert described(url) == described(undisturbed)
    assert query(url, INVALID) == []


def _progress(connection: Connection) -> int:
    [(exists,)] = connection.execute("SELECT to_regclass('webhook_migrations') IS NOT NULL").fetchall()
    return connection.execute(PROGRESS).fetchall()[0][0] if exists else 0


@pytest.mark.parametrize("table", ["idempotency_keys", "events_20260101", "attempts_20260102"])
def test_an_index_that_a_broken_migrator_left_invalid_is_built_again(
    urls: tuple[str, str], table: str, before_statements: Callable[[Before], None]
) -> None:
    undisturbed, url = urls
    migrate(undisturbed)
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as other:

        def block(_: Connection, statement: str, __: str) -> None:
            is_first = not holder.closed and holder.info.transaction_status is TransactionStatus.IDLE
            if is_first and statement.startswith("CREATE INDEX CONCURRENTLY") and f'ON "{table}"' in statement:
                holder.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(sql.Identifier(table)))
                threading.Thread(target=break_off, daemon=True).start()

        def break_off() -> None:
            while not (waiting := other.execute(WAITING).fetchall()):
                pass
            other.execute("SELECT pg_terminate_backend(%s)", waiting[0])

        before_statements(block)
        with pytest.raises(SchemaError, match="run `webhook-grpc migrate` again"):
            migrate(url)
        assert query(url, INVALID)
        holder.rollback()
        holder.close()
        migrate(url)
    check_schema(url)
    assert query(url, INVALID) == []
    assert described(url) == described(undisturbed)


@pytest.mark.slow
def test_kill_9_while_an_index_is_built(urls: tuple[str, str]) -> None:
    """The server goes on without the migrator, with its lock; the next one waits for it."""
    undisturbed, url = urls
    migrate(undisturbed)
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as other:
        holder.execute("LOCK TABLE idempotency_keys IN ROW EXCLUSIVE MODE")
        script = "import sys; from webhook_grpc.store.schema.migrate import migrate; migrate(sys.argv[1])"
        process = subprocess.Popen([sys.executable, "-c", script, url])
        while not other.execute(WAITING).fetchall():
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    migrate(url)
    check_schema(url)
    assert described(url) == described(undisturbed)


def test_partitions_that_come_and_go_while_an_index_is_built_are_right_too(
    urls: tuple[str, str], before_statements: Callable[[Before], None]
) -> None:
    _, url = urls
    # All that lack the index go, and one comes that has it: then nothing is left that Postgres would look at.
    todo = {
        'ON "events_20260101"': lambda: (
            _drop(url, "events", 1),
            add_partition(url, "events", 3),
            _drop(url, "events", 2),
        ),
        'ON "attempts_20260101"': lambda: (_drop(url, "attempts", 1), add_partition(url, "attempts", 3)),
    }

    def meddle(_: Connection, statement: str, __: str) -> None:
        for place in [place for place in todo if place in statement and "CONCURRENTLY" in statement]:
            todo.pop(place)()

    before_statements(meddle)
    migrate(url)
    assert not todo
    check_schema(url)
    assert query(url, INVALID) == []
    for table, count in (("events", 2), ("attempts", 5)):
        partitions: LiteralString = """
        SELECT count(i.indexrelid) FROM pg_inherits p LEFT JOIN pg_index i ON i.indrelid = p.inhrelid
        WHERE p.inhparent = to_regclass(%(table)s) GROUP BY p.inhrelid
        """
        found = query(url, partitions, {"table": table})
        assert found == [(count,)] * len(found), table
        assert found


def test_a_table_that_is_in_use_is_waited_for_in_short_turns(
    urls: tuple[str, str], before_statements: Callable[[Before], None]
) -> None:
    """Who wants the table meanwhile gets it, although a migrator has queued for it before them."""
    _, url = urls
    with psycopg.connect(url) as holder:
        holder.execute("SELECT 1 FROM webhooks")  # and goes on holding a lock that ALTER TABLE can't have
        passed, waits = list[int](), set[tuple[str]]()
        tries = 0

        def note(connection: Connection, statement: str, _: str) -> None:
            nonlocal tries
            if "ALTER TABLE" in statement:
                waits.update(connection.execute("SHOW lock_timeout").fetchall())
            tries += "ALTER TABLE webhooks ADD COLUMN rate_limit" in statement
            if tries == 4:
                holder.rollback()

        def read() -> None:
            while tries < 4:
                passed.extend(n for (n,) in query(url, "SELECT count(*) FROM webhooks"))

        before_statements(note)
        reader = threading.Thread(target=read)
        reader.start()
        migrate(url)
        reader.join()
    check_schema(url)
    assert tries == 4
    assert passed
    assert waits == {("200ms",)}  # as long as anybody waits behind it


def test_a_table_that_is_never_let_go_is_one_sentence_and_costs_nothing(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = urls
    monkeypatch.setattr(migration_steps, "STEP_SECONDS_MAX", 0.3)
    with psycopg.connect(url) as holder:
        holder.execute("SELECT 1 FROM webhooks")
        with pytest.raises(SchemaError, match=r"step 1 of 4 of 0002.*end what has been open for long") as caught:
            migrate(url)
        assert "\n" not in str(caught.value)
    assert migrate(url) == migration_names()[1:]
