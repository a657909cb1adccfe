"""How a delivery that was just published comes into memory, and when its lane is read from the table besides."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.unit.test_lanes import NOW, POLICY, make_delivery, make_lanes, make_webhook
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.domain.pace import Pace
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.intake import Intake
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.engine.receivers.receiver import Receiver
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.ownership.leases import OwnedShard

SHARD = shard_of(1)


class Known:
    """Knows one webhook, or none."""

    def __init__(self, receiver: Receiver | None) -> None:
        self._receiver = receiver

    def get(self, _: int) -> Receiver | None:
        return self._receiver


class Taking:
    """An intake of one shard, with no lanes yet."""

    def __init__(self, status: WebhookStatus | None = WebhookStatus.ACTIVE) -> None:
        known = None if status is None else Receiver(make_webhook(status=status), Pace(POLICY, NOW))
        receivers: Any = Known(known)
        starter: Any = None
        self.shards = shards = Shards()
        shards.owned[SHARD] = OwnedShard(epoch=1, last_seq=0)
        self.lanes = make_lanes()
        self.hints = DueHints(self.lanes)
        self.intake = Intake(shards, self.lanes, receivers, StaleRows(), self.hints, starter)
        self.expectation = self.intake.expect()

    def published(self) -> bool:
        return self.intake.take_in(make_delivery(is_fresh=True), self.expectation)

    @property
    def is_read(self) -> bool:
        """Whether the table is looked at for the lane."""
        lane = self.lanes.get(1)
        assert lane is not None
        return lane.reading.behind


@pytest.mark.parametrize("status", [WebhookStatus.ACTIVE, None])
def test_a_lane_that_is_made_for_what_was_just_published_is_not_read(status: WebhookStatus | None) -> None:
    taking = Taking(status)
    assert taking.published()
    assert not taking.is_read


def test_it_is_read_while_a_hint_names_its_shard_until_that_has_been_looked_at() -> None:
    """The hint may be about a row of the same webhook, which a look does not show behind the one that is held."""
    for is_taken in (False, True):
        taking = Taking()
        taking.hints.wake([SHARD])
        if is_taken:
            taking.hints.take(())  # the look has begun; what it finds is not known
        assert taking.published()
        assert taking.is_read

    taking = Taking()
    taking.hints.wake([SHARD])
    taking.hints.take(())
    taking.hints.end_look()
    assert taking.published()
    assert not taking.is_read


def test_a_look_that_fails_leaves_its_hints_to_the_next_one() -> None:
    taking = Taking()
    taking.hints.wake([SHARD])
    taking.hints.take([SHARD + 1])
    taking.hints.give_back()
    assert taking.hints.take(()) == {SHARD, SHARD + 1}


def test_a_row_that_was_found_makes_its_lane_be_read() -> None:
    taking = Taking()
    assert taking.intake.take_in(make_delivery(), taking.expectation)
    assert taking.is_read


def test_what_may_not_be_held_leaves_no_lane_behind() -> None:
    taking, delivery = Taking(), make_delivery(is_fresh=True)
    taking.lanes.bar(delivery.webhook_id, delivery.event_id)
    assert not taking.intake.take_in(delivery, taking.expectation)
    assert len(taking.lanes) == 0


def test_what_is_expected_is_not_held_if_its_shard_was_lost_meanwhile_or_lost_and_taken_again() -> None:
    for left in ({}, {SHARD: OwnedShard(epoch=2, last_seq=0)}):
        taking = Taking()
        taking.shards.owned = left
        assert not taking.published()
    taking = Taking()
    del taking.shards.owned[SHARD]
    expectation = taking.intake.expect()
    taking.shards.owned[SHARD] = OwnedShard(epoch=1, last_seq=0)
    assert not taking.intake.take_in(make_delivery(is_fresh=True), expectation)


def test_only_what_may_be_sent_is_handed_over_one_by_one() -> None:
    taking = Taking()
    assert not taking.intake.expect().shards, "the lease is not fresh"
    taking.shards.send_until = time.monotonic() + 600
    assert taking.intake.expect().shards == {SHARD}
    taking.shards.leaving = {SHARD}
    assert not taking.intake.expect().shards
