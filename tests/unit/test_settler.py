"""Every change is answered once: written, dropped with its shard, or replaced if Postgres refuses it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import slowness
from tests.support.store import new_worker, options, succeeded
from tests.unit.test_lanes import add_lane, make_delivery, make_lanes
from webhook_grpc.domain.command import Command
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import DeliveryStatus, PendingDelivery
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine import settler
from webhook_grpc.engine.queue.lane import Turn
from webhook_grpc.engine.settler import SettleLimits, SettleListeners, Settler
from webhook_grpc.engine.unsettled import EndedTurn, Unsettled
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import settlement
from webhook_grpc.store.outbox.execution import Executed
from webhook_grpc.store.outbox.settlement import SettleAnswer

BATCH_MAX = 8


@dataclass
class Desk:
    """Stands for the database and the owner of shards, and listens to what is answered."""

    refused: list[PendingDelivery] = field(default_factory=list[PendingDelivery])  # with a result
    always_refused: list[PendingDelivery] = field(default_factory=list[PendingDelivery])
    faults: int = 0  # so many statements fail, and it is not known what they did
    written: list[Settlement] = field(default_factory=list[Settlement])
    settled: list[PendingDelivery] = field(default_factory=list[PendingDelivery])
    dropped: list[PendingDelivery] = field(default_factory=list[PendingDelivery])
    readopted: list[set[int]] = field(default_factory=list[set[int]])
    taken_by_beat: set[int] = field(default_factory=set[int])
    statements: int = 0

    def __post_init__(self) -> None:
        self.shards: Any = SimpleNamespace(owned={1: SimpleNamespace(last_seq=0)}, worker=new_worker())

    async def settle(
        self, _: object, __: object, owned: Mapping[int, Any], batch: Sequence[Settlement]
    ) -> SettleAnswer:
        self.statements += 1
        if self.faults:
            self.faults -= 1
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        for item in batch:
            if item.delivery in self.always_refused or (item.result is not None and item.delivery in self.refused):
                raise StoreRefusal("22P05", "no such character")
        self.written += batch
        return SettleAnswer(
            ours=True, last_seqs={shard: len(self.written) for shard in owned}, changed_count=len(batch)
        )

    def log_reached(self, owned: Mapping[int, Any], last_seqs: Mapping[int, int]) -> None:
        for shard, last_seq in last_seqs.items():
            owned[shard].last_seq = last_seq

    async def readopt(self, shards: set[int]) -> None:
        self.readopted.append(shards)

    async def beat(self) -> None:
        self.shards.owned |= {shard: SimpleNamespace(last_seq=0) for shard in self.taken_by_beat}

    def note_settled(self, batch: Sequence[EndedTurn]) -> None:
        self.settled += [ended.turn.delivery for ended in batch]

    def put_back(self, batch: Sequence[EndedTurn]) -> None:
        self.dropped += [ended.turn.delivery for ended in batch]

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        raise AssertionError((batch, executed))

    def drop(self, batch: Sequence[Command]) -> None:
        raise AssertionError(batch)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()
    monkeypatch.setattr(settlement, "settle", desk.settle)
    return desk


@pytest.fixture
async def unsettled(desk: Desk) -> AsyncIterator[Unsettled]:
    """What the running settler writes."""
    async with running(desk, SettleLimits(BATCH_MAX, 0.0, 0.0)) as unsettled:
        yield unsettled


@contextlib.asynccontextmanager
async def running(desk: Desk, limits: SettleLimits, *, is_watched: bool = False) -> AsyncGenerator[Unsettled]:
    unsettled, listener = Unsettled(lambda: is_watched), desk
    commands: Any = SimpleNamespace(executed=desk.executed, dropped=desk.drop)
    ownership: Any = desk
    nobody: Any = None
    connection = LoopConnection(options(""), "settle")
    listeners = SettleListeners(listener, commands)
    settler = Settler(connection, ownership, unsettled, limits, Random(1), listeners, nobody)
    task = asyncio.create_task(settler.run())
    yield unsettled
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def add(unsettled: Unsettled, count: int, webhook_id: int = 1, *, may_wait: bool = False) -> list[PendingDelivery]:
    lane = add_lane(make_lanes(), webhook_id)
    deliveries = [make_delivery(webhook_id) for _ in range(count)]
    for delivery in deliveries:
        unsettled.results.add(EndedTurn(Turn(lane, delivery, host=None), succeeded(delivery)), may_wait=may_wait)
    return deliveries


HOUR = 3600.0  # the longer wait of these tests, which nothing may wait out


async def is_settled(desk: Desk, deliveries: list[PendingDelivery]) -> None:
    async with slowness.timeout(20):
        while desk.settled != deliveries:
            await asyncio.sleep(0)


async def has_not_written(desk: Desk) -> None:
    for _ in range(50):  # turns of the loop, of which a statement takes three
        await asyncio.sleep(0)
    assert not desk.statements


async def test_a_result_that_may_wait_shares_the_statement_of_the_next_one_that_may_not(desk: Desk) -> None:
    async with running(desk, SettleLimits(BATCH_MAX, 0.0, HOUR)) as unsettled:
        deliveries = add(unsettled, 1, may_wait=True)
        await has_not_written(desk)
        deliveries += add(unsettled, 1, may_wait=True)
        await has_not_written(desk)
        deliveries += add(unsettled, 1)
        await is_settled(desk, deliveries)
        assert desk.statements == 1
        add(unsettled, 1, may_wait=True)
        desk.statements = 0
        await has_not_written(desk)


async def test_results_that_may_wait_are_written_when_their_time_is_over(desk: Desk) -> None:
    async with running(desk, SettleLimits(BATCH_MAX, 0.0, 0.001)) as unsettled:
        await is_settled(desk, add(unsettled, 2, may_wait=True))


async def test_results_that_may_wait_are_written_when_they_are_many(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_grpc.engine.unsettled._MANY", BATCH_MAX - 1)
    async with running(desk, SettleLimits(BATCH_MAX, 0.0, HOUR)) as unsettled:
        deliveries = add(unsettled, BATCH_MAX - 2, may_wait=True)
        await has_not_written(desk)
        await is_settled(desk, deliveries + add(unsettled, 1, may_wait=True))


async def test_results_that_may_wait_are_written_at_once_while_somebody_watches(desk: Desk) -> None:
    async with running(desk, SettleLimits(BATCH_MAX, 0.0, HOUR), is_watched=True) as unsettled:
        await is_settled(desk, add(unsettled, 1, may_wait=True))


async def test_results_that_may_wait_are_written_when_somebody_waits_for_them(desk: Desk) -> None:
    async with running(desk, SettleLimits(BATCH_MAX, 0.0, HOUR)) as unsettled:
        deliveries = add(unsettled, 1, may_wait=True)
        await has_not_written(desk)
        async with slowness.timeout(20):
            await unsettled.results.caught_up()
        assert desk.settled == deliveries
        deliveries += add(unsettled, 1, may_wait=True)
        async with slowness.timeout(20):
            await unsettled.drained()
        assert desk.settled == deliveries


async def test_results_are_written_in_their_order_in_batches(desk: Desk, unsettled: Unsettled) -> None:
    deliveries = add(unsettled, 2 * BATCH_MAX + 1)
    await unsettled.drained()
    assert desk.settled == [item.delivery for item in desk.written] == deliveries
    assert desk.statements == 3
    assert desk.shards.owned[1].last_seq == len(deliveries)


async def test_the_turns_of_a_batch_end_piece_by_piece(
    desk: Desk, unsettled: Unsettled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that calls get the event loop between two pieces."""
    monkeypatch.setattr(settler, "_NOTED_AT_ONCE_MIN", 3)
    pieces, beats = list[int](), list[int]()
    beat = asyncio.create_task(_beat(beats))

    def note(batch: Sequence[EndedTurn]) -> None:
        pieces.append(len(batch))
        beats.append(0)

    monkeypatch.setattr(desk, "note_settled", note)
    add(unsettled, BATCH_MAX)
    await unsettled.drained()
    beat.cancel()
    assert pieces == [3, 3, 2]
    marks = [at for at, mark in enumerate(beats) if not mark]
    assert all(after - before > 1 for before, after in itertools.pairwise(marks)), "others had a turn in between"


