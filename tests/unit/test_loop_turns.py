"""Turns of the event loop: a crowd is spread over them, and customers take turns."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import UUID

from webhook_grpc.domain.crowds import Spacing
from webhook_grpc.hub.log.batches import Batch
from webhook_grpc.hub.log.tail import Subscription
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


SPACED = Spacing(turns=8, seconds_max=60.0)  # so that turns alone count, however slow the machine is


async def test_a_spaced_crowd_leaves_turns_of_the_loop_to_others() -> None:
    turns, called = LoopTurns(SPACED), list[int]()
    for number in range(5):
        turns.soon("crowd", lambda number=number: called.append(number))

    count = 0
    while len(called) < 5:
        await asyncio.sleep(0)  # one turn of the loop
        count += 1
    assert count == 2 + 3 * SPACED.turns


async def test_watchers_who_have_left_make_nobody_wait() -> None:
    turns = LoopTurns(SPACED)
    leaving = [asyncio.create_task(turns.wait("crowd")) for _ in range(100)]
    staying = asyncio.create_task(turns.wait("crowd"))
    await asyncio.sleep(0)  # now all of them wait
    for task in leaving:
        task.cancel()

    count = 0
    while not staying.done():
        await asyncio.sleep(0)  # one turn of the loop
        count += 1
    assert count <= 2 * SPACED.turns + 4


async def test_a_subscription_that_ends_gives_its_turn_up() -> None:
    turns = LoopTurns(SPACED)
    crowd = [Subscription(UUID(int=0), (), 100, "crowd", turns) for _ in range(100)]
    watchers = [asyncio.create_task(subscription.take(60)) for subscription in crowd]
    await asyncio.sleep(0)  # now all of them wait
    for subscription in crowd:
        subscription.offer(Batch((), cast("Any", [object()]), ()))
    for subscription in crowd[:-1]:
        subscription.leave()

    count = 0
    while not watchers[-1].done():
        await asyncio.sleep(0)  # one turn of the loop
        count += 1
    assert count <= SPACED.turns
    for watcher in watchers:
        watcher.cancel()


async def test_when_the_process_stops_a_crowd_waits_for_no_turns() -> None:
    turns, called = LoopTurns(SPACED), list[int]()
    for number in range(50):
        turns.soon("crowd", lambda number=number: called.append(number))
    turns.hurry()

    count = 0
    while len(called) < 50:
        await asyncio.sleep(0)  # one turn of the loop
        count += 1
    assert count <= 51


async def test_a_heartbeat_that_is_due_takes_nothing_before_its_turn() -> None:
    turns = LoopTurns(SPACED)
    subscription = Subscription(UUID(int=0), (), 100, "crowd", turns)
    turns.soon("crowd", lambda: None)
    turns.soon("crowd", lambda: None)
    batch = Batch((), cast("Any", [object()]), ())
    subscription.offer(batch)
    assert await subscription.take(0) == []
    assert await subscription.take(60) == [batch]
