"""Fixtures for the tests of the HTTP client."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.support.raw import RawServers


@pytest.fixture
async def raw_server() -> AsyncGenerator[RawServers]:
    """Starts servers that speak whatever a test wants."""
    servers = RawServers()
    yield servers
    await servers.stop()
