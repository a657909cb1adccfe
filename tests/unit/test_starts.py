"""When attempts are started: at once if that is asked for, and no more than a few in a turn of the event loop."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.loop_turns import LoopTurns
from webhook_grpc.engine.dispatcher import Dispatcher, DispatchLimits

STARTS_PER_TURN = 8


class Lanes:
    """Lanes that have so many deliveries to start, and count those that were taken in each turn of the loop."""

    in_flight = 0
    next_gate_at = math.inf

    def __init__(self, waiting: int, turns: LoopTurns) -> None:
        self.waiting = waiting
        self.taken = Counter[int]()
        self._turns = turns

    def open_gates(self, _: float) -> bool:
        return False

    def next(self, _: float) -> Any:
        if not self.waiting:
            return None
        self.waiting -= 1
        self.taken[self._turns.now] += 1
        return SimpleNamespace(delivery=SimpleNamespace(webhook_id=1))

    def put_back(self, _: Any) -> None:
        """At the end of a test the attempts are cancelled."""

    def finished(self, _: Any, __: float) -> None:
        pass


def dispatcher_of(lanes: Lanes) -> Dispatcher:
    async def run(*_: object) -> None:
        await asyncio.Event().wait()

    attempts, others = SimpleNamespace(run=run, paused_until=0.0), SimpleNamespace(may_send=True, is_current=True)
    limits, none = DispatchLimits(1000, 1000, 1000, 1.0), cast("Any", [])
    of_engine = cast("Any", others)
    return Dispatcher(limits, of_engine, cast("Any", lanes), of_engine, cast("Any", attempts), none, none)


async def test_what_is_new_is_started_in_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(3, LoopTurns(monkeypatch))
    dispatcher_of(lanes).start()
    assert not lanes.waiting


async def test_a_bug_in_a_start_is_reported_and_fails_nobody_who_has_published(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Lanes):
        def open_gates(self, _: float) -> bool:
            raise ZeroDivisionError

    lanes, reported = Broken(1, LoopTurns(monkeypatch)), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what["exception"]))
    dispatcher_of(lanes).start()
    assert [type(error) for error in reported] == [ZeroDivisionError]


@pytest.mark.parametrize("asks", [("start",), ("start_soon",), ("start_soon", "start"), ("start", "start_soon")])
async def test_few_are_started_in_a_turn_however_often_it_is_asked_for(
    asks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = Lanes(100, LoopTurns(monkeypatch))
    dispatcher = dispatcher_of(lanes)

    async def ask_in_each_turn(turns_before: int) -> None:
        for _ in range(turns_before):
            await asyncio.sleep(0)
        while lanes.waiting:
            for ask in asks:
                getattr(dispatcher, ask)()
            await asyncio.sleep(0)

    await asyncio.gather(ask_in_each_turn(1), ask_in_each_turn(0))  # before the dispatcher's own step, and behind it
    assert max(lanes.taken.values()) == STARTS_PER_TURN
    assert max(lanes.taken) - min(lanes.taken) + 1 == math.ceil(100 / STARTS_PER_TURN), "no turn is left out"
