"""The connection breaks after COMMIT, before the answer, under callers who have no request id to repeat it with."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import ServiceFactory

from .database import through
from .proxy import Proxy

_CALLERS: Final = 20
_CALLS_EACH: Final = 50  # 1,000 publishes
_LOST_MIN: Final = 20


@pytest.mark.slow
async def test_a_thousand_events_without_a_request_id_are_each_stored_and_delivered_once(
    receiver: Receiver, database_url: str, postgres: TestPostgres, data_dir: Path
) -> None:
    """While the answers of publishing statements are thrown away, one for every few acknowledgements."""
    proxy = Proxy.before(database_url)
    await proxy.start()
    services = ServiceFactory(through(database_url, proxy.port), data_dir)
    acknowledged: list[str] = []
    progress = asyncio.Event()

    async def lose() -> None:
        while True:
            await proxy.lose_answer(b"new_keys AS (", 60)
            progress.clear()
            await progress.wait()  # whoever lost an answer has got another: it is not lost to them three times

    try:
        service = await services.start()
        await service.create_webhook(receiver.url("/"))

        async def call() -> None:
            for _ in range(_CALLS_EACH):
                answer = await service.publish()
                assert (answer.duplicate, answer.delivery_count) == (False, 1)
                acknowledged.append(answer.event_id)
                progress.set()

        losing = asyncio.create_task(lose())
        async with asyncio.TaskGroup() as callers:
            for _ in range(_CALLERS):
                callers.create_task(call())
        losing.cancel()
        await asyncio.gather(losing, return_exceptions=True)
        assert proxy.lost_answers >= _LOST_MIN
        assert postgres.rows("SELECT count(*) FROM events") == [(len(set(acknowledged)),)]
        async with slowness.timeout(60):
            while postgres.rows("SELECT count(*) FROM deliveries") != [(0,)]:
                await asyncio.sleep(0.05)
        received = Counter(request.event_id for request in receiver.requests)
        assert received == dict.fromkeys(acknowledged, 1)
        assert len(acknowledged) == _CALLERS * _CALLS_EACH
    finally:
        await services.stop()
        await proxy.stop()
