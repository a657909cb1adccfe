"""A Postgres that scenarios may crash: one for all of them, a database for each."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .database import DatabaseServer
from .replicated import ReplicatedServer
from .stepped import SteppedServer


@pytest.fixture(scope="session")
def server() -> Generator[DatabaseServer]:
    """A server of this suite's own."""
    server = DatabaseServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def replicated_server() -> Generator[ReplicatedServer]:
    """A primary with a standby."""
    server = ReplicatedServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def stepped_server() -> Generator[SteppedServer]:
    """One whose clock can be stepped."""
    server = SteppedServer()
    server.start()
    yield server
    server.stop()
