"""/metrics: who may read it, and that its numbers are right."""

from __future__ import annotations

from tests.support.receiver import Receiver, answer
from tests.support.service import ServiceFactory

from .client import Http


async def test_smoke(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(http_address="127.0.0.1:0", metrics_poll_seconds=0.1)
    await service.create_webhook(receiver.url("/ok"))
    await service.create_webhook(receiver.on("/bad", answer(500)))
    async with service.watching() as watch:
        await service.publish_many(3)
        await watch.until_ended(6)
    async with Http(service) as http:
        answered = await http.get("/metrics")
        print(answered.text)
        assert answered.status == 200
    raise AssertionError
