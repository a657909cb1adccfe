"""Hints by topic: who hears them in this process, and what is sent to the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from webhook_grpc.domain.progress import Progress
from webhook_grpc.hub import hints as module
from webhook_grpc.hub.hints import Hints, Topic
from webhook_grpc.store.db import Params, Pooling


class Wire:
    """Both connections: keeps what is notified, and hands on what others are said to have notified."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.sent = asyncio.Queue[str]()
        self.hear: Callable[[str], None] | None = None
        self.listening = asyncio.Event()

    async def rows(self, _: str, params: Params = None) -> list[Any]:
        assert isinstance(params, tuple)
        self.sent.put_nowait(str(params[0]))
        return []

    async def listen(self, _: str, hear: Callable[[str], None], on_listening: Callable[[], None]) -> None:
        self.hear = hear
        on_listening()
        self.listening.set()
        await asyncio.Event().wait()


class Process:
    """A process with a handler for each topic that keeps what it hears."""

    def __init__(self, *, is_alone: bool = False, pooling: Pooling = Pooling.NONE) -> None:
        self.wire: Any = Wire()
        self.is_alone = is_alone
        self.heard: list[tuple[Topic, set[int]]] = []
        self.hints = Hints(self.wire, self.wire, lambda: self.is_alone, pooling)
        for topic in Topic:
            self.hints.subscribe(topic, self._keep(topic))

    def _keep(self, topic: Topic) -> Callable[[set[int]], None]:
        return lambda numbers: self.heard.append((topic, numbers))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        loops = [asyncio.create_task(loop) for loop in self.hints.loops().values()]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)


def say_everything(hints: Hints) -> None:
    hints.deliveries_due([3])
    hints.commanded({4, 5})
    hints.webhook_changed(7_000_000_001)
    hints.token_revoked(9)
    hints.logged()


HEARD = [
    (Topic.DUE, {3}),
    (Topic.COMMANDED, {4, 5}),
    (Topic.WEBHOOKS, {7_000_000_001}),
    (Topic.TOKENS, {9}),
    (Topic.LOG, set[int]()),
]


@pytest.mark.parametrize("is_alone", [True, False])
async def test_this_process_hears_its_own_hints_at_once(is_alone: bool) -> None:
    process = Process(is_alone=is_alone)
    say_everything(process.hints)
    assert process.heard == HEARD


async def test_the_others_hear_the_same_by_one_notification() -> None:
    first, second = Process(), Process()
    say_everything(first.hints)
    async with first.running(), second.running():
        payload = await first.wire.sent.get()
        await second.wire.listening.wait()
        second.wire.hear(payload)
    assert second.heard == HEARD
    assert payload.split()[0] == "d3"
    assert set(payload.split()) == {"d3", "c4", "c5", "w7000000001", "t9", "l"}, (
        "processes of other versions read this too"
    )


async def test_one_alone_sends_nothing_and_what_nobody_said_is_not_sent() -> None:
    process = Process(is_alone=True)
    say_everything(process.hints)
    process.is_alone = False
    process.hints.deliveries_due([])
    process.hints.commanded([])
    process.hints.logged()
    async with process.running():
        assert await process.wire.sent.get() == "l"


async def test_behind_a_transaction_pooler_nothing_is_sent_and_nobody_listens() -> None:
    process = Process(pooling=Pooling.TRANSACTION)
    say_everything(process.hints)
    async with process.running():
        for _ in range(10):
            await asyncio.sleep(0)
        assert process.wire.sent.empty()
        assert not process.wire.listening.is_set()
    assert process.heard == HEARD


async def test_a_payload_stays_within_what_postgres_takes() -> None:
    process = Process()
    process.hints.deliveries_due(range(64))
    process.hints.commanded(range(64))
    for number in range(1000):
        process.hints.webhook_changed(2**62 + number)
        process.hints.token_revoked(2**62 + number)
    process.hints.logged()
    async with process.running():
        payload = await process.wire.sent.get()
    assert len(payload) < 8000
    assert payload.count("w") == payload.count("t") == 170


@pytest.mark.parametrize("payload", ["", "x1", "d", "d123", "c-1", "w", "ll", "l1", "d1.5", "w" + "9" * 20, "D3", "d٣"])
async def test_words_that_are_not_ours_are_passed_over(payload: str) -> None:
    process = Process()
    async with process.running():
        await process.wire.listening.wait()
        process.wire.hear(payload + " l")
    assert process.heard == [(Topic.LOG, set[int]())]


async def test_notifications_are_sent_at_most_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SEND_INTERVAL_SECONDS", 3600.0)
    process = Process()
    process.hints.commanded([1])
    async with process.running():
        assert await process.wire.sent.get() == "c1"
        process.hints.commanded([2])
        for _ in range(10):
            await asyncio.sleep(0)
        assert process.wire.sent.empty()
