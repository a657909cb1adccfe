"""Group commit: sharing, bounds, poison, cancellation. No database: the flush is a function."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.support import slowness
from webhook_grpc.domain.errors import InvalidArgument, Overloaded, Unavailable
from webhook_grpc.hub import group_commit
from webhook_grpc.hub.group_commit import GroupCommit, GroupLimits
from webhook_grpc.store.connection.failures import StoreRefusal

LIMITS = GroupLimits(batch_count=10, batch_weight=1000, waiting_count=30, waiting_bytes=3000)


def weight(item: int) -> int:
    """Items from 100 on weigh what they are; ten of the others fill a statement."""
    return max(item, 100)


class Flushes:
    """Records batches; each waits until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.started = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[str | Exception]:
        self.batches.append(list(items))
        self.started.set()
        if -4 in items:  # never ends by itself
            await asyncio.Event().wait()
        await self.gate.wait()
        if -1 in items:
            raise StoreRefusal("22021")
        if -2 in items:
            raise ConnectionError("gone")
        if -3 in items:
            raise Unavailable("STORAGE_UNAVAILABLE", "no answer") from TimeoutError()
        return [f"answer {item}" for item in items]


@pytest.fixture
async def flushes() -> Flushes:
    return Flushes()


@pytest.fixture
async def group(flushes: Flushes) -> AsyncGenerator[GroupCommit[int, str]]:
    group = GroupCommit[int, str](flushes, lambda _: 100, weight, LIMITS, lambda item: item)
    loop = asyncio.create_task(group.run())
    yield group
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_a_lone_caller_waits_for_nobody(group: GroupCommit[int, str], flushes: Flushes) -> None:
    flushes.gate.set()
    assert await group.submit([1]) == ["answer 1"]
    assert flushes.batches == [[1]]


async def test_callers_that_come_during_a_flush_share_the_next(group: GroupCommit[int, str], flushes: Flushes) -> None:
    first = asyncio.create_task(group.submit([0]))
    await flushes.started.wait()
    others = [asyncio.create_task(group.submit([number, number])) for number in range(1, 4)]
    await asyncio.sleep(0)
    flushes.gate.set()
    assert await first == ["answer 0"]
    assert await asyncio.gather(*others) == [[f"answer {number}"] * 2 for number in range(1, 4)]
    assert flushes.batches == [[0], [1, 1, 2, 2, 3, 3]]


