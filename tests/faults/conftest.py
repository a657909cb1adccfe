"""A Postgres that scenarios may crash: one for all of them, a database for each."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .database import DatabaseServer


@pytest.fixture(scope="session")
def server() -> Generator[DatabaseServer]:
    """A server of this suite's own."""
    server = DatabaseServer()
    server.start()
    yield server
    server.stop()
