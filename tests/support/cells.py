"""Cells: schemas of one database, where other tests have databases. So it is on Citus, with a schema for each cell.

With `WEBHOOK_TEST_CELLS=1` the fixture `postgres` is such a cell: of the server in WEBHOOK_TEST_DATABASE_URL, or of the
embedded one. Tests run unchanged, as the service does: a cell is a connection string with a search_path.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support import roles
from tests.support.postgres import TestPostgres
from webhook_grpc.store.schema.embedded import EmbeddedPostgres

VARIABLE: Final = "WEBHOOK_TEST_CELLS"
SELECT_IS_CITUS: Final = "SELECT count(*) > 0 FROM pg_extension WHERE extname = 'citus'"
# What is made in a schema that was made with this is distributed: all tables of the schema are on one node, together.
DISTRIBUTE_SCHEMAS: Final = "SET citus.enable_schema_based_sharding = on"


def are_wanted() -> bool:
    """Returns whether tests are to run on cells."""
    is_wanted = bool(os.environ.get(VARIABLE))
    assert not (is_wanted and roles.is_runtime()), "cells have one role"
    return is_wanted


class CellPostgres(TestPostgres):
    """A database whose schemas stand for databases."""

    def __init__(self, admin_url: str, name: str, embedded: EmbeddedPostgres | None, directory: Path | None) -> None:
        super().__init__(admin_url, name, embedded, directory)
        self.url = self._url_of(name)

    def create_database(self, name: str) -> str:
        """Makes an empty cell and returns its connection string."""
        self.drop_database(name)
        make = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name))
        [(is_citus,)] = self._run(SELECT_IS_CITUS)
        self._run(*([DISTRIBUTE_SCHEMAS] if is_citus else []), make)
        return self._url_of(name)

    def drop_database(self, name: str) -> None:
        """Drops a cell, with what is in it."""
        self._run(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))

    def _url_of(self, name: str) -> str:
        return make_conninfo(self._admin_url, options=f"-c search_path={name}")

    def _run(self, *statements: str | sql.Composed) -> Sequence[tuple[Any, ...]]:
        """Runs statements in one session, and returns the rows that they give."""
        rows = list[tuple[Any, ...]]()
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode() if isinstance(statement, str) else statement)
                rows += cursor.fetchall() if cursor.description else []
        return rows
