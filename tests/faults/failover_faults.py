"""The database is read-only for a while, or the primary dies and its standby becomes the primary.

The standby replicates synchronously, so nothing that was acknowledged is lost. One process has the addresses of both
servers (`target_session_attrs=read-write`), the other one has a name that is moved to the standby before that is
promoted: so it meets a server that takes no writes.
"""

from __future__ import annotations

import asyncio
import time

import grpc
from webhook.v1 import event_pb2, service_pb2

from tests.support import slowness
from tests.support.service import error_details

from .harness import Round
from .replicated import ReplicatedServer
from .scenario import Scenario

_REFUSED = "the database takes no writes now"
_BACK_SECONDS_MAX = 15.0


async def read_only(round_: Round) -> None:
    """Somebody sets default_transaction_read_only for the whole server, and takes it back."""
    await asyncio.sleep(round_.seconds / 3)
    names = sorted(round_.cluster.running)
    with round_.outage("read-only"):
        await asyncio.to_thread(round_.server.set_read_only, is_read_only=True)
        try:
            await asyncio.gather(*(_until_refused(round_, name) for name in names))
        finally:
            await asyncio.to_thread(round_.server.set_read_only, is_read_only=False)
        await asyncio.gather(*(_until_taken(round_, name) for name in names))
    await asyncio.sleep(round_.seconds / 3)


async def promote(round_: Round) -> None:
    """The primary dies under load; the standby is reachable before it is promoted."""
    server = round_.server
    assert isinstance(server, ReplicatedServer)
    by_addresses, by_name = sorted(round_.cluster.running)
    await asyncio.sleep(round_.seconds / 3)
    with round_.outage("failover"):
        await asyncio.to_thread(server.crash)
        server.move_name()
        await _until_refused(round_, by_name)
        await asyncio.to_thread(server.promote)
        await asyncio.gather(*(_until_taken(round_, name) for name in (by_addresses, by_name)))
    await asyncio.sleep(round_.seconds / 2)


async def _until_refused(round_: Round, name: str) -> None:
    """Waits until a process refuses an event because the database is read-only: it says so, and may be called again."""
    async with slowness.timeout(_BACK_SECONDS_MAX):
        while True:
            error = await _published(round_, name)
            if error is not None and error.code() is grpc.StatusCode.UNAVAILABLE:
                details = error_details(error)
                if _REFUSED in (error.details() or ""):
                    assert details["ErrorInfo"].reason == "STORAGE_UNAVAILABLE"
                    assert "RetryInfo" in details
                    return
            await asyncio.sleep(0.02)


async def _until_taken(round_: Round, name: str) -> None:
    """Waits until a process takes events again."""
    until = time.monotonic() + slowness.scaled(_BACK_SECONDS_MAX)
    while (error := await _published(round_, name)) is not None:
        assert time.monotonic() < until, f"{name} does not come back: {error.details()}"
        await asyncio.sleep(0.02)


async def _published(round_: Round, name: str) -> grpc.aio.AioRpcError | None:
    """Publishes an event of a customer without webhooks; returns why it was refused."""
    event = event_pb2.Event(customer_id=_NOBODY, event_type="job.completed", data_json="{}")
    try:
        await round_.cluster.running[name].stub.PublishEvent(service_pb2.PublishEventRequest(event=event))
    except grpc.aio.AioRpcError as error:
        return error
    return None


_NOBODY = 99

SCENARIOS = (
    Scenario("read-only", read_only),
    Scenario("standby promoted", promote, replicated=True),
)
