"""How many turns of the event loop a published event waits for: on a busy loop each of them is as long as its work."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.loop_turns import LoopTurns
from tests.support.receiver import Receiver
from tests.support.service import Service
from webhook_grpc.engine.http.connection import Connection
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.grpc import exchange
from webhook_grpc.store import db
from webhook_grpc.store.outbox.publishing import PUBLISH, PUBLISH_ONE, PUBLISH_ONE_ONCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMES: Final = 5  # a call may meet a look-up of event types, or a plan that is made again


async def test_a_published_event_waits_for_few_turns_of_the_loop(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the service's own: gRPC, Postgres and the receiver take theirs besides."""
    await service.create_webhook(receiver.url("/turns"))
    await service.publish()
    await receiver.wait_for(1, "/turns")  # on a connection that is kept
    turns = LoopTurns(monkeypatch)

    def is_publish(_: Any, statement: str, __: Any, **___: Any) -> bool:
        return statement in {PUBLISH, PUBLISH_ONE, PUBLISH_ONE_ONCE}

    def is_call(_: Any, method: Any, __: Any) -> bool:
        return method.name == "PublishEvent"

    turns.watch(exchange._Exchange, "read", end="read")  # pyright: ignore[reportPrivateUsage]
    turns.watch(db, "run", begin="sent", end="committed", wanted=is_publish)
    turns.watch(Calls, "serve", end="answered", wanted=is_call)
    turns.watch(Connection, "exchange", begin="requested")
    for number in range(TIMES):
        await service.publish()
        await receiver.wait_for(number + 2, "/turns")
    assert turns.between("read", "sent") <= 1, "callers that come in the same turn share a statement"
    assert turns.between("committed", "answered") <= 1
    assert turns.between("committed", "requested") <= 1, "the attempt has a task of its own"
