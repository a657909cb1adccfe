"""Servers, databases and roles that can't be used: one sentence that says what to change, here and at the start.

On the distribution's Postgres, whose defaults are those that people have. `migrate` has no secret keys: it needs none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Protocol, cast

import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from tests.field.test_doctor import found
from tests.support.distribution import DistributionPostgres
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import query
from webhook_grpc.cli import main
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.schema.migrate import SchemaError, check_schema, migrate

# What is imported late is imported here: that user may be unable to read where Python is.
AS_NOBODY = """
import os, pwd
from webhook_grpc.cli import main
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
try:
    pwd.getpwuid(12345)
except KeyError:
    main(["migrate"])
"""


class NewDatabase(Protocol):
    """Makes a database and returns its connection string."""

    def __call__(self, encoding: str = "UTF8") -> str: ...


@pytest.fixture(scope="module")
def server(distribution: DistributionPostgres) -> DistributionPostgres:
    """The cluster, with roles that may do little."""
    for statement in (
        "CREATE ROLE plain LOGIN",
        "CREATE ROLE other LOGIN",
        "CREATE ROLE reader LOGIN",
        "ALTER ROLE reader SET default_transaction_read_only = on",
    ):
        query(distribution.url, statement)
    return distribution


@pytest.fixture
def new_database(server: DistributionPostgres, request: pytest.FixtureRequest) -> NewDatabase:
    """Makes databases that are named after the test."""
    test = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType] - pytest has no type for it
    name = f"d{abs(hash(test.name))}"

    def make(encoding: str = "UTF8") -> str:
        return server.new_database(name, encoding)

    return make


def refused(url: str, **settings: str) -> str:
    """Runs `migrate`, which must fail, and returns the one sentence that it says."""
    unset = {"WEBHOOK_SECRET_KEYS": None, "WEBHOOK_SECRET_KEYS_FILE": None}
    environment = {"WEBHOOK_DATABASE_URL": url, **unset, **settings}
    done = CliRunner().invoke(main, ["migrate"], env=environment)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 1
    [line] = done.output.splitlines()
    assert line.startswith("webhook-grpc: ")
    return line


def migrated(url: str, **settings: str) -> str:
    """Runs `migrate`, which must succeed, and returns what it says."""
    unset = {"WEBHOOK_SECRET_KEYS": None, "WEBHOOK_SECRET_KEYS_FILE": None}
    environment = {"WEBHOOK_DATABASE_URL": url, **unset, **settings}
    done = CliRunner().invoke(main, ["migrate"], env=environment)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_role_that_may_not_create_is_shown_what_to_grant(new_database: NewDatabase) -> None:
    url = new_database()
    plain = make_conninfo(url, user="plain")
    line = refused(plain, WEBHOOK_DATABASE_SCHEMA="public")
    _, _, grant = line.partition("run: ")
    assert grant == 'GRANT CREATE ON SCHEMA "public" TO "plain"'
    line = refused(plain)
    _, _, make = line.partition("run: ")
    assert make == 'CREATE SCHEMA "webhook_grpc"; GRANT USAGE, CREATE ON SCHEMA "webhook_grpc" TO "plain"'
    query(url, make)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that it works is the point
    assert "applied 0001" in migrated(plain)
    check_schema(plain)
    with pytest.raises(UnsuitableServer, match=r"the role other may not use the schema webhook_grpc") as raised:
        check_schema(make_conninfo(url, user="other"))
    _, _, grant = str(raised.value).partition("run: ")
    grant, _, _ = grant.partition(" (")
    assert grant == 'GRANT USAGE ON SCHEMA "webhook_grpc" TO "other"'
    query(url, grant)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that it works is the point
    query(url, "GRANT SELECT ON webhook_migrations TO other")
    with pytest.raises(UnsuitableServer, match=r"the role other may not make and drop daily partitions") as raised:
        check_schema(make_conninfo(url, user="other"))
    _, _, grant = str(raised.value).partition("run as that: ")
    grant, _, _ = grant.partition(" (")
    names = ", ".join(f'"webhook_grpc".{name}' for name in ("make_partition", "detach_partition", "drop_partition"))
    assert grant == f'GRANT EXECUTE ON FUNCTION {names} TO "other"'
    query(url, grant)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that it works is the point
    check_schema(make_conninfo(url, user="other"))


def test_a_role_that_may_not_read_our_table_is_one_sentence(new_database: NewDatabase) -> None:
    url = new_database()
    migrate(url)
    query(url, "GRANT USAGE ON SCHEMA webhook_grpc TO plain")
    with pytest.raises(SchemaError, match="permission denied for table webhook_migrations; run it as"):
        check_schema(make_conninfo(url, user="plain"))


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("CREATE TABLE meta (key text)", "meta"),
        ("CREATE VIEW shards AS SELECT 1", "shards"),
        ("CREATE TABLE theirs (n int); CREATE INDEX webhooks_by_customer ON theirs (n)", "webhooks_by_customer"),
        ("CREATE TABLE theirs (n int); CREATE INDEX events_by_customer ON theirs (n)", "events_by_customer"),
        ("CREATE FUNCTION event_id_text(uuid) RETURNS text LANGUAGE sql AS 'SELECT NULL'", "event_id_text"),
        ("CREATE TABLE webhook_migrations (version bigint, dirty boolean)", "webhook_migrations"),
        ("CREATE TABLE _yoyo_migration (n int)", "migration_id"),
    ],
)
def test_a_name_that_is_taken_is_named(taken: str, said: str, new_database: NewDatabase) -> None:
    url = new_database()
    query(url, taken)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - a constant of this test
    line = refused(url, WEBHOOK_DATABASE_SCHEMA="public")
    assert said in line
    hint = "is not ours; give webhook-grpc a database or a schema (WEBHOOK_DATABASE_SCHEMA) of its own"
    assert "SQLSTATE" in line or hint in line


def test_a_read_only_role_is_one_sentence(new_database: NewDatabase) -> None:
    url = make_conninfo(new_database(), user="reader")
    assert "transactions of the role reader are read-only" in refused(url)
    with pytest.raises(UnsuitableServer, match="read-only"):
        check_schema(url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_an_encoding_that_cannot_hold_every_text_is_refused(encoding: str, new_database: NewDatabase) -> None:
    url = new_database(encoding)
    assert f"has the encoding {encoding}" in refused(url)
    with pytest.raises(UnsuitableServer, match="ENCODING 'UTF8'"):
        check_schema(url)


def test_a_search_path_to_nowhere_is_one_sentence(new_database: NewDatabase) -> None:
    url = make_conninfo(new_database(), options="-c search_path=nowhere")
    assert "names no schema that exists" in refused(url)


def test_a_database_that_is_away_is_one_sentence(server: DistributionPostgres) -> None:
    assert "cannot be reached" in refused(make_conninfo(server.url, port=1))
    assert 'database "none" does not exist' in refused(make_conninfo(server.url, dbname="none"))


def test_white_space_around_the_url_is_none_of_it(new_database: NewDatabase) -> None:
    assert "applied 0001" in migrated(f" {new_database()}\n")


def test_only_the_database_has_to_be_right_for_migrate(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_POLL_SECONDS", "often")
    assert "applied 0001" in migrated(new_database())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_a_name_may_migrate(new_database: NewDatabase) -> None:
    """A container that runs under a free user id: no entry in passwd, no USER, no home."""
    url = new_database()
    environment = {"PATH": os.environ["PATH"], "WEBHOOK_DATABASE_URL": url}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    check_schema(url)


def test_a_transaction_pooler_is_refused(new_database: NewDatabase, server: DistributionPostgres) -> None:
    """Its sessions belong to everybody: our lock would go to another client, and our settings with it."""
    url = new_database()
    for mode in ("transaction", "session"):
        pooler = PgBouncer(url, mode)
        try:
            if mode == "transaction":
                assert "a pooler in transaction mode; migrate needs a session of its own" in refused(pooler.url)
                assert query(server.url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
            else:
                assert "applied 0001" in migrated(pooler.url)
        finally:
            pooler.stop()


def test_a_standby_is_one_sentence(server: DistributionPostgres, new_database: NewDatabase) -> None:
    url = new_database()
    server.stop()
    (server.data / "standby.signal").touch()
    server.start()
    try:
        assert "the server is a standby" in refused(url)
        with pytest.raises(UnsuitableServer, match="connect to the primary"):
            check_schema(url)
        by_check = found(url)
        assert by_check["database"].state == "problem"
        assert by_check["database"].detail.startswith("the server is a standby, which is read-only; connect to")
        assert by_check["pooler"].state == "ok", "what can be said of a standby is said"
        assert by_check["schema"].state == "skipped"
    finally:
        server.stop()
        (server.data / "standby.signal").unlink()
        server.start()
