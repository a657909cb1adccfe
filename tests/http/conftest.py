"""What the tests of the HTTP door share."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio

from tests.support.service import ServiceFactory

from .client import Http


@pytest_asyncio.fixture
async def http(services: ServiceFactory) -> AsyncGenerator[Http]:
    """A service with an HTTP door, and a client of it."""
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as client:
        yield client
