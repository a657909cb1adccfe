"""What could be sent and is not is found; what waits for a good reason is not, however long it waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.test_lanes import NOW, TIMEOUT, add_lane, change, make_lanes, make_webhook, pace_of
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.domain.progress import Progress, Service
from webhook_grpc.engine.health.stillness import Stillness
from webhook_grpc.engine.queue.lane import Lane
from webhook_grpc.engine.queue.lanes import Lanes


class Looks:
    """A look each half second, at lanes from which nobody starts anything but the test."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes, self.now, self.progress = lanes, NOW, Progress()
        self.is_full = False
        self._dispatcher: Any = SimpleNamespace(startable=self._startable, why_not=str, started_count=0)
        self._stillness = Stillness(self.progress, self._dispatcher)
        self.progress.advance(self.now)

    def _startable(self, now: float) -> Iterable[Lane]:
        return () if self.is_full else self.lanes.startable(now)

    def run(self, seconds: float) -> bool:
        """Returns whether something stood still at any of them."""
        is_still = False
        for _ in range(int(2 * seconds)):
            self.now += 0.5
            self._dispatcher.started_count = self.lanes.started_count
            self._stillness.look(self.now)
            self.progress.advance(self.now)
            is_still |= bool(self.progress.stalled(Service.DELIVERY))
        return is_still


def start_one(looks: Looks) -> None:
    assert looks.lanes.next(looks.now) is not None


def test_what_could_be_sent_for_ten_seconds_and_is_not_stands_still() -> None:
    looks = Looks(make_lanes())
    add_lane(looks.lanes, held=3)
    assert not looks.run(9)
    assert looks.run(2)
    start_one(looks)
    assert not looks.run(9)


def test_one_webhook_that_stands_still_is_found_beside_others_that_move() -> None:
    looks = Looks(make_lanes())
    add_lane(looks.lanes, 1, held=100)
    looks.run(1)
    moving = add_lane(looks.lanes, 2, held=100)
    still = False
    for _ in range(12):
        moving.started_count += 1
        looks.lanes.started_count += 1
        still |= looks.run(1)
    assert still


def test_many_webhooks_that_take_turns_slowly_do_not_stand_still() -> None:
    looks = Looks(make_lanes())
    for number in range(40):
        add_lane(looks.lanes, number, held=1)
    for _ in range(35):
        start_one(looks)
        assert not looks.run(1)


def test_a_backlog_that_moves_slowly_does_not_stand_still() -> None:
    looks = Looks(make_lanes())
    add_lane(looks.lanes, held=20)
    for _ in range(10):
        assert not looks.run(8)
        start_one(looks)


def test_a_process_that_was_stopped_for_an_hour_has_not_stood_still() -> None:
    looks = Looks(make_lanes())
    add_lane(looks.lanes, held=3)
    looks.run(5)
    looks.now += 3600
    assert not looks.run(2)


def test_a_webhook_whose_rate_lets_one_through_each_twenty_seconds_does_not_stand_still() -> None:
    looks = Looks(make_lanes())
    lane = add_lane(looks.lanes, held=3)
    for _ in range(3):
        start_one(looks)
        pace_of(lane).pause(20, looks.now)
        assert not looks.run(20)


def paused(looks: Looks) -> None:
    add_lane(looks.lanes, held=3)
    change(looks.lanes, make_webhook(status=WebhookStatus.PAUSED))


def asked_to_wait(looks: Looks) -> None:
    lane = add_lane(looks.lanes, held=3)
    pace_of(lane).hold(100, looks.now)


def full(looks: Looks) -> None:
    add_lane(looks.lanes, held=3, max_in_flight=1)
    start_one(looks)


def behind_an_open_breaker(looks: Looks) -> None:
    lane = add_lane(looks.lanes, held=3)
    for _ in range(20):
        pace_of(lane).started(looks.now)
        pace_of(lane).ended(TIMEOUT, None, started_at=looks.now, now=looks.now, jitter=0.5)


def of_a_customer_that_has_enough_in_flight(looks: Looks) -> None:
    add_lane(looks.lanes, 1, held=1)
    start_one(looks)
    add_lane(looks.lanes, 2, held=3)


def of_a_host_that_has_enough_in_flight(looks: Looks) -> None:
    add_lane(looks.lanes, 1, 1, held=1)
    start_one(looks)
    add_lane(looks.lanes, 2, 2, held=3)


def in_a_process_that_has_enough_in_flight(looks: Looks) -> None:
    add_lane(looks.lanes, held=3)
    looks.is_full = True


def of_a_shard_that_is_being_given_back(looks: Looks) -> None:
    lane = add_lane(looks.lanes, held=3)
    looks.lanes.close_shards([lane.shard])


def not_loaded_yet(looks: Looks) -> None:
    looks.lanes.open(1, 1, 1, looks.now)


@pytest.mark.parametrize(
    ("limits", "waiting"),
    [
        ({}, paused),
        ({}, asked_to_wait),
        ({}, full),
        ({}, behind_an_open_breaker),
        ({"customer_in_flight_max": 1}, of_a_customer_that_has_enough_in_flight),
        ({"host_in_flight_max": 1}, of_a_host_that_has_enough_in_flight),
        ({}, in_a_process_that_has_enough_in_flight),
        ({}, of_a_shard_that_is_being_given_back),
        ({}, not_loaded_yet),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_waits_for_a_good_reason_does_not_stand_still(
    limits: dict[str, int], waiting: Callable[[Looks], None]
) -> None:
    looks = Looks(make_lanes(**limits))
    waiting(looks)
    assert not looks.run(25)
