"""More calls than can be carried out wait in turn, by customer: in a bounded queue, for a bounded time."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import slowness
from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.server.admission import TurnLimits, Turns


class Crowd:
    """Calls that wait, by name; `served` has those that got a place, in order."""

    def __init__(
        self, at_once: int = 1, waiting_max: int = 100, seconds: float | None = None, bytes_max: int = 1_000_000
    ) -> None:
        seconds = slowness.scaled(60.0) if seconds is None else seconds
        self.turns = Turns(TurnLimits(at_once, waiting_max, bytes_max, seconds))
        self.served = list[str]()
        for _ in range(at_once):
            assert self.turns.take()

    async def come(self, *names: str, size_bytes: int = 1) -> list[asyncio.Task[None]]:
        """Calls of customers: the first letter of a name is the customer."""
        calls = [asyncio.create_task(self._call(name, size_bytes), name=name) for name in names]
        await settled()
        return calls

    async def serve(self, count: int) -> list[str]:
        """Ends so many calls, one after the other; returns which calls got their places."""
        before = len(self.served)
        for _ in range(count):
            self.turns.leave()
            await settled()
        return self.served[before:]

    async def _call(self, name: str, size_bytes: int) -> None:
        await self.turns.wait(name[0], size_bytes)
        self.served.append(name)


async def settled() -> None:
    """Lets every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def refusal(call: asyncio.Task[None]) -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        await call
    return caught.value


async def test_a_customer_that_floods_waits_behind_itself() -> None:
    crowd = Crowd()
    await crowd.come(*(f"flood {number}" for number in range(50)))
    await crowd.come("other 1", "other 2")
    assert await crowd.serve(5) == ["flood 0", "other 1", "flood 1", "other 2", "flood 2"]


async def test_a_place_is_free_again_when_nobody_waits() -> None:
    turns = Turns(TurnLimits(2, 10, 1000, 1.0))
    assert [turns.take() for _ in range(3)] == [True, True, False]
    turns.leave()
    assert [turns.take() for _ in range(2)] == [True, False]


async def test_nobody_overtakes_those_who_wait() -> None:
    crowd = Crowd()
    await crowd.come("a")
    crowd.turns.leave()
    assert not crowd.turns.take(), "the place belongs to the call that waited"
    await settled()
    assert crowd.served == ["a"]


async def test_the_queue_is_bounded_and_the_flood_is_refused_not_the_others() -> None:
    crowd = Crowd(waiting_max=10)
    flood = await crowd.come(*(f"flood {number}" for number in range(12)))
    assert crowd.turns.waiting_count == 10
    for call in flood[10:]:
        refused = await refusal(call)
        assert (refused.reason, refused.retry_seconds) == ("RATE_LIMITED", 1.0)
    await crowd.come("other")
    assert crowd.turns.waiting_count == 10
    await refusal(flood[9])
    assert await crowd.serve(3) == ["flood 0", "other", "flood 1"]


async def test_a_full_queue_of_equals_refuses_who_comes() -> None:
    crowd = Crowd(waiting_max=2)
    await crowd.come("a", "b")
    [late] = await crowd.come("c")
    await refusal(late)
    assert await crowd.serve(2) == ["a", "b"]


async def test_the_bytes_that_wait_are_bounded_and_the_flood_is_refused_not_the_others() -> None:
    crowd = Crowd(bytes_max=1000)
    flood = await crowd.come(*(f"flood {number}" for number in range(10)), size_bytes=100)
    small = await crowd.come("small 1", "small 2", size_bytes=100)
    assert [call.done() for call in flood] == [False] * 8 + [True] * 2
    for call in flood[8:]:
        assert "have 1000 bytes already" in (await refusal(call)).message
    [more] = await crowd.come("flood 10", size_bytes=1)
    await refusal(more)
    [large] = await crowd.come("large", size_bytes=500)
    await refusal(large)
    assert not any(call.done() for call in flood[:8]), "nobody has left for one that is refused"
    await crowd.come("large", size_bytes=300)
    assert [call.done() for call in flood] == [False] * 5 + [True] * 5
    assert not any(call.done() for call in small)
    assert await crowd.serve(5) == ["flood 0", "small 1", "large", "flood 1", "small 2"]
    [later] = await crowd.come("x", size_bytes=700)
    assert not later.done(), "the bytes of calls that were served are free again"


async def test_a_call_that_waits_too_long_is_refused_and_leaves_the_queue() -> None:
    crowd = Crowd(seconds=0.01)
    [call] = await crowd.come("a")
    assert "for its turn" in (await refusal(call)).message
    assert crowd.turns.waiting_count == 0
    crowd.turns.leave()
    assert crowd.turns.take()


async def test_a_caller_that_leaves_leaves_the_queue() -> None:
    crowd = Crowd()
    leaving, _ = await crowd.come("a", "b")
    leaving.cancel()
    await asyncio.wait([leaving])
    assert crowd.turns.waiting_count == 1
    assert await crowd.serve(1) == ["b"]


@pytest.mark.parametrize("is_first", ["the place comes", "the caller leaves"])
async def test_a_place_that_comes_as_its_caller_leaves_goes_to_the_next(is_first: str) -> None:
    crowd = Crowd()
    leaving, _ = await crowd.come("a", "b")
    if is_first == "the place comes":
        crowd.turns.leave()
        leaving.cancel()
    else:
        leaving.cancel()
        crowd.turns.leave()
    await settled()
    assert leaving.cancelled()
    assert crowd.served == ["b"]
    assert await crowd.serve(1) == []
    assert crowd.turns.take()
    assert not crowd.turns.take()
