"""The public signing keys of a customer, as a JWKS that anybody may read."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Mapping

import pytest
from webhook.v1 import service_pb2

from tests.support.service import CUSTOMER, ServiceFactory
from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.server.http.jwks import WAITING_MAX, JwksRoute

from .client import Http

PATH = f"/api/customers/{CUSTOMER}/jwks.json"


async def test_the_keys_of_a_customer_are_read_without_a_token(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    request = service_pb2.RotateSigningKeyRequest(customer_id=CUSTOMER)
    key = await service.stub.RotateSigningKey(request)
    async with Http(service) as http:
        answer = await http.call("GET", PATH)
        listed = await http.call("GET", f"/v1/customers/{CUSTOMER}/signingKeys")
    assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=300")
    [shown] = answer.body["keys"]
    assert shown["kid"] == key.key_id == listed.body["signing_keys"][0]["key_id"]
    raw = base64.urlsafe_b64decode(shown["x"] + "=")
    assert "whpk_" + base64.b64encode(raw).decode() == key.public_key


async def test_a_customer_that_does_not_exist_is_answered_as_one_without_keys(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    await service.create_webhook("https://hooks.example.com/")
    async with Http(service) as http:
        for customer_id in (CUSTOMER, CUSTOMER + 1, 0, 2**63 - 1, 2**63):
            answer = await http.call("GET", f"/api/customers/{customer_id}/jwks.json")
            assert (answer.status, answer.body) == (200, {"keys": []})


class Held:
    """Reads that wait, and whose keys they were for."""

    def __init__(self) -> None:
        self.through = asyncio.Event()
        self.begun: list[Collection[int]] = []

    async def jwks(self, customer_ids: Collection[int]) -> Mapping[int, bytes]:
        self.begun.append(customer_ids)
        await self.through.wait()
        return {customer_id: b"%d" % customer_id for customer_id in customer_ids}


async def test_one_read_goes_on_at_a_time_for_all_who_came_and_too_many_are_refused() -> None:
    """Requests for made-up customers, again and again, hold up nobody who wants the keys of one that there is."""
    held = Held()
    route = JwksRoute(held)
    waiting = [asyncio.create_task(route.read(0), name="read 0")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first read has begun
    waiting += [asyncio.create_task(route.read(n // 2), name=f"read {n}") for n in range(WAITING_MAX - 1)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await route.read(WAITING_MAX)
    assert held.begun == [[0]]
    held.through.set()
    assert await asyncio.gather(*waiting) == [b"0", *(b"%d" % (n // 2) for n in range(WAITING_MAX - 1))]
    assert held.begun == [[0], list(range(1, WAITING_MAX // 2))], "what has just been read is kept"
    assert (await route.read(7), len(held.begun)) == (b"7", 2)
