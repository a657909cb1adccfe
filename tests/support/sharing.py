"""Fixtures of folders whose tests share a service in each module: a start for each test would cost more than the test.

A test that takes `service` shares it with the other tests of the module, on one event loop, and finds nothing of what
they made. A test that takes `services` starts services of its own, with whatever settings; the shared one is stopped
before that, since it would take part in the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import Service, ServiceFactory

_REST_SECONDS_MAX: Final = 1.0  # a start costs as much CPU time as four seconds of an idle service
_STARTED_ONCE: Final = frozenset({"shared", "browser", "farm"})  # fixtures of a module that are dear to start


def fixtures(item: pytest.Item) -> Sequence[str]:
    """Returns the names of the fixtures that a test takes."""
    return item.fixturenames if isinstance(item, pytest.Function) else ()


def shares(item: pytest.Item) -> bool:
    """Returns whether a test shares with its module what is started once for it: a service, a browser.

    Those are the tests on the loop of their module. Without a group each process of pytest would start what they share,
    and end it whenever a test of another module comes between.
    """
    loop = item.get_closest_marker("asyncio")
    on_the_module = loop is not None and loop.kwargs.get("loop_scope") == "module"
    return on_the_module or not _STARTED_ONCE.isdisjoint(fixtures(item))


def group(item: pytest.Item) -> str | None:
    """Returns the name of the group that a test is to be in, if it shares and its module does not name one."""
    if not shares(item) or item.get_closest_marker("xdist_group") is not None:
        return None
    return f"{item.path.parent.name}/{item.path.stem}"


class Shared:
    """The service that tests of one module share."""

    def __init__(self, postgres: TestPostgres, data_dir: Path, settings: Mapping[str, Any]) -> None:
        self._postgres = postgres
        self._settings = settings
        self._services = ServiceFactory(postgres.url, data_dir)
        self._service: Service | None = None

    async def emptied(self) -> Service:
        """Returns the service, running and at rest, below which all rows are removed.

        What the last test has left in its memory ends once its rows are removed. If it does not, or takes long, the
        service is replaced.
        """
        if self._service is not None:
            self._postgres.forget()
            if await _comes_to_rest(self._service):
                self._postgres.forget()
                return self._service
            await self.stop()
        self._postgres.empty()
        self._service = await self._services.start(**self._settings)
        return self._service

    async def stop(self) -> None:
        """Stops the service, if it runs."""
        self._service = None
        await self._services.stop()


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """The settings of the shared service beside those of all tests. A module may have its own."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, shared_settings: Mapping[str, Any]
) -> AsyncGenerator[Shared]:
    """Holds the service that tests of the module share. The first test that takes `service` starts it."""
    shared = Shared(postgres, tmp_path_factory.mktemp("service"), shared_settings)
    yield shared
    await shared.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def service(shared: Shared) -> Service:
    """The service of the module, with nothing in it."""
    return await shared.emptied()


@pytest_asyncio.fixture(loop_scope="module")
async def services(shared: Shared, postgres: TestPostgres, tmp_path: Path) -> AsyncGenerator[ServiceFactory]:
    """Starts services for one test, on an empty database, and stops them."""
    await shared.stop()
    postgres.empty()
    services = ServiceFactory(postgres.url, tmp_path)
    yield services
    await services.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncGenerator[Receiver]:
    """A real HTTP server on loopback that records what it gets, on the loop of the module."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


async def _comes_to_rest(service: Service) -> bool:
    """Waits until nothing is queued, in flight or unsettled, but not for long."""
    try:
        async with slowness.timeout(_REST_SECONDS_MAX):
            while not service.is_at_rest:
                await asyncio.sleep(0.01)  # coming to rest gives no signal
    except TimeoutError:
        return False
    return True
