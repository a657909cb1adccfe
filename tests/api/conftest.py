"""Fixtures for tests of the API: one service for a module, where a start for each test costs more than the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.support.postgres import TestPostgres
from tests.support.service import ServiceFactory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_services(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[ServiceFactory]:
    """Starts services on an empty database, and stops them after the last test of the module."""
    postgres.empty()
    services = ServiceFactory(postgres.url, tmp_path_factory.mktemp("services"))
    yield services
    await services.stop()
