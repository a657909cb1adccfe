"""Whoever is not known waits in turn for every answer, at both doors, and holds up nobody who is."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Hashable
from typing import Any

import aiohttp
import grpc
import pytest
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.service import ServiceFactory
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.server import unauthenticated_turns
from webhook_grpc.server.http.door import HttpDoor
from webhook_grpc.server.unauthenticated_turns import Strangers

TOKENS = json.dumps([{"name": "known", "sha256": token_hash("known"), "customer_id": 7}])
KNOWN = {"Authorization": "Bearer known"}


@pytest.mark.slow(3)
async def test_no_answer_is_given_to_a_stranger_out_of_turn_and_callers_that_are_known_do_not_wait(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every route there is, and what there is not: a new one waits, too."""
    doors, waiting, turn = list[HttpDoor](), Counter[Hashable](), asyncio.Event()
    opened = HttpDoor.open

    async def remember(door: HttpDoor) -> None:
        doors.append(door)
        await opened(door)

    async def wait(_: Strangers, whose: Hashable) -> None:
        waiting[whose] += 1
        await turn.wait()

    monkeypatch.setattr(HttpDoor, "open", remember)
    monkeypatch.setattr(Strangers, "wait", wait)
    service = await services.start(http_address="127.0.0.1:0", tokens=TOKENS)
    stub, metadata = service.stub, (("authorization", "Bearer known"),)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{service.app.http_port}", connector=connector) as session,
        slowness.timeout(30),
    ):
        async with session.get("/api/webhooks", headers=KNOWN) as answer:
            assert answer.status == 200
        asked = {*_routes(doors[0]), ("GET", "/nothing"), ("PUT", "/api/webhooks")}
        tasks = [asyncio.ensure_future(_status(session, verb, path)) for verb, path in asked]
        refused: Any = stub.ListWebhooks(service_pb2.ListWebhooksRequest())
        while waiting.total() <= len(asked):
            await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        assert not refused.done()
        async with session.get("/api/webhooks", headers=KNOWN) as answer:
            assert answer.status == 200
        await stub.ListWebhooks(service_pb2.ListWebhooksRequest(), metadata=metadata)
        turn.set()
        counts = Counter(await asyncio.gather(*tasks))
        assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED
    assert set(counts) <= {200, 401, 404, 405}, counts
    assert set(waiting) == {"127.0.0.1", ("127.0.0.1", ""), ("127.0.0.1", "probes")}


def _routes(door: HttpDoor) -> set[tuple[str, str]]:
    routes = door._app.router.routes()  # pyright: ignore[reportPrivateUsage]
    return {(route.method, _path_of(route.resource)) for route in routes if route.method != "HEAD"}


def _path_of(resource: Any) -> str:
    return re.sub(r"\{[^}]*\}", "7", resource.canonical)


async def _status(session: aiohttp.ClientSession, verb: str, path: str) -> int:
    async with session.request(verb, path) as answer:
        await answer.read()
        return answer.status


async def test_addresses_take_turns_and_a_crowd_is_answered_bit_by_bit() -> None:
    waiting, order, turns = Strangers(), list[str](), Counter[int]()
    turn = 0

    async def ask(whose: str) -> None:
        await waiting.wait(whose)
        order.append(whose)
        turns[turn] += 1

    crowd = [asyncio.ensure_future(ask("crowd")) for _ in range(20)]
    await asyncio.sleep(0)
    other = asyncio.ensure_future(ask("other"))
    async with slowness.timeout(10):
        while not all(task.done() for task in (*crowd, other)):
            await asyncio.sleep(0)
            turn += 1
    assert order.index("other") <= 2
    assert max(turns.values()) == 1


async def test_those_who_wait_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unauthenticated_turns, "WAITING_MAX", 2)
    waiting = Strangers()
    tasks = [asyncio.ensure_future(waiting.wait("crowd")) for _ in range(2)]
    await asyncio.sleep(0)
    await waiting.wait("crowd")
    assert not any(task.done() for task in tasks), "the third is answered at once"
    await asyncio.gather(*tasks)
    await waiting.wait("crowd")
