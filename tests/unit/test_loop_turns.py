"""Turns of the event loop: a crowd is spread over them, and customers take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from webhook_grpc.hub import turns as hub_turns
from webhook_grpc.hub.log.batches import Batch
from webhook_grpc.hub.log.tail import Subscription
from webhook_grpc.hub.short_calls import ShortCalls
from webhook_grpc.hub.turns import LoopTurns


async def test_of_a_crowd_only_one_gets_to_work_in_a_turn_of_the_loop() -> None:
    turns, called = LoopTurns(), list[int]()
    for number in range(10):
        turns.soon("crowd", lambda number=number: called.append(number))

    counts = list[int]()
    while len(called) < 10:
        await asyncio.sleep(0)  # one turn of the loop
        counts.append(len(called))

    assert called == list(range(10)), "each once, in their order"
    assert counts == list(range(1, 11))


async def test_another_customer_does_not_wait_for_the_crowd() -> None:
    turns, called = LoopTurns(), list[str]()
    for _ in range(100):
        turns.soon("crowd", lambda: called.append("crowd"))
    turns.soon("other", lambda: called.append("other"))

    while "other" not in called:
        await asyncio.sleep(0)  # one turn of the loop

    assert called[:2] == ["crowd", "other"]


async def test_who_leaves_while_it_waits_holds_up_nobody() -> None:
    turns = LoopTurns()
    leaving, staying = (asyncio.create_task(turns.wait("crowd")) for _ in range(2))
    await asyncio.sleep(0)  # now both wait
    leaving.cancel()
    await staying
    await turns.wait("crowd")  # the lines are empty again, and begin again
    assert leaving.cancelled()


async def test_a_change_wakes_the_watchers_of_a_crowd_in_turns() -> None:
    turns, awake = LoopTurns(), list[int]()
    crowd = [Subscription(UUID(int=0), (), 100, "crowd", turns) for _ in range(20)]
    batch = Batch((), cast("Any", [object()]), ())

    async def watch(number: int) -> None:
        while await crowd[number].take(60) == []:
            pass
        awake.append(number)

    tasks = [asyncio.create_task(watch(number)) for number in range(len(crowd))]
    await asyncio.sleep(0)  # now all of them wait
    for subscription in crowd:
        subscription.offer(batch)
        subscription.offer(batch)  # a second change before the turn waits for the same turn

    most, before = 0, 0
    while len(awake) < len(crowd):
        await asyncio.sleep(0)  # one turn of the loop
        most, before = max(most, len(awake) - before), len(awake)
    assert most == 1
    await asyncio.gather(*tasks)


# --- while others make calls ------------------------------------------------------------------------------------------

PIECE_SECONDS = 0.002
SHARE = 0.2


class Crowd:
    """Pieces of work of several customers, each of which takes PIECE_SECONDS of a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.calls = ShortCalls()
        self.turns = LoopTurns(self.calls, SHARE)
        self.began = list[tuple[str, float]]()
        self._timers = list[tuple[float, Callable[[], None]]]()
        self._tasks = list[asyncio.Task[None]]()
        monkeypatch.setattr(hub_turns, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> object:
        timer = (self.now + seconds, call)
        self._timers.append(timer)
        return SimpleNamespace(cancel=lambda: self._timers.remove(timer))

    def note(self, whose: str) -> None:
        """Lets a customer have made a call a moment ago."""
        self.calls.begin(whose, self.now)
        self.calls.end(whose, self.now)

    def join(self, whose: str, count: int) -> None:
        """Adds pieces of a customer."""
        self._tasks += [asyncio.create_task(self._piece(whose)) for _ in range(count)]

    async def _piece(self, whose: str) -> None:
        await self.turns.wait(whose)
        self.began.append((whose, self.now))
        self.now += PIECE_SECONDS

    async def work(self) -> Sequence[str]:
        """Lets the loop turn until all that is left waits for timers; returns whose pieces were done, in order."""
        before = len(self.began)
        for _ in range(100):  # turns of the loop, more than any test needs
            await asyncio.sleep(0)
        return [whose for whose, _ in self.began[before:]]

    def ring(self) -> None:
        """Lets time pass until the next timer, while the caller goes on with its calls."""
        at, call = min(self._timers, key=lambda timer: timer[0])
        self._timers.remove((at, call))
        self.now = max(self.now, at)
        self.note("caller")
        call()

    async def end(self) -> float:
        """Works until nothing is left; returns the seconds that the test has taken on its clock."""
        await self.work()
        while self._timers:
            self.ring()
            await self.work()
        await asyncio.gather(*self._tasks)
        return self.now - 1000.0


@pytest.fixture
async def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(monkeypatch)


async def test_a_crowd_gets_its_share_while_another_customer_makes_calls(crowd: Crowd) -> None:
    crowd.note("caller")
    crowd.join("crowd", 50)
    seconds = await crowd.end()
    # A piece that waits already gets its turn before the pause of the one before it: so much is less exact.
    assert 50 * PIECE_SECONDS / SHARE * 0.8 <= seconds <= 50 * PIECE_SECONDS / SHARE * 1.05


async def test_several_crowds_get_that_share_together(crowd: Crowd) -> None:
    crowd.note("caller")
    for whose in "abcde":
        crowd.join(whose, 20)
    seconds = await crowd.end()
    assert seconds >= 100 * PIECE_SECONDS / SHARE * 0.8
    counts = Counter(whose for whose, _ in crowd.began[:50])
    assert max(counts.values()) - min(counts.values()) <= 3, "in turn"


@pytest.mark.parametrize("caller", ["crowd", None], ids=["the crowd's own calls", "nobody's"])
async def test_a_crowd_pauses_for_nobody_else(crowd: Crowd, caller: str | None) -> None:
    """Its customer's own calls do not count: it is not kept from what it is waiting for."""
    if caller is not None:
        crowd.note(caller)
    crowd.join("crowd", 50)
    assert await crowd.work() == ["crowd"] * 50


async def test_a_crowd_does_little_while_a_call_is_in_progress(crowd: Crowd) -> None:
    crowd.calls.begin("caller", crowd.now)
    crowd.join("crowd", 20)
    assert await crowd.end() >= 20 * hub_turns.PAUSE_SECONDS_BESIDE_CALLS * 0.8, "more than its share asks for"


async def test_a_customer_with_one_piece_does_not_wait_for_a_crowd_that_pauses(crowd: Crowd) -> None:
    crowd.note("caller")
    crowd.join("crowd", 50)
    assert len(await crowd.work()) < 50
    crowd.join("light", 1)
    assert await crowd.work() == ["light"]
    await crowd.end()


async def test_a_crowd_that_comes_one_by_one_pauses_as_well(crowd: Crowd) -> None:
    """One watcher that streams without end has no line behind it."""
    crowd.note("caller")
    for _ in range(10):
        crowd.join("crowd", 1)
        await crowd.work()
    assert len(crowd.began) < 5
    assert await crowd.end() >= 10 * PIECE_SECONDS / SHARE * 0.8


async def test_nobody_pauses_any_more_when_the_process_stops(crowd: Crowd) -> None:
    crowd.note("caller")
    crowd.join("crowd", 50)
    done = await crowd.work()
    crowd.turns.hurry()
    assert len(done) + len(await crowd.work()) == 50


async def test_a_change_that_a_watcher_does_not_want_wakes_it_not_and_moves_its_position() -> None:
    turns, called = LoopTurns(), list[str]()
    subscription = Subscription(UUID(int=0), (0,), 100, "whose", turns, lambda batch: bool(batch.after[0] == 3))
    watcher = asyncio.create_task(subscription.take(60))
    await asyncio.sleep(0)  # now it waits
    for number in range(1, 4):
        assert not watcher.done(), called
        subscription.offer(Batch((number - 1,), cast("Any", [object()]), (number,)))
        await asyncio.sleep(0)
    passed, wanted = await watcher
    assert (passed.before, passed.changes, passed.after) == ((0,), (), (2,))
    assert (wanted.before, wanted.after) == ((2,), (3,))
