"""The runner of replays: how much it chooses in a turn, and that it looks ever more rarely at what is stuck."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tests.support import store
from webhook_grpc.domain.replay import ReplaySpec, ReplayStatus
from webhook_grpc.engine.duties import replays as engine
from webhook_grpc.engine.duties.replays import Replays
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.replays import progress, selection
from webhook_grpc.store.replays.progress import ReplayWebhook, UnsettledReplay
from webhook_grpc.store.replays.selection import Choice

POLL_SECONDS = 0.25
STUCK, LIVELY = 1, 2


class Looks:
    """A runner of two replays with a clock of its own: which replays it has looked at, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.at: dict[int, list[float]] = {STUCK: [], LIVELY: []}
        self.with_turns = {LIVELY}
        self.spec = ReplaySpec(42, (), (), (), include_undelivered=True, start_time=_DAY, end_time=_DAY)
        shards: Any = SimpleNamespace(sendable=frozenset({0}))
        self.commanded: list[int] = []
        hints: Any = SimpleNamespace(commanded=self.commanded.extend)
        connection = LoopConnection(store.options(""), "replays")  # nothing is connected
        self.replays = Replays(connection, shards, hints, POLL_SECONDS, 100)
        monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(progress, "unsettled", self._unsettled)
        monkeypatch.setattr(progress, "webhooks_with_room", self._turns)
        monkeypatch.setattr(progress, "advance", self._advance)

    async def look(self, count: int) -> None:
        for _ in range(count):
            self.now += POLL_SECONDS
            await self.replays._look()  # pyright: ignore[reportPrivateUsage]

    async def _unsettled(self, *_: object) -> list[UnsettledReplay]:
        return [
            UnsettledReplay(replay_id, self.spec, ReplayStatus.RUNNING, is_exhausted=False, is_waiting=True)
            for replay_id in self.at
        ]

    async def _turns(self, _: object, replay: UnsettledReplay, pending_max: int) -> list[ReplayWebhook]:
        self.at[replay.replay_id].append(self.now)
        is_turn = replay.replay_id in self.with_turns
        return [ReplayWebhook(replay.replay_id, self.spec, 1, UUID(int=0), False, pending_max)] * is_turn

    async def _advance(self, _: object, __: ReplayWebhook, choice: Choice) -> int:
        assert choice == Choice([], None), "the webhook is switched off"
        return 0


_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class OneTurn:
    """A turn of a webhook, `pending_count` of whose deliveries wait, at events of which every `nth` fits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pending_count: int, nth: int) -> None:
        self.looks = Looks(monkeypatch)
        self.turn = ReplayWebhook(1, self.looks.spec, 7, UUID(int=0), is_switched_on=True, pending_count=pending_count)
        self.nth = nth
        self.batches: list[int] = []
        self.chosen: list[int] = []
        monkeypatch.setattr(selection, "choose", self._choose)
        monkeypatch.setattr(progress, "advance", self._advance)

    async def take(self, events_max: int) -> None:
        await self.looks.replays._advance(self.turn, events_max)  # pyright: ignore[reportPrivateUsage]

    async def _choose(
        self, _: object, __: ReplaySpec, webhook_ids: Sequence[int], position: UUID, events_max: int
    ) -> Choice:
        assert list(webhook_ids) == [7]
        self.batches.append(events_max)
        looked_at = range(position.int + 1, position.int + 1 + events_max)
        return Choice([(UUID(int=n), 7) for n in looked_at if n % self.nth == 0], UUID(int=looked_at[-1]))

    async def _advance(self, _: object, turn: ReplayWebhook, choice: Choice) -> int:
        assert turn.position.int == sum(self.batches[:-1])
        self.chosen.append(len(choice.pairs))
        return len(choice.pairs)


@pytest.mark.parametrize("pending_count", [0, 1, 50])
async def test_no_more_is_chosen_than_may_wait_with_what_waits_already(
    monkeypatch: pytest.MonkeyPatch, pending_count: int
) -> None:
    one = OneTurn(monkeypatch, pending_count, nth=1)
    await one.take(16_000)
    assert one.chosen == [100 - pending_count]
    assert one.looks.commanded == [7]


async def test_batches_grow_while_little_fits_and_a_turn_ends_with_its_share_of_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = OneTurn(monkeypatch, 0, nth=5000)
    await one.take(7500)
    assert one.batches == [100, 400, 1600, 2000, 2000, 1400]
    assert one.chosen == [0, 0, 0, 0, 1, 0]
    assert one.looks.commanded == [7]


async def test_what_another_process_has_carried_on_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = OneTurn(monkeypatch, 0, nth=1000)

    async def advance(*_: object) -> None:
        pass

    monkeypatch.setattr(progress, "advance", advance)
    await one.take(16_000)
    assert one.batches == [100]
    assert one.looks.commanded == []


async def test_a_replay_that_nobody_has_a_turn_of_is_looked_at_ever_more_rarely_and_another_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)
    await looks.look(400)
    assert len(looks.at[LIVELY]) == 400
    times = looks.at[STUCK]
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[0] == POLL_SECONDS
    assert pauses[-1] == 5.0

    looks.with_turns = {STUCK, LIVELY}
    looks.at[STUCK].clear()
    await looks.look(21)
    assert looks.at[STUCK][-1] == looks.now, "somebody has a turn"
    looks.with_turns = {LIVELY}
    looks.at[STUCK].clear()
    await looks.look(2)
    assert len(looks.at[STUCK]) == 2, "and it begins anew"


async def test_rests_of_replays_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    await looks.look(40)
    del looks.at[STUCK]
    await looks.look(80)
    assert looks.replays._rests == {}  # pyright: ignore[reportPrivateUsage]
