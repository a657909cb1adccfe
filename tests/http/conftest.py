"""What the tests of the HTTP door share: one service for a module whose webhooks send nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.support.postgres import TestPostgres
from tests.support.service import Service, ServiceFactory

from .client import Http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Service]:
    """A service with an HTTP door."""
    postgres.empty()
    services = ServiceFactory(postgres.url, tmp_path_factory.mktemp("services"))
    yield await services.start(http_address="127.0.0.1:0")
    await services.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def http(served: Service, postgres: TestPostgres) -> AsyncGenerator[Http]:
    """A client of that service, with nothing in the database."""
    postgres.forget()
    async with Http(served) as client:
        yield client
