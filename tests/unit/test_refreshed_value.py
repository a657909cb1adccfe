"""A value that is looked up again before it is too old: how old it may be, and how few look-ups that takes."""

from __future__ import annotations

import asyncio

import pytest

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.hub import refreshed_value
from webhook_grpc.hub.refreshed_value import Fresh

FRESH_SECONDS = 5.0


class Source:
    """What is looked up: a number that counts look-ups. Can be held up, and be away."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.count = 0
        self.known: list[int] = []
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def monotonic(self) -> float:
        self.now += 1e-6  # no two readings are the same
        return self.now

    async def look_up(self, known: int) -> int:
        self.known.append(known)
        self.count += 1
        number = self.count
        await self.may_answer.wait()
        if self.is_away:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        return number


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    source = Source()
    monkeypatch.setattr(refreshed_value, "time", source)
    return source


@pytest.fixture
def value(source: Source) -> Fresh[int]:
    return Fresh("number", 0, source.look_up, FRESH_SECONDS)


async def test_the_first_caller_waits_for_a_look_up_and_the_next_ones_do_not(value: Fresh[int], source: Source) -> None:
    assert value.known == 0
    assert [await value.get() for _ in range(3)] == [1, 1, 1]
    assert source.known == [0]


async def test_a_value_is_looked_up_again_when_it_is_too_old(value: Fresh[int], source: Source) -> None:
    await value.get()
    source.now += 0.9 * FRESH_SECONDS
    assert await value.get() == 1
    source.now += 0.2 * FRESH_SECONDS
    assert await value.get() == 2
    assert source.known == [0, 1], "a look-up is given what was known"


async def test_a_value_that_will_soon_be_too_old_is_looked_up_again_and_nobody_waits_for_it(
    value: Fresh[int], source: Source
) -> None:
    await value.get()
    source.may_answer.clear()
    source.now += 0.7 * FRESH_SECONDS
    assert [await value.get() for _ in range(10)] == [1] * 10
    while source.count < 2:
        await asyncio.sleep(0)
    source.now += 0.2 * FRESH_SECONDS  # so long the look-up takes
    source.may_answer.set()
    while value.known < 2:
        await asyncio.sleep(0)
    source.now += 0.3 * FRESH_SECONDS
    assert (await value.get(), source.count) == (2, 2)
    source.now += 0.2 * FRESH_SECONDS
    assert await value.get() == 2, "it is as old as the moment at which its look-up began"
    while source.count < 3:
        await asyncio.sleep(0)


async def test_a_look_up_before_the_time_that_fails_is_not_tried_again_before_the_value_is_too_old(
    value: Fresh[int], source: Source
) -> None:
    await value.get()
    source.is_away = True
    source.now += 0.7 * FRESH_SECONDS
    for _ in range(10):
        assert await value.get() == 1
        await asyncio.sleep(0)
    assert source.count == 2
    source.is_away = False
    source.now += 0.4 * FRESH_SECONDS
    assert await value.get() == 3


async def test_a_change_makes_the_known_value_too_old(value: Fresh[int]) -> None:
    await value.get()
    value.changed()
    assert await value.get() == 2
    assert await value.get() == 2


async def test_callers_at_the_same_time_share_a_look_up(value: Fresh[int], source: Source) -> None:
    assert await asyncio.gather(*(value.get() for _ in range(100))) == [1] * 100
    assert source.count == 1


async def test_a_change_during_a_look_up_makes_its_answer_too_old(value: Fresh[int], source: Source) -> None:
    source.may_answer.clear()
    first = asyncio.create_task(value.get())
    while not source.count:
        await asyncio.sleep(0)
    value.changed()
    second = asyncio.create_task(value.get())
    await asyncio.sleep(0)
    source.may_answer.set()
    assert (await first, await second) == (1, 2)


async def test_a_value_of_a_moment_or_later_is_looked_up_once(value: Fresh[int], source: Source) -> None:
    await value.get()
    assert await value.since(source.now - 100) == 1
    moment = source.monotonic()
    assert [await value.since(moment), await value.since(moment)] == [2, 2]


async def test_while_look_ups_fail_the_known_value_stays_in_use_and_few_are_made(
    value: Fresh[int], source: Source
) -> None:
    await value.get()
    source.now += 2 * FRESH_SECONDS
    source.is_away = True
    assert [await value.get() for _ in range(10)] == [1] * 10
    assert source.count == 2
    source.is_away = False
    source.now += 2 * FRESH_SECONDS
    assert await value.get() == 3


async def test_who_needs_a_newer_value_is_told_that_there_is_none(value: Fresh[int], source: Source) -> None:
    source.is_away = True
    with pytest.raises(Unavailable):
        await value.since(source.monotonic())


async def test_a_look_up_that_hangs_holds_nobody_up_for_long(
    value: Fresh[int], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshed_value, "_WAIT_SECONDS", 0.01)
    await value.get()
    source.now += 2 * FRESH_SECONDS
    source.may_answer.clear()
    assert await value.get() == 1
    source.may_answer.set()
    assert await value.since(source.now) == 3, "the answer that came late is of an earlier moment"


async def test_a_caller_that_gives_up_takes_the_answer_from_nobody(value: Fresh[int], source: Source) -> None:
    source.may_answer.clear()
    first, second = asyncio.create_task(value.get()), asyncio.create_task(value.get())
    while not source.count:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    source.may_answer.set()
    assert await second == 1
