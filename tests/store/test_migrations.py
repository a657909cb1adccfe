"""Migrations: repeatable, concurrent, and honest about a schema that does not fit."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import pwd
import shutil
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, LiteralString

import pytest
from psycopg.conninfo import make_conninfo

from tests.support import slowness
from tests.support.earlier import WITH_0004, checkout
from tests.support.postgres import TestPostgres, connected, query
from tests.support.schema import described
from webhook_grpc.store.connection.opening import DatabaseUnreachable
from webhook_grpc.store.schema import migration_files
from webhook_grpc.store.schema.migrate import SET_MARK, SchemaError, check_schema, migrate, plan
from webhook_grpc.store.schema.migration_files import migration_names
from webhook_grpc.store.schema.migration_steps import run_step
from webhook_grpc.store.schema.versions import COUNT_OTHER_SESSIONS

# Migrates the databases given with abb2400, and dies where a file is in the database and not yet recorded: of the first
# database the first file, of the second database the second, and so on.
DYING_YOYO = """
import os, socket, sys
from webhook_grpc.store.migrate import migrate
for last, url in enumerate(sys.argv[1:], start=1):
    if (pid := os.fork()) == 0:
        names = iter(["host"] * (last - 1))
        socket.getfqdn = lambda: next(names, None) or os._exit(9)
        migrate(url)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
"""


@pytest.fixture
def fresh_url(postgres: TestPostgres, worker_id: str) -> Generator[str]:
    """An empty database."""
    name = f"webhook_test_fresh_{worker_id}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the program one that has other files besides its own."""
    path = tmp_path / "migrations"
    shutil.copytree(migration_files.FOLDER, path)

    def with_files(**files: str) -> None:
        for name, text in files.items():
            (path / f"{name[1:].replace('_', '-', 1).replace('_', '.')}.sql").write_text(text)
        monkeypatch.setattr(migration_files, "FOLDER", path)

    return with_files


def test_migrating_makes_the_schema_and_again_changes_nothing(fresh_url: str) -> None:
    assert migrate(fresh_url) == migration_names()
    check_schema(fresh_url)
    assert migrate(fresh_url) == []
    declared = "SELECT name, works_with FROM webhook_migrations ORDER BY name"  # where older programs read it
    assert query(fresh_url, declared) == [(one.name, one.works_with) for one in migration_files.read_migrations()]


async def test_two_migrators_at_once_apply_each_migration_once(fresh_url: str) -> None:
    applied = await asyncio.gather(*(asyncio.to_thread(migrate, fresh_url) for _ in range(2)))
    assert sorted(name for names in applied for name in names) == migration_names()
    check_schema(fresh_url)


ADVISORY_LOCKS: LiteralString = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""


