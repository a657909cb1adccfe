"""Health checks need no token: no client of theirs holds up another one, or the process."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

import pytest
import structlog
from grpc_health.v1 import health_pb2

from webhook_grpc.api.codes import Code
from webhook_grpc.server.grpc import health
from webhook_grpc.server.grpc.call import Call, Peer
from webhook_grpc.server.grpc.health import Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Aborted(Exception):
    """The call was ended with a status."""


class Client:
    """A call as the service sees it. `is_reading`: whether what it is sent gets through."""

    def __init__(
        self,
        name: str | bytes | None = "",
        *,
        is_reading: bool = True,
        has_request: bool = True,
        address: str = "10.0.0.1",
    ) -> None:
        request = health_pb2.HealthCheckRequest(service=name).SerializeToString() if isinstance(name, str) else name
        self._request = request
        self.peer = Peer((address, 12345), None)
        self._is_reading = is_reading
        self._has_request = has_request
        self.got: asyncio.Queue[int] = asyncio.Queue()
        self.is_blocked = asyncio.Event()

    async def read(self, *_: object) -> Any:
        if self._request is None and self._has_request:
            self.is_blocked.set()
            await asyncio.Event().wait()
        return self._request

    def begin(self) -> None:
        pass

    async def write(self, raw: bytes) -> None:
        if not self._is_reading:
            self.is_blocked.set()
            await asyncio.Event().wait()
        self.got.put_nowait(health_pb2.HealthCheckResponse.FromString(raw).status)

    def abort(self, code: Code, message: str) -> NoReturn:
        raise Aborted(f"{code.name}: {message}")

    def set_trailing_metadata(self, _: object) -> None:
        pass


def watch(checks: Health, client: Client) -> asyncio.Task[None]:
    return asyncio.ensure_future(checks.watch(cast("Call", client)))


async def check(checks: Health, client: Client) -> int:
    raw = await checks.check(cast("Call", client))
    return health_pb2.HealthCheckResponse.FromString(raw).status


async def test_a_watcher_that_reads_nothing_holds_up_no_other_and_no_change() -> None:
    checks, silent, honest = Health([""]), Client(is_reading=False), Client()
    stuck, watching = watch(checks, silent), watch(checks, honest)
    await silent.is_blocked.wait()
    assert await honest.got.get() == NOT_SERVING

    checks.set("", True)
    assert await honest.got.get() == SERVING
    checks.leave()
    assert await honest.got.get() == NOT_SERVING
    assert await check(checks, Client()) == NOT_SERVING
    checks.close()
    await watching

    assert not stuck.done()
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_a_watcher_that_reads_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WRITE_SECONDS_MAX", 0.01)

    with pytest.raises(Aborted, match="UNAVAILABLE: the client did not read"):
        await watch(Health([""]), Client(is_reading=False))


async def test_watches_that_are_not_read_leave_one_line_in_the_log_when_the_service_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "WRITE_SECONDS_MAX", 0.01)
    checks = Health([""])
    watching = [watch(checks, Client(is_reading=False)) for _ in range(3)]

    with structlog.testing.capture_logs() as lines:
        assert [type(ended) for ended in await asyncio.gather(*watching, return_exceptions=True)] == [Aborted] * 3
        checks.report_unread()

    assert [(line["event"], line["count"]) for line in lines] == [("health watches were not read", 3)]


async def test_a_service_that_is_not_known_is_watched_and_not_found() -> None:
    checks, client = Health([""]), Client("webhook.v1.Other")
    watching = watch(checks, client)

    assert await client.got.get() == SERVICE_UNKNOWN
    with pytest.raises(Aborted, match="NOT_FOUND"):
        await check(checks, client)
    checks.close()
    await watching


@pytest.mark.parametrize("request_", [b"\xff", None])
async def test_what_is_no_health_check_is_refused(request_: Any) -> None:
    with pytest.raises(Aborted, match="INVALID_ARGUMENT"):
        await check(Health([""]), Client(request_, has_request=request_ is not None))


async def test_an_address_has_a_share_of_the_watches_and_of_the_requests_that_have_not_come_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "WATCHES_PER_ADDRESS_MAX", 2)
    monkeypatch.setattr(health, "READS_PER_ADDRESS_MAX", 2)
    checks = Health([""])
    watching = [watch(checks, Client()) for _ in range(2)]
    halves = [Client(None, address="10.0.0.9") for _ in range(2)]
    reading = [watch(checks, client) for client in halves]
    for client in halves:
        await client.is_blocked.wait()

    with pytest.raises(Aborted, match="RESOURCE_EXHAUSTED: this server has as many health watches"):
        await watch(checks, Client())
    with pytest.raises(Aborted, match="RESOURCE_EXHAUSTED: this server has as many health checks that have not come"):
        await check(checks, Client(address="10.0.0.9"))
    assert await check(checks, Client()) == NOT_SERVING, "other addresses have places"

    for task in (*watching, *reading):
        task.cancel()
    await asyncio.gather(*watching, *reading, return_exceptions=True)


async def test_a_request_that_does_not_come_whole_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READ_SECONDS_MAX", 0.01)

    with pytest.raises(Aborted, match="DEADLINE_EXCEEDED"):
        await check(Health([""]), Client(None))
