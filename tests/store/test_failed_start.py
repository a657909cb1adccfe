"""A start that Postgres refuses something says what that was: `cannot be reached` alone would send people elsewhere."""

from __future__ import annotations

import pytest

from webhook_grpc.cli import _explained_failures  # pyright: ignore[reportPrivateUsage]
from webhook_grpc.store.db import Database


async def test_the_words_of_postgres_are_said(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), _explained_failures():
        await database.rows("SELECT make_partition_of('nothing')")
    said = "function make_partition_of(unknown) does not exist (SQLSTATE 42883)"
    assert capsys.readouterr().err == f"webhook-grpc: the database cannot be reached or is overloaded: {said}\n"
