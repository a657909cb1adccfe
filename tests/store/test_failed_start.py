"""A start that Postgres refuses something says what that was: `cannot be reached` alone would send people elsewhere."""

from __future__ import annotations

import pytest

from tests.support.postgres import TestPostgres
from webhook_grpc.cli import _explained_failures  # pyright: ignore[reportPrivateUsage]
from webhook_grpc.store.connection import server_checks
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.migrate import check_schema, migrate, plan


async def test_the_words_of_postgres_are_said(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), _explained_failures():
        await database.rows("SELECT make_partition_of('nothing')")
    said = "function make_partition_of(unknown) does not exist (SQLSTATE 42883)"
    assert capsys.readouterr().err == f"webhook-grpc: the database cannot be reached or is overloaded: {said}\n"


def test_a_server_that_is_too_old_is_refused_by_its_version_before_anything_else(
    postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_checks, "SERVER_VERSION_MIN", 990_000)
    for look in (migrate, plan, check_schema):
        with pytest.raises(
            UnsuitableServer, match=r"the server is Postgres 1\d, and at least 99 is needed; upgrade it"
        ):
            look(postgres.url)
