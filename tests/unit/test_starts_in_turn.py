"""How many attempts the dispatcher starts in one turn of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import cycle
from types import SimpleNamespace
from typing import Any, cast

import pytest

from webhook_grpc.engine.dispatcher import Dispatcher, DispatchLimits
from webhook_grpc.hub.short_calls import ShortCalls

FLOOD, CALLER = 1, 2


class Started:
    """A dispatcher whose lanes never run dry, those of these customers in turn; counts what it starts."""

    def __init__(self, *customers: int) -> None:
        self.calls = ShortCalls()
        self.by_customer = Counter[int]()
        self._customers = cycle(customers)
        always = SimpleNamespace(may_send=True, is_current=True, paused_until=0.0)
        parts: list[Any] = [always, self, always, SimpleNamespace(run=self._run, paused_until=0.0), [], self]
        self.dispatcher = Dispatcher(DispatchLimits(1000, 1000, 1000, 1.0), *cast("Any", parts), short_calls=self.calls)

    in_flight = 0

    def open_gates(self, _: float) -> bool:
        return False

    def next(self, _: float) -> Any:
        customer_id = next(self._customers)
        self.by_customer[customer_id] += 1
        return SimpleNamespace(delivery=SimpleNamespace(customer_id=customer_id, webhook_id=customer_id))

    def put_back(self, _: object) -> None:
        pass

    def finished(self, *_: object) -> None:
        pass

    async def _run(self, *_: object) -> None:
        await asyncio.Event().wait()

    async def turn(self) -> Counter[int]:
        """Lets the dispatcher start what it starts in one turn of the loop; returns how many of each customer."""
        self.by_customer.clear()
        self.dispatcher.start_soon()
        await asyncio.sleep(0)
        return self.by_customer.copy()


@pytest.mark.parametrize("caller", [None, FLOOD], ids=["nobody calls", "the customer itself calls"])
async def test_a_turn_starts_several_attempts(caller: int | None) -> None:
    started = Started(FLOOD)
    if caller is not None:
        started.calls.begin(caller, time.monotonic())
    assert (await started.turn())[FLOOD] > 1
    await started.dispatcher.drain(0)


async def test_a_turn_starts_one_attempt_of_a_flood_while_another_customer_makes_a_call() -> None:
    started = Started(FLOOD, CALLER)
    started.calls.begin(CALLER, time.monotonic())
    assert await started.turn() == {FLOOD: 1}
    assert await started.turn() == {CALLER: 1, FLOOD: 1}, "whoever calls is not held back, and the flood goes on"
    await started.dispatcher.drain(0)
