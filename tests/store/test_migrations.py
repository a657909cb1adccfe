"""Migrations: repeatable, concurrent, and honest about a schema that does not fit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.postgres import TestPostgres, query
from webhook_grpc.store.migrate import (
    MIGRATIONS,
    DatabaseUnreachable,
    SchemaError,
    check_schema,
    migrate,
    migration_names,
)


@pytest.fixture
def fresh_url(postgres: TestPostgres, worker_id: str) -> Generator[str]:
    """An empty database."""
    name = f"webhook_test_fresh_{worker_id}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


def test_migrating_makes_the_schema_and_again_changes_nothing(fresh_url: str) -> None:
    assert migrate(fresh_url) == migration_names()
    check_schema(fresh_url)
    assert migrate(fresh_url) == []


async def test_two_migrators_at_once_apply_each_migration_once(fresh_url: str) -> None:
    applied = await asyncio.gather(*(asyncio.to_thread(migrate, fresh_url) for _ in range(2)))
    assert sorted(name for names in applied for name in names) == migration_names()
    check_schema(fresh_url)


def test_a_killed_migrator_leaves_no_lock_behind(fresh_url: str) -> None:
    """yoyo's own lock is a row, which would stay; ours goes with the connection."""
    migrate(fresh_url)
    assert query(fresh_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert query(fresh_url, "SELECT count(*) FROM yoyo_lock") == [(0,)]


def test_a_schema_that_is_too_old_says_what_to_run(fresh_url: str) -> None:
    with pytest.raises(SchemaError, match=r"no schema yet.*webhook-grpc migrate"):
        check_schema(fresh_url)
    migrate(fresh_url)
    query(fresh_url, "INSERT INTO _yoyo_migration SELECT 'x', '9999-later.pre', now()")
    with pytest.raises(SchemaError, match=r"too new"):
        check_schema(fresh_url)


def test_what_waits_for_the_old_version_to_go_is_not_needed_to_start(
    fresh_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    (folder / "0098-later.pre.sql").write_text("CREATE TABLE later_1 ();")
    (folder / "0099-later.post.sql").write_text("DROP TABLE later_1;")
    migrate(fresh_url)
    monkeypatch.setattr("webhook_grpc.store.migrate.MIGRATIONS", folder)
    with pytest.raises(SchemaError, match=r"too old \(it lacks 0098-later.pre\)"):
        check_schema(fresh_url)
    assert migrate(fresh_url, before_deployment=True) == ["0098-later.pre"]
    check_schema(fresh_url)
    assert migrate(fresh_url) == ["0099-later.post"]
    check_schema(fresh_url)


def test_a_schema_that_is_too_new_is_neither_used_nor_changed(fresh_url: str) -> None:
    migrate(fresh_url)
    query(
        fresh_url,
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('x', '9999-later', now())",
    )
    for function in (check_schema, migrate):
        with pytest.raises(SchemaError, match=r"too new.*9999-later"):
            function(fresh_url)


def test_an_unreachable_database_is_one_sentence_without_the_password() -> None:
    with pytest.raises(DatabaseUnreachable) as caught:
        check_schema("postgresql://user:hunter2@127.0.0.1:1/db")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schema_works_in_a_schema_of_its_own(fresh_url: str) -> None:
    """Names are relative to search_path, so that one database can hold many cells."""
    query(fresh_url, "CREATE SCHEMA cell_1")
    url = make_conninfo(fresh_url, options="-c search_path=cell_1")
    migrate(url)
    check_schema(url)
    assert query(fresh_url, "SELECT count(*) FROM cell_1.shards") == [(64,)]
    assert query(fresh_url, "SELECT to_regclass('public.shards')") == [(None,)]


def test_the_seven_event_types_exist_from_the_start(postgres: TestPostgres) -> None:
    assert sorted(name for (name,) in postgres.rows("SELECT event_type FROM event_types")) == [
        "alert.triggered",
        "environment.created",
        "environment.started",
        "environment.stopped",
        "job.completed",
        "job.failed",
        "quota.exceeded",
    ]


def test_the_shard_column_and_the_domain_agree(postgres: TestPostgres) -> None:
    from webhook_grpc.domain.ids import shard_of

    for number in (1, 63, 64, 65, 2**62):
        assert postgres.rows("SELECT (%s::bigint %% 64)::smallint", [number]) == [(shard_of(number),)]