def test_no_lock_is_left_behind(fresh_url: str) -> None:
    migrate(fresh_url)
    ends_at = time.monotonic() + slowness.scaled(10)
    while query(fresh_url, ADVISORY_LOCKS) != [(0,)]:  # the server ends a session a moment after its client has
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_neither_the_names_of_user_and_host_nor_a_name_server_are_needed(
    fresh_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container with a free user id has no entry in passwd; a name server that is away costs seconds."""

    def asked(*_: object) -> Any:
        raise AssertionError("asked for a name")

    for module, name in ((getpass, "getuser"), (pwd, "getpwuid"), (socket, "getfqdn"), (socket, "gethostname")):
        monkeypatch.setattr(module, name, asked)
    for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.delenv(name, raising=False)
    assert migrate(fresh_url) == migration_names()


@pytest.mark.slow
def test_what_yoyo_has_recorded_counts_and_its_table_stays(fresh_url: str) -> None:
    with checkout(WITH_0004) as earlier:
        earlier.run("import sys; from webhook_grpc.store.migrate import migrate; migrate(sys.argv[1])", fresh_url)
        recorded: LiteralString = "SELECT * FROM _yoyo_migration ORDER BY migration_id"
        before = query(fresh_url, recorded)
        with pytest.raises(SchemaError, match=r"too old \(it lacks 0005"):
            check_schema(fresh_url)
        assert migrate(fresh_url) == migration_names()[4:]
        check_schema(fresh_url)
        assert query(fresh_url, recorded) == before
        start = "import sys; from webhook_grpc.store.migrate import check_schema; check_schema(sys.argv[1])"
        earlier.run(start, fresh_url)


@pytest.mark.slow
def test_what_yoyo_has_left_half_done_is_taken_over(fresh_url: str, postgres: TestPostgres, worker_id: str) -> None:
    """F1: it died between the COMMIT of a file and the row that records it."""
    migrate(fresh_url)
    names = [f"webhook_test_dying_{number}_{worker_id}" for number in range(1, 5)]
    urls = [postgres.create_database(name) for name in names]
    with checkout(WITH_0004) as earlier:
        earlier.run(DYING_YOYO, *urls)
    for number, url in enumerate(urls, start=1):
        assert query(url, "SELECT count(*) FROM _yoyo_migration") == [(number - 1,)]
        assert {step.migration for step in plan(url)} == set(migration_names()[number:])
        assert migrate(url) == migration_names()[number:]
        check_schema(url)
        assert described(url) == described(fresh_url)
        assert migrate(url) == []
    for name in names:
        postgres.drop_database(name)


def test_a_schema_that_is_too_old_says_what_to_run(fresh_url: str) -> None:
    with pytest.raises(SchemaError, match=r"no schema yet.*webhook-grpc migrate"):
        check_schema(fresh_url)


def test_what_waits_for_the_old_version_to_go_is_not_needed_to_start(
    fresh_url: str, folder: Callable[..., None]
) -> None:
    migrate(fresh_url)
    folder(
        n0098_later_pre="-- works with: 5\nCREATE TABLE later_1 ();",
        n0099_later_post="-- works with: 98\nDROP TABLE later_1;",
    )
    with pytest.raises(SchemaError, match=r"too old \(it lacks 0098-later.pre\)"):
        check_schema(fresh_url)
    assert migrate(fresh_url, before_deployment=True) == ["0098-later.pre"]
    assert check_schema(fresh_url).left == ("0099-later.post",)
    assert migrate(fresh_url) == ["0099-later.post"]
    assert check_schema(fresh_url).left == ()


LIVE: LiteralString = """
INSERT INTO workers (worker_id, lease_until, version) VALUES (gen_random_uuid(), now() + interval '50 s', 97)
"""
END: LiteralString = "UPDATE workers SET lease_until = now() - interval '1 s'"
_NEXT = {
    "n0098_later_pre": "-- works with: 5\nCREATE TABLE later_1 ();",
    "n0098_without_post": "-- works with: 98\nDROP TABLE later_1;",
}


def test_what_waits_for_the_old_version_to_go_is_left_out_while_one_of_its_processes_lives(
    fresh_url: str, folder: Callable[..., None]
) -> None:
    migrate(fresh_url)
    folder(**_NEXT)
    query(fresh_url, LIVE)
    said: list[str] = []
    assert migrate(fresh_url, say=said.append) == ["0098-later.pre"]
    [words] = said
    assert words.startswith("0098-without.post is left out (processes of an older version that run: 1); run `")
    query(fresh_url, END)
    assert migrate(fresh_url, say=said.append) == ["0098-without.post"]


def test_what_a_process_has_left_that_was_killed_on_an_embedded_database_holds_nothing_up(
    fresh_url: str, folder: Callable[..., None]
) -> None:
    """Its lease has not run out, and it has no connection. One that has lives: a child of a parent that died, say."""
    migrate(fresh_url)
    folder(**_NEXT)
    query(fresh_url, LIVE)
    with connected(fresh_url):
        assert migrate(fresh_url, is_alone=True) == ["0098-later.pre"]
    until_alone(fresh_url)
    assert migrate(fresh_url, is_alone=True) == ["0098-without.post"]


def until_alone(url: str) -> None:
    """Waits until the server has ended the sessions of those who left."""
    ends_at = time.monotonic() + slowness.scaled(10)
    while query(url, COUNT_OTHER_SESSIONS) != [(0,)]:
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_after_a_deployment_it_waits_for_the_end_of_the_old_version_but_not_for_ever(
    fresh_url: str, folder: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(fresh_url)
    folder(**_NEXT)
    query(fresh_url, LIVE)
    with monkeypatch.context() as patch:
        patch.setattr("webhook_grpc.store.schema.migrate.OLDER_SECONDS_MAX", 0.0)
        with pytest.raises(SchemaError, match=r"^0098-without\.post waited for 0 s for .*: 1; end them, and run"):
            migrate(fresh_url, after_deployment=True)
    said: list[str] = []

    def end(words: str) -> None:
        said.append(words)
        query(fresh_url, END)

    assert migrate(fresh_url, after_deployment=True, say=end) == ["0098-without.post"]
    assert said == ["0098-without.post waits for the end of processes of an older version that run: 1"]


def test_a_new_database_gets_everything_at_once(fresh_url: str) -> None:
    assert migrate(fresh_url, before_deployment=True) == migration_names()


def test_a_new_database_gets_everything_at_once_although_the_first_migrator_died(
    fresh_url: str, folder: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = itertools.count(1)

    def run_or_die(*arguments: Any) -> None:
        if next(steps) > 3:
            raise KeyboardInterrupt
        run_step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("webhook_grpc.store.schema.migrate.run_step", run_or_die)
        migrate(fresh_url, before_deployment=True)
    assert plan(fresh_url, before_deployment=True)[-1].migration == migration_names()[-1]
    assert migrate(fresh_url, before_deployment=True)[-1] == migration_names()[-1]
    assert check_schema(fresh_url).left == ()
    folder(**_NEXT)
    assert migrate(fresh_url, before_deployment=True) == ["0098-later.pre"]  # from now on as any other


def test_a_mark_that_was_left_says_nothing_once_a_process_has_been_there(
    fresh_url: str, folder: Callable[..., None]
) -> None:
    migrate(fresh_url)
    query(fresh_url, SET_MARK)
    query(fresh_url, "UPDATE shards SET epoch = 1 WHERE shard = 7")
    folder(**_NEXT)
    assert migrate(fresh_url, before_deployment=True) == ["0098-later.pre"]


def test_a_newer_schema_is_accepted_if_its_files_say_so(
    fresh_url: str, folder: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = migration_files.program_version()
    own = migration_files.FOLDER
    folder(n0098_later_pre=f"-- works with: {version}\n-- step\nCREATE TABLE later_1 ();\n-- step\nFAIL;")
    with pytest.raises(SchemaError, match="step 2 of 2 of 0098-later"):
        migrate(fresh_url)
    monkeypatch.setattr(migration_files, "FOLDER", own)
    check_schema(fresh_url)  # in the middle of it
    query(fresh_url, "UPDATE webhook_migrations SET steps_done = step_count WHERE name = '0098-later.pre'")
    assert check_schema(fresh_url).newer == ("0098-later.pre",)
    assert migrate(fresh_url) == []


def test_a_schema_that_is_too_new_is_neither_used_nor_changed(fresh_url: str) -> None:
    migrate(fresh_url)
    version = migration_files.program_version()
    row = {"works_with": version + 1}
    query(fresh_url, "INSERT INTO webhook_migrations VALUES ('9999-later.pre', 1, 2, %(works_with)s)", row)
    for function in (check_schema, migrate):
        with pytest.raises(SchemaError, match=r"too new.*9999-later") as caught:
            function(fresh_url)
        needed = f"works with programs that know migration {version + 1:04d}"
        assert f"{needed}, and this one knows those up to {version:04d}; run a newer" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_unreachable_database_is_one_sentence_without_the_password() -> None:
    with pytest.raises(DatabaseUnreachable) as caught:
        check_schema("postgresql://user:hunter2@127.0.0.1:1/db")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schema_works_in_a_schema_of_its_own(fresh_url: str) -> None:
    """Names are relative to search_path, so that one database can hold many cells."""
    query(fresh_url, "CREATE SCHEMA cell_1")
    query(fresh_url, "CREATE SCHEMA cell_2")
    urls = [make_conninfo(fresh_url, options=f"-c search_path=cell_{number}") for number in (1, 2)]
    for url in urls:
        assert migrate(url) == migration_names()
        check_schema(url)
    assert query(fresh_url, "SELECT count(*) FROM cell_1.shards") == [(64,)]
    assert query(fresh_url, "SELECT count(*) FROM cell_2.shards") == [(64,)]
    assert query(fresh_url, "SELECT to_regclass('public.shards')") == [(None,)]


def test_the_seven_event_types_exist_from_the_start(fresh_url: str) -> None:
    migrate(fresh_url)
    assert sorted(name for (name,) in query(fresh_url, "SELECT event_type FROM event_types")) == [
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
