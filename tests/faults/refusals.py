"""What each process says to who publishes while the database takes no writes: a reason, and when to call again."""

from __future__ import annotations

import asyncio
import time

import grpc
from webhook.v1 import event_pb2, service_pb2

from tests.support import slowness
from tests.support.service import error_details

from .harness import Round

_BACK_SECONDS_MAX = 15.0
_NOBODY = 99


async def until_refused(round_: Round, name: str, code: grpc.StatusCode, reason: str, words: str) -> None:
    """Waits until a process refuses an event with that code and these words: it says why, and may be called again."""
    async with slowness.timeout(_BACK_SECONDS_MAX):
        while True:
            error = await _published(round_, name)
            if error is not None and error.code() is code and words in (error.details() or ""):
                details = error_details(error)
                assert details["ErrorInfo"].reason == reason
                assert "RetryInfo" in details
                return
            await asyncio.sleep(0.02)


async def until_taken(round_: Round, name: str) -> None:
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
