"""A coordinator of Citus: the one in WEBHOOK_TEST_CITUS_URL, or one that is started, where `citus.so` is installed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.cells import SELECT_IS_CITUS
from tests.support.distribution import DistributionPostgres
from tests.support.postgres import query

VARIABLE: Final = "WEBHOOK_TEST_CITUS_URL"
_SERVERS: Final = "/usr/lib/postgresql"  # Debian's packages and those of postgresql.org
_SETTINGS: Final = {
    "shared_preload_libraries": "citus",
    "wal_level": "logical",  # moving a cell to another node
    "max_connections": "300",
    "max_prepared_transactions": "100",
}


def programs_with_citus(servers: Iterable[Path]) -> Path | None:
    """Returns the folder of the programs of the first of these servers that has the library; None if none has."""
    for server in servers:
        if (server / "lib" / "citus.so").exists() and (server / "bin" / "initdb").exists():
            return server / "bin"
    return None


def known_servers() -> list[Path]:
    """Returns the folders of the servers that are installed, the newest first."""
    found = [path for path in Path(_SERVERS).glob("*") if path.name.isdigit() and int(path.name) >= 15]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


@contextlib.contextmanager
def coordinator(servers: Iterable[Path] | None = None) -> Generator[str]:
    """Yields the connection string of a database with Citus. Skips the test where there is none."""
    if url := os.environ.get(VARIABLE):
        assert query(url, SELECT_IS_CITUS) == [(True,)], f"the database of {VARIABLE} lacks CREATE EXTENSION citus"
        yield url
        return
    programs = programs_with_citus(known_servers() if servers is None else servers)
    if programs is None:
        pytest.skip(f"needs Citus: set {VARIABLE} to a coordinator's database, or install citus.so beside a Postgres")
    with contextlib.ExitStack() as started:
        first, worker = (_node(programs, started) for _ in range(2))
        query(first.url, "SELECT citus_set_coordinator_host(%s, %s)", _place(first))
        query(first.url, "SELECT citus_add_node(%s, %s)", _place(worker))
        yield first.url


def _node(programs: Path, started: contextlib.ExitStack) -> DistributionPostgres:
    node = DistributionPostgres(_SETTINGS, programs=programs)
    started.callback(node.remove)
    query(node.url, "CREATE EXTENSION citus")
    return node


def _place(node: DistributionPostgres) -> tuple[str, int]:
    given = conninfo_to_dict(node.url)
    return str(given["host"]), int(str(given["port"]))
