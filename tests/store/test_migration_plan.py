"""What `migrate --plan` says is what `migrate` then does, and what it says of locks is what Postgres takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from typing import Any, Final, LiteralString

import orjson
import psycopg
import pytest
from click.testing import CliRunner

from tests.support import slowness
from tests.support.full import IS_FULL
from tests.support.postgres import TestPostgres, query
from tests.support.schema import add_partition
from webhook_grpc.cli import main
from webhook_grpc.store.schema import migrate as migrate_module
from webhook_grpc.store.schema import migration_files
from webhook_grpc.store.schema.migrate import SchemaError, migrate, plan
from webhook_grpc.store.schema.migration_effects import Lock, effects_of
from webhook_grpc.store.schema.migration_files import POST, MigrationStep, StepKind, migration_names, read_migrations
from webhook_grpc.store.schema.migration_plan import Size
from webhook_grpc.store.schema.migration_steps import run_step

TABLES: LiteralString = """
SELECT oid, relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v')
"""
LOCKS: LiteralString = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = ANY(%s)"
RELATIONS: LiteralString = "SELECT attrelid::regclass::text, attname, attnum FROM pg_attribute ORDER BY 1, 3"
RECORDED: LiteralString = "SELECT name, steps_done, step_count FROM webhook_migrations ORDER BY name"
FILL: LiteralString = """
INSERT INTO idempotency_keys SELECT 7, 'past-' || n, gen_random_uuid(), n, now() FROM generate_series(1, 5000) n
"""
FILL_MUCH: LiteralString = """
INSERT INTO idempotency_keys SELECT 7, 'past-' || n, gen_random_uuid(), n, now() FROM generate_series(1, 1000000) n
"""
TIMES_OFF_MAX: Final = 10  # "about"
LIVE: LiteralString = "INSERT INTO workers VALUES (gen_random_uuid(), now() + interval '50 s', false)"
ALTERED = "ALTER TABLE event_types ADD COLUMN json_schema text, ADD CO…"
# Weaker than any that a migration has to name: reading, and what comes with SELECT … FOR UPDATE.
WEAK: Final = ("AccessShareLock", "RowShareLock")


@pytest.fixture
def url(postgres: TestPostgres, worker_id: str) -> Generator[str]:
    """An empty database."""
    name = f"webhook_test_plan_{worker_id}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


def migrate_to(url: str, count: int) -> None:
    """Migrates as the version does that has so many migrations."""
    names = migration_names()[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migration_files, "migration_names", lambda: names)
        assert migrate(url) == names


@pytest.mark.slow(2)
def test_each_step_locks_what_the_plan_says_of_it(url: str) -> None:
    looked_at = 0
    with psycopg.connect(url, autocommit=True) as connection:
        for migration in read_migrations():
            for step in migration.steps:
                if step.kind is StepKind.INDEX:
                    run_step(connection, step, lambda: None)
                    continue
                before = dict(connection.execute(TABLES).fetchall())
                with connection.transaction():
                    connection.execute(step.sql)
                    found = connection.execute(LOCKS, [list(before)]).fetchall()
                taken = {(before[oid], _spelled(mode)) for oid, mode in found if mode not in WEAK}
                said = {(effect.table, effect.lock) for effect in effects_of(step) if effect.lock is not Lock.NONE}
                assert taken == said, (migration.name, step.sql)
                looked_at += bool(said)
    assert looked_at > 10


def _spelled(mode: str) -> str:
    return {
        "RowExclusiveLock": Lock.ROW_EXCLUSIVE,
        "ShareUpdateExclusiveLock": Lock.SHARE_UPDATE_EXCLUSIVE,
        "ShareLock": Lock.SHARE,
        "ShareRowExclusiveLock": Lock.SHARE_ROW_EXCLUSIVE,
        "AccessExclusiveLock": Lock.ACCESS_EXCLUSIVE,
    }[mode]


def test_the_plan_for_an_earlier_version_is_what_is_left_and_changes_nothing(url: str) -> None:
    migrate_to(url, 2)
    query(url, FILL)
    query(url, "ANALYZE idempotency_keys")
    for table in ("events", "attempts"):
        add_partition(url, table, 1)
    before, recorded = query(url, RELATIONS), query(url, RECORDED)

    steps = plan(url)

    assert (query(url, RELATIONS), query(url, RECORDED)) == (before, recorded)
    [index] = [step for step in steps if "idempotency_keys_by_time" in step.statement]
    assert index.statement == "CREATE INDEX CONCURRENTLY idempotency_keys_by_time"
    assert (index.lock, index.waiting) == (Lock.SHARE_UPDATE_EXCLUSIVE, "nobody waits")
    assert index.size == Size(rows=5000, partitions=0)
    assert index.seconds == pytest.approx(5000 / 150_000)
    [added] = [step for step in steps if step.statement == "ALTER TABLE events ADD COLUMN traceparent text"]
    assert (added.lock, added.seconds, added.waiting) == (Lock.ACCESS_EXCLUSIVE, None, "reads and writes wait")
    assert added.size is not None
    assert added.size.partitions == 1
    [new] = [step for step in steps if step.statement == "ANALYZE meta"]
    assert new.size is not None
    applied = migrate(url)
    assert applied == migration_names()[2:] == list(dict.fromkeys(step.migration for step in steps))
    assert [(name, count) for name, _, count in query(url, RECORDED)[2:]] == list(
        dict.fromkeys((step.migration, step.step_count) for step in steps)
    )
    assert plan(url) == []


@pytest.mark.slow(30)
@pytest.mark.timeout(300)
@pytest.mark.skipif(not IS_FULL, reason="fills a table with a million rows: make test-long")
def test_the_time_that_the_plan_names_is_of_the_order_of_that_which_it_takes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate_to(url, 2)
    query(url, FILL_MUCH)
    query(url, "ANALYZE idempotency_keys")
    planned = {step.statement: step.seconds for step in plan(url) if step.table == "idempotency_keys" and step.seconds}
    assert "CREATE INDEX CONCURRENTLY idempotency_keys_by_time" in planned
    took = dict[str, float]()

    def timed(connection: Any, step: MigrationStep, record: Callable[[], None]) -> None:
        began = time.monotonic()
        run_step(connection, step, record)
        took[effects_of(step)[0].statement] = time.monotonic() - began

    monkeypatch.setattr(migrate_module, "run_step", timed)
    migrate(url)
    for statement, seconds in planned.items():
        said = f"{statement}: planned {seconds:.1f} s, took {took[statement]:.1f} s"
        assert seconds / TIMES_OFF_MAX < took[statement] < slowness.scaled(seconds * TIMES_OFF_MAX), said


def test_the_plan_goes_on_where_a_migrator_stopped(url: str) -> None:
    migrate_to(url, 2)
    query(url, "INSERT INTO webhook_migrations VALUES (%s, 5, 19, 2)", [migration_names()[2]])
    assert plan(url)[0].step == 6


def test_the_command_shows_the_plan_to_people_and_to_programs(url: str) -> None:
    migrate_to(url, 2)
    query(url, FILL)
    environment = {"WEBHOOK_DATABASE_URL": url}
    shown = CliRunner().invoke(main, ["migrate", "--plan"], env=environment).stdout.splitlines()
    assert shown[0] == migration_names()[2]
    locks = r"ACCESS EXCLUSIVE on event_types \(about \d+ rows\), reads and writes wait; instant"
    assert re.fullmatch(f"  1/19  {ALTERED}: {locks}", shown[1])
    assert shown[-1] == "in the schema webhook_grpc; nothing was changed; `webhook-grpc migrate` runs this"
    lines = CliRunner().invoke(main, ["migrate", "--plan", "-o", "json"], env=environment).stdout.splitlines()
    assert len(lines) == len(plan(url))
    first = orjson.loads(lines[0])
    assert first == {
        "schema": "webhook_grpc",
        "migration": migration_names()[2], "step": 1, "step_count": 19, "statement": ALTERED, "table": "event_types",
        "lock": "ACCESS EXCLUSIVE", "waiting": "reads and writes wait", "rows": first["rows"], "partitions": 0,
        "seconds": None, "older_processes": 0,
    }  # fmt: skip
    migrate(url)
    assert CliRunner().invoke(main, ["migrate", "--plan"], env=environment).stdout == "nothing to do\n"
    assert CliRunner().invoke(main, ["migrate", "--plan", "-o", "json"], env=environment).stdout == ""


@pytest.mark.parametrize("count", [len(migration_names()) - 1, 2], ids=["only the last is left", "no version yet"])
def test_the_plan_says_what_waits_for_the_end_of_processes_that_run(url: str, count: int) -> None:
    [last] = [name for name in migration_names() if name.endswith(POST)]
    migrate_to(url, count)
    query(url, LIVE)
    run = CliRunner().invoke(main, ["migrate", "--plan"], env={"WEBHOOK_DATABASE_URL": url})
    assert f"{last}: left out until processes of an older version have ended (1 run now)" in run.stdout.splitlines()
    assert {step.migration: step.older_count for step in plan(url)} == dict.fromkeys(migration_names()[count:], 0) | {
        last: 1
    }
    query(url, "UPDATE workers SET lease_until = now() - interval '1 s'")
    assert {step.older_count for step in plan(url)} == {0}


def test_the_plan_for_a_new_database_locks_nothing(url: str) -> None:
    assert {(step.lock, step.seconds) for step in plan(url)} == {(Lock.NONE, None)}


def test_a_schema_that_is_too_new_has_no_plan(url: str) -> None:
    migrate(url)
    query(url, "INSERT INTO webhook_migrations VALUES ('9999-later.pre', 1, 1, 9999)")
    with pytest.raises(SchemaError, match="too new"):
        plan(url)