async def _beat(beats: list[int]) -> None:
    while True:
        beats.append(1)
        await asyncio.sleep(0)  # one turn of the loop


@pytest.mark.parametrize("place", [0, 3, BATCH_MAX - 1])
async def test_of_a_batch_that_is_refused_only_the_delivery_at_fault_ends_without_its_result(
    desk: Desk, unsettled: Unsettled, place: int
) -> None:
    deliveries = add(unsettled, BATCH_MAX)
    desk.refused = [deliveries[place]]
    await unsettled.drained()
    assert desk.settled == deliveries, "in their order"
    failed = [item for item in desk.written if item.result is None]
    assert [item.delivery for item in failed] == desk.refused
    assert [item.decision.status for item in failed] == [DeliveryStatus.FAILED]
    assert not desk.dropped


async def test_a_delivery_that_is_refused_even_without_its_result_is_put_back(desk: Desk, unsettled: Unsettled) -> None:
    deliveries = add(unsettled, 3)
    desk.always_refused = [deliveries[1]]
    await unsettled.drained()
    assert desk.dropped == [deliveries[1]]
    assert desk.settled == [deliveries[0], deliveries[2]]


async def test_results_of_a_lost_shard_are_put_back_and_the_others_written(desk: Desk, unsettled: Unsettled) -> None:
    lost, ours = add(unsettled, 2, webhook_id=2), add(unsettled, 2)
    await unsettled.drained()
    assert desk.dropped == lost
    assert desk.settled == ours


async def test_results_of_a_shard_whose_lease_ran_out_are_written_if_the_next_beat_takes_it_again(
    desk: Desk, unsettled: Unsettled
) -> None:
    desk.taken_by_beat = {2}
    taken_again = add(unsettled, 3, webhook_id=2)
    await unsettled.drained()
    assert desk.settled == taken_again
    assert desk.dropped == []


async def test_after_a_statement_of_unknown_outcome_the_shards_move_on_before_the_batch_is_written_again(
    desk: Desk, unsettled: Unsettled
) -> None:
    desk.faults = 2
    deliveries = add(unsettled, 2)
    await unsettled.drained()
    assert desk.settled == deliveries
    assert desk.readopted == [{1}, {1}]


async def test_whoever_waits_for_earlier_results_does_not_wait_for_later_ones(unsettled: Unsettled) -> None:
    add(unsettled, 2 * BATCH_MAX)
    waiting = asyncio.create_task(unsettled.results.caught_up())
    await asyncio.sleep(0)
    add(unsettled, 100 * BATCH_MAX)
    await waiting
    assert unsettled.results.unanswered_count > 0
    await unsettled.drained()
    assert unsettled.results.unanswered_count == 0