async def test_a_crowd_that_calls_again_soon_shares_the_next_statement(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    async def call_twice(number: int) -> None:
        await group.submit([number])
        for _ in range(number):  # turns of the loop
            await asyncio.sleep(0)
        await group.submit([10 + number])

    flushes.gate.set()
    await asyncio.gather(*(call_twice(number) for number in range(4)))
    assert flushes.batches == [[0, 1, 2, 3], [10, 11, 12, 13]]


@pytest.mark.parametrize(
    ("callers", "turn_seconds", "turns_left"),  # after the one in which the callers go on
    [(3, 0.0, 0), (4, 0.0, group_commit._GATHERING_TURNS_MAX - 1), (4, 0.01, 0)],  # pyright: ignore[reportPrivateUsage]
)
async def test_turns_are_left_to_a_crowd_but_not_if_others_fill_them(
    group: GroupCommit[int, str],
    flushes: Flushes,
    monkeypatch: pytest.MonkeyPatch,
    callers: int,
    turn_seconds: float,
    turns_left: int,
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(group_commit.time, "thread_time", lambda: next(clock) * turn_seconds)
    others = [asyncio.create_task(group.submit([number])) for number in range(callers)]
    await flushes.started.wait()
    behind = asyncio.create_task(group.submit([5]))
    await asyncio.sleep(0)
    flushes.gate.set()
    while not others[0].done():
        await asyncio.sleep(0)
    turns = 0
    while len(flushes.batches) < 2:
        await asyncio.sleep(0)
        turns += 1
    assert turns == turns_left
    await behind


@pytest.mark.parametrize("callers", [1, 3])
async def test_after_a_statement_of_few_callers_nobody_waits_for_others(
    group: GroupCommit[int, str], flushes: Flushes, callers: int
) -> None:
    flushes.gate.set()
    await asyncio.gather(*(group.submit([number]) for number in range(callers)))
    second = asyncio.create_task(group.submit([10]))
    await asyncio.sleep(0)
    third = asyncio.create_task(group.submit([11]))
    await asyncio.gather(second, third)
    assert flushes.batches == [list(range(callers)), [10], [11]]


async def test_a_batch_has_a_bound(group: GroupCommit[int, str], flushes: Flushes) -> None:
    flushes.gate.set()
    await asyncio.gather(*(group.submit([number] * 4) for number in range(5)))
    assert max(len(batch) for batch in flushes.batches) <= LIMITS.batch_count


async def test_a_caller_with_more_than_a_batch_is_served_whole_in_several(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    flushes.gate.set()
    assert await group.submit(list(range(25))) == [f"answer {number}" for number in range(25)]
    assert [len(batch) for batch in flushes.batches] == [10, 10, 5]


async def test_what_weighs_much_gets_smaller_batches(group: GroupCommit[int, str], flushes: Flushes) -> None:
    """An event that goes to many webhooks is many rows."""
    flushes.gate.set()
    await group.submit([400, 400, 400, 5000, 1, 1])
    assert flushes.batches == [[400, 400], [400], [5000], [1, 1]]


async def test_too_much_waiting_is_refused_and_the_waiting_are_served(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    first = asyncio.create_task(group.submit([0]))
    await flushes.started.wait()
    waiting = [asyncio.create_task(group.submit([number] * 10)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await group.submit([9])
    flushes.gate.set()
    await asyncio.gather(first, *waiting)


async def test_a_poison_item_fails_alone(group: GroupCommit[int, str], flushes: Flushes) -> None:
    flushes.gate.set()
    answers = await group.submit([1, 2, -1, 3, 4])
    assert [answer for answer in answers if isinstance(answer, str)] == [f"answer {n}" for n in (1, 2, 3, 4)]
    assert isinstance(answers[2], InvalidArgument)


async def test_a_lost_connection_is_told_to_everybody_and_not_bisected(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    flushes.gate.set()
    answers = await group.submit([1, -2, 3])
    assert all(isinstance(answer, ConnectionError) for answer in answers)
    assert len(flushes.batches) == 1
    assert await group.submit([5]) == ["answer 5"]


async def test_a_cancelled_caller_disturbs_nobody(group: GroupCommit[int, str], flushes: Flushes) -> None:
    callers = [asyncio.create_task(group.submit([number])) for number in range(3)]
    await flushes.started.wait()
    callers[1].cancel()
    flushes.gate.set()
    assert await callers[0] == ["answer 0"]
    assert await callers[2] == ["answer 2"]


async def test_whoever_waits_when_it_ends_is_cancelled(flushes: Flushes) -> None:
    group = GroupCommit[int, str](flushes, lambda _: 1, weight, LIMITS)
    loop = asyncio.create_task(group.run())
    callers = [asyncio.create_task(group.submit([number])) for number in range(2)]
    await flushes.started.wait()
    loop.cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


# --- turns -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def by_tens(flushes: Flushes) -> AsyncGenerator[GroupCommit[int, str]]:
    """Callers whose items share the tens are of one customer."""
    group = GroupCommit[int, str](flushes, lambda _: 100, weight, LIMITS, lambda item: item // 10)
    loop = asyncio.create_task(group.run())
    yield group
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_whoever_floods_waits_behind_itself(by_tens: GroupCommit[int, str], flushes: Flushes) -> None:
    calls = [asyncio.create_task(by_tens.submit([10]))]
    await flushes.started.wait()
    calls += [asyncio.create_task(by_tens.submit([11])) for _ in range(14)]
    await asyncio.sleep(0)
    calls.append(asyncio.create_task(by_tens.submit([20])))
    await asyncio.sleep(0)
    flushes.gate.set()
    await asyncio.gather(*calls)
    assert flushes.batches[1][:2] == [11, 20], "the newcomer is second, not fifteenth"


async def test_one_customer_may_not_take_all_the_room_that_there_is_to_wait(
    by_tens: GroupCommit[int, str], flushes: Flushes
) -> None:
    calls = [asyncio.create_task(by_tens.submit([10]))]
    await flushes.started.wait()
    calls += [asyncio.create_task(by_tens.submit([11])) for _ in range(15)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await by_tens.submit([12])
    calls += [asyncio.create_task(by_tens.submit([20])) for _ in range(15)]
    await asyncio.sleep(0)
    flushes.gate.set()
    answers = await asyncio.gather(*calls)
    assert len(answers) == 31


# --- callers that have gone, and statements that time out ------------------------------------------------------------


async def _gone(caller: asyncio.Task[list[str | Exception]]) -> None:
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)


async def test_what_a_caller_that_has_gone_had_waiting_is_not_flushed(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    first = asyncio.create_task(group.submit([0]))
    await flushes.started.wait()
    callers = [asyncio.create_task(group.submit([number])) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    await _gone(callers[1])
    flushes.gate.set()
    await asyncio.gather(first, callers[0], callers[2])
    assert flushes.batches == [[0], [1, 3]]


async def test_callers_that_have_gone_take_no_room(group: GroupCommit[int, str], flushes: Flushes) -> None:
    """Otherwise the repetitions of a crowd would fill what may wait with what nobody waits for."""
    first = asyncio.create_task(group.submit([0]))
    await flushes.started.wait()
    for _ in range(10):
        waiting = [asyncio.create_task(group.submit([number] * 10)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        for caller in waiting:
            await _gone(caller)
    flushes.gate.set()
    await first
    assert await group.submit([4]) == ["answer 4"]
    assert flushes.batches == [[0], [4]]


async def test_when_all_have_gone_nothing_is_flushed(flushes: Flushes) -> None:
    group = GroupCommit[int, str](flushes, lambda _: 1, weight, LIMITS)
    caller = asyncio.create_task(group.submit([1]))
    await asyncio.sleep(0)
    await _gone(caller)
    loop = asyncio.create_task(group.run())
    flushes.gate.set()
    assert await group.submit([2]) == ["answer 2"]
    assert flushes.batches == [[2]]
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


@pytest.fixture
def short_desertion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_DESERTED_SECONDS", 0.0)


@pytest.mark.usefixtures("short_desertion")
async def test_a_statement_ends_when_the_last_of_its_callers_has_gone(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    first = asyncio.create_task(group.submit([-4]))
    await flushes.started.wait()
    second = asyncio.create_task(group.submit([1]))
    await asyncio.sleep(0)
    flushes.gate.set()
    await _gone(first)
    async with slowness.timeout(10):
        assert await second == ["answer 1"]
    assert flushes.batches == [[-4], [1]]


@pytest.mark.usefixtures("short_desertion")
async def test_a_statement_goes_on_as_long_as_one_of_its_callers_waits(
    group: GroupCommit[int, str], flushes: Flushes
) -> None:
    lone = asyncio.create_task(group.submit([0]))
    await flushes.started.wait()
    callers = [asyncio.create_task(group.submit([number])) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    flushes.started.clear()
    flushes.gate.set()
    await lone
    flushes.gate.clear()
    await flushes.started.wait()
    for caller in callers[:2]:
        await _gone(caller)
    flushes.gate.set()
    assert await callers[2] == ["answer 3"]


@pytest.mark.symptom("given up")
async def test_the_next_statements_are_smaller_after_one_that_timed_out_and_grow_again(flushes: Flushes) -> None:
    limits = GroupLimits(batch_count=100, batch_weight=10_000, waiting_count=10_000, waiting_bytes=10**6)
    group = GroupCommit[int, str](flushes, lambda _: 1, lambda _: 1, limits)
    loop = asyncio.create_task(group.run())
    flushes.gate.set()
    assert all(isinstance(answer, Unavailable) for answer in await group.submit([-3] * 100))
    await group.submit(list(range(400)))
    assert [len(batch) for batch in flushes.batches] == [100, 50, 100, 100, 100, 50]
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_a_lost_connection_does_not_make_statements_smaller(flushes: Flushes) -> None:
    limits = GroupLimits(batch_count=100, batch_weight=10_000, waiting_count=10_000, waiting_bytes=10**6)
    group = GroupCommit[int, str](flushes, lambda _: 1, lambda _: 1, limits)
    loop = asyncio.create_task(group.run())
    flushes.gate.set()
    await group.submit([-2] * 100)
    await group.submit(list(range(100)))
    assert [len(batch) for batch in flushes.batches] == [100, 100]
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
