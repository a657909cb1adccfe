"""What was just published is taken in piece by piece: calls get the event loop between two pieces of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.engine.queue.intake import Expectation, Intake
from webhook_grpc.store.outbox.publishing import NewDeliveries

EXPECTATION = Expectation({}, frozenset(), read=7)
AT_ONCE_MAX = 50  # a call needs some twenty turns of the loop, and may meet a piece in each
PIECES_MAX = 20  # the next statement waits for all of them


class Noted(Intake):
    """An intake that only notes what it is given."""

    def __init__(self) -> None:
        self.taken: list[UUID] = []
        self.ended: list[int] = []  # reads
        self.starts = 0
        stale_rows = SimpleNamespace(end=self.ended.append)
        starter = SimpleNamespace(start_soon=self._note_start, start=self._note_start)
        none = cast("Any", None)
        super().__init__(none, none, none, cast("Any", stale_rows), none, cast("Any", starter))

    def _note_start(self) -> None:
        self.starts += 1

    def take_in(self, delivery: PendingDelivery, expectation: Expectation) -> bool:
        assert not self.ended, "taken in after the expectation had ended"
        self.taken.append(delivery.event_id)
        return True


def published(count: int, fan_out: int = 1) -> Sequence[NewDeliveries]:
    now = datetime.now(UTC)
    events = [
        SimpleNamespace(event_id=UUID(int=number), customer_id=1, event_type="a.b", body=b"{}", traceparent=None)
        for number in range(count)
    ]
    return [NewDeliveries(cast("Any", event), now, list(range(1, fan_out + 1)), ()) for event in events]


@pytest.mark.parametrize(("count", "fan_out"), [(500, 1), (10, 40)])
async def test_a_batch_leaves_the_loop_to_others_between_its_pieces(count: int, fan_out: int) -> None:
    intake, most, before = Noted(), 0, 0
    receiving = asyncio.create_task(intake.receive(EXPECTATION, published(count, fan_out)))
    while not receiving.done():
        await asyncio.sleep(0)  # one turn of the loop
        most, before = max(most, len(intake.taken) - before), len(intake.taken)
        assert not intake.taken or intake.starts, "what is taken in may start"
    await receiving
    assert most <= AT_ONCE_MAX
    assert intake.taken == [UUID(int=number) for number in range(count) for _ in range(fan_out)]
    assert intake.ended == [EXPECTATION.read]


async def test_of_a_very_large_batch_the_pieces_grow_not_their_number() -> None:
    intake = Noted()
    await intake.receive(EXPECTATION, published(100, fan_out=40))
    assert intake.starts <= PIECES_MAX + 1


async def test_an_expectation_ends_also_when_its_callers_have_left_meanwhile() -> None:
    intake = Noted()
    receiving = asyncio.create_task(intake.receive(EXPECTATION, published(500)))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert len(intake.taken) == 500, "the rest is taken in at once"
    assert (intake.ended, intake.starts) == ([EXPECTATION.read], 2)
