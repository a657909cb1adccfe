"""Whose turn it is: fair over customers and webhooks, bounded, and nothing held twice."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import PendingDelivery, Webhook, WebhookStatus
from webhook_grpc.engine.lanes import Lane, LaneLimits, Lanes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MONOTONIC = 1000.0
BODY = b"x" * 100

_numbers = count(1)


def make_lanes(
    *,
    prefetch_max: int = 100,
    prefetch_bytes_max: int = 1_000_000,
    lane_bytes_max: int = 1_000_000,
    webhook_in_flight_max: int = 100,
    customer_in_flight_max: int = 100,
) -> Lanes:
    """No lanes yet, with limits that do not get in the way."""
    return Lanes(
        LaneLimits(prefetch_max, prefetch_bytes_max, lane_bytes_max, webhook_in_flight_max, customer_in_flight_max)
    )


def make_webhook(webhook_id: int = 1, customer_id: int = 1, **fields: Any) -> Webhook:
    """A webhook that takes everything."""
    values: dict[str, Any] = {
        "webhook_id": webhook_id,
        "customer_id": customer_id,
        "name": "test",
        "url": "https://example.com/",
        "sealed_secret": b"",
        "secret_hint": "",
        "events": ("*",),
        "status": WebhookStatus.ACTIVE,
        "status_reason": "",
        "retry_delays_seconds": None,
        "timeout_seconds": None,
        "max_in_flight": None,
        "headers": {},
        "labels": {},
        "description": "",
        "version": 1,
        "create_time": NOW,
        "update_time": NOW,
    }
    return Webhook(**{**values, **fields})


def make_delivery(webhook_id: int = 1, customer_id: int = 1, body: bytes = BODY) -> PendingDelivery:
    """A delivery of another event each time, due a second after the one before."""
    number = next(_numbers)
    return PendingDelivery(
        webhook_id=webhook_id,
        event_id=UUID(int=number),
        due_at=NOW + timedelta(seconds=number),
        customer_id=customer_id,
        attempt=0,
        event_type="job.completed",
        event_create_time=NOW,
        body=body,
    )


def add_lane(lanes: Lanes, webhook_id: int = 1, customer_id: int = 1, held: int = 0, **fields: Any) -> Lane:
    """A lane that knows its webhook and holds so many deliveries."""
    lane = lanes.open(webhook_id, customer_id, shard_of(webhook_id), MONOTONIC)
    lanes.configure(make_webhook(webhook_id, customer_id, **fields))
    lane.behind = False  # as after a look at the table
    for _ in range(held):
        assert lanes.hold(lane, make_delivery(webhook_id, customer_id))
    return lane


def start(lanes: Lanes, limit: int = 1000) -> list[tuple[Lane, PendingDelivery]]:
    """Starts whatever may be started, at most so many."""
    started: list[tuple[Lane, PendingDelivery]] = []
    while len(started) < limit and (turn := lanes.next()) is not None:
        started.append(turn)
    return started


def started_webhooks(lanes: Lanes, limit: int = 1000) -> list[int]:
    """The webhooks in the order in which they get their turns."""
    return [lane.webhook_id for lane, _ in start(lanes, limit)]


def end(lanes: Lanes, lane: Lane, delivery: PendingDelivery) -> None:
    """The attempt ends and is settled."""
    lanes.finished(lane)
    lanes.settled(lane, delivery)


# --- fairness --------------------------------------------------------------------------------------------------------


def test_customers_take_turns_however_much_one_of_them_has() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, customer_id=1, held=50)
    add_lane(lanes, webhook_id=2, customer_id=2, held=3)
    assert started_webhooks(lanes, 8) == [1, 2, 1, 2, 1, 2, 1, 1]


def test_the_webhooks_of_a_customer_take_turns() -> None:
    lanes = make_lanes()
    for webhook_id in (1, 2, 3):
        add_lane(lanes, webhook_id, held=3)
    assert started_webhooks(lanes) == [1, 2, 3] * 3


def test_a_customer_with_many_webhooks_gets_no_more_than_one_with_a_single_one() -> None:
    lanes = make_lanes()
    for webhook_id in (1, 2, 3, 4):
        add_lane(lanes, webhook_id, customer_id=1, held=5)
    add_lane(lanes, webhook_id=5, customer_id=2, held=5)
    assert started_webhooks(lanes, 8) == [1, 5, 2, 5, 3, 5, 4, 5]


def test_a_newcomer_gets_its_turn_before_a_backlog_is_done() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, customer_id=1, held=50)
    start(lanes, 10)
    add_lane(lanes, webhook_id=2, customer_id=2, held=1)
    assert 2 in started_webhooks(lanes, 2)


def test_a_webhook_that_hangs_delays_nobody_else() -> None:
    lanes = make_lanes(webhook_in_flight_max=2)
    add_lane(lanes, webhook_id=1, held=10)
    healthy = add_lane(lanes, webhook_id=2, held=10)

    in_flight = start(lanes)
    assert [lane.webhook_id for lane, _ in in_flight] == [1, 2, 1, 2]
    delivered = 0
    for _ in range(4):  # the attempts of webhook 1 never end
        for lane, delivery in [turn for turn in in_flight if turn[0] is healthy]:
            end(lanes, lane, delivery)
            delivered += 1
        in_flight = start(lanes)
        assert {lane.webhook_id for lane, _ in in_flight} == {2}
    assert delivered == 8


def test_the_deliveries_of_a_webhook_start_in_the_order_in_which_they_came() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    deliveries = [make_delivery() for _ in range(5)]
    for delivery in deliveries:
        lanes.hold(lane, delivery)
    assert [delivery for _, delivery in start(lanes)] == deliveries


# --- caps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "default", "in_flight"), [(None, 2, 2), (3, 2, 3), (1, 2, 1), (None, 10, 7)], ids=str)
def test_a_webhook_has_its_own_cap_or_the_default(own: int | None, default: int, in_flight: int) -> None:
    lanes = make_lanes(webhook_in_flight_max=default)
    lane = add_lane(lanes, held=7, max_in_flight=own)
    assert len(start(lanes)) == in_flight == lane.in_flight == lanes.in_flight


def test_a_slot_is_free_when_the_attempt_ends_not_only_when_it_is_settled() -> None:
    lanes = make_lanes(webhook_in_flight_max=1)
    lane = add_lane(lanes, held=3)
    assert len(start(lanes)) == 1
    lanes.finished(lane)
    assert len(start(lanes)) == 1
    assert lane.in_flight == 1
    assert len(lane.held) == 3


def test_the_webhooks_of_a_customer_share_its_cap_and_take_turns_at_its_free_slots() -> None:
    lanes = make_lanes(customer_in_flight_max=3)
    for webhook_id in (1, 2):
        add_lane(lanes, webhook_id, customer_id=1, held=5)
    add_lane(lanes, webhook_id=3, customer_id=2, held=5)

    first = start(lanes)
    assert [lane.webhook_id for lane, _ in first] == [1, 3, 2, 3, 1, 3]
    order: list[int] = []
    for lane, delivery in [turn for turn in first if turn[0].customer_id == 1]:
        end(lanes, lane, delivery)
        order += started_webhooks(lanes)
    assert order == [2, 1, 2]


def test_a_cap_that_is_raised_takes_effect_at_once() -> None:
    lanes = make_lanes()
    add_lane(lanes, held=5, max_in_flight=1)
    assert len(start(lanes)) == 1
    lanes.configure(make_webhook(max_in_flight=3))
    assert len(start(lanes)) == 2


def test_a_cap_that_is_lowered_lets_attempts_end_and_starts_no_others_until_they_have() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=9, max_in_flight=4)
    in_flight = start(lanes)
    lanes.configure(make_webhook(max_in_flight=2))
    for _, delivery in in_flight[:2]:
        end(lanes, lane, delivery)
        assert start(lanes) == []
    end(lanes, lane, in_flight[2][1])
    assert len(start(lanes)) == 1


def test_everything_held_is_started_in_the_end() -> None:
    lanes = make_lanes(webhook_in_flight_max=2, customer_in_flight_max=3)
    for webhook_id in range(1, 9):
        add_lane(lanes, webhook_id, customer_id=webhook_id % 3, held=10)
    delivered: list[PendingDelivery] = []
    while in_flight := start(lanes):
        for lane, delivery in in_flight:
            end(lanes, lane, delivery)
            delivered.append(delivery)
    assert len(delivered) == len({delivery.event_id for delivery in delivered}) == 80
    assert lanes.in_flight == 0
    assert len(lanes) == 0


# --- what is held ----------------------------------------------------------------------------------------------------


def test_a_delivery_is_held_once_until_it_is_settled() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    lane.behind = True  # keeps the lane
    delivery = make_delivery()

    assert lanes.hold(lane, delivery)
    assert not lanes.hold(lane, delivery), "queued"
    assert start(lanes) == [(lane, delivery)]
    assert not lanes.hold(lane, delivery), "in flight"
    lanes.finished(lane)
    assert not lanes.hold(lane, delivery), "not settled yet"
    assert start(lanes) == []
    lanes.settled(lane, delivery)
    assert lanes.hold(lane, delivery), "its next attempt"
    assert start(lanes) == [(lane, delivery)]


def test_finding_a_delivery_again_does_not_mean_that_the_table_has_more() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    delivery = make_delivery()
    lanes.hold(lane, delivery)
    lanes.hold(lane, delivery)
    assert not lane.behind


def test_a_full_lane_leaves_the_rest_in_the_table_and_remembers_that_there_is_more() -> None:
    lanes = make_lanes(prefetch_max=3)
    lane = add_lane(lanes, held=3)
    assert lanes.room(lane) == 0
    assert not lane.behind
    assert not lanes.hold(lane, make_delivery())
    assert lane.behind
    assert len(lane.held) == 3


def test_what_is_in_flight_takes_room_until_it_is_settled() -> None:
    lanes = make_lanes(prefetch_max=3)
    lane = add_lane(lanes, held=3)
    [(_, delivery)] = start(lanes, 1)
    assert lanes.room(lane) == 0
    lanes.finished(lane)
    assert lanes.room(lane) == 0
    lanes.settled(lane, delivery)
    assert lanes.room(lane) == 1


def test_a_full_lane_leaves_room_in_the_others() -> None:
    lanes = make_lanes(prefetch_max=3)
    add_lane(lanes, webhook_id=1, held=3)
    other = add_lane(lanes, webhook_id=2)
    assert lanes.room(other) == 3


@pytest.mark.parametrize(("held", "is_low"), [(0, True), (4, True), (5, True), (6, False), (10, False)])
def test_a_lane_is_filled_up_when_half_of_it_is_free(held: int, *, is_low: bool) -> None:
    lanes = make_lanes(prefetch_max=10)
    assert lanes.is_low(add_lane(lanes, held=held)) is is_low


def test_the_bodies_that_are_held_are_bounded_over_all_lanes() -> None:
    lanes = make_lanes(prefetch_bytes_max=201)
    one, other = add_lane(lanes, webhook_id=1), add_lane(lanes, webhook_id=2)
    assert lanes.hold(one, make_delivery(1))
    assert lanes.hold(other, make_delivery(2))
    assert not lanes.is_full
    assert lanes.hold(one, make_delivery(1)), "the one that crosses the bound is still held"
    assert lanes.is_full
    assert lanes.room(one) == lanes.room(other) == 0
    assert not lanes.hold(other, make_delivery(2, body=b""))
    assert other.behind
    assert not one.behind


def test_a_lane_with_large_bodies_gets_no_more_than_its_share() -> None:
    lanes = make_lanes(lane_bytes_max=150)
    one, other = add_lane(lanes, webhook_id=1), add_lane(lanes, webhook_id=2)
    assert lanes.hold(one, make_delivery(1))
    assert lanes.hold(one, make_delivery(1)), "the one that crosses the bound is still held"
    assert not lanes.hold(one, make_delivery(1))
    assert lanes.hold(other, make_delivery(2))


def test_when_all_memory_is_used_every_lane_may_still_hold_one() -> None:
    lanes = make_lanes(prefetch_bytes_max=100)
    one, other = add_lane(lanes, webhook_id=1), add_lane(lanes, webhook_id=2)
    assert lanes.hold(one, make_delivery(1))
    assert lanes.is_full
    assert lanes.hold(other, make_delivery(2)), "it must not stand still because of others"
    assert not lanes.hold(other, make_delivery(2))


def test_settling_gives_bytes_back_and_finishing_does_not() -> None:
    lanes = make_lanes(prefetch_bytes_max=200)
    add_lane(lanes, held=2)
    [(lane, delivery), _] = start(lanes)
    lanes.finished(lane)
    assert lanes.is_full
    lanes.settled(lane, delivery)
    assert not lanes.is_full
    assert lanes.hold(lane, make_delivery())


def test_a_lane_knows_the_due_times_of_what_it_holds() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    assert lane.first_due_at is None
    assert lane.last_due_at is None
    deliveries = [make_delivery() for _ in range(3)]
    for delivery in deliveries:
        lanes.hold(lane, delivery)
    assert lane.first_due_at == deliveries[0].due_at
    assert lane.last_due_at == deliveries[2].due_at

    started = start(lanes)
    end(lanes, *started[0])
    assert lane.first_due_at == deliveries[1].due_at
    lanes.hold(lane, deliveries[0])
    assert lane.last_due_at == deliveries[2].due_at, "an earlier one does not take it back"


# --- when a lane goes ------------------------------------------------------------------------------------------------


def test_a_lane_with_nothing_in_it_is_forgotten_unless_the_table_may_have_more() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=1)
    behind = add_lane(lanes, webhook_id=2, held=1)
    behind.behind = True
    for lane, delivery in start(lanes):
        end(lanes, lane, delivery)
    assert list(lanes) == [behind]
    assert lanes.get(1) is None
    assert lanes.get(2) is behind

    behind.behind = False
    lanes.drop_if_unused(behind)
    assert len(lanes) == 0


def test_a_lane_is_not_forgotten_while_it_holds_anything() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    end(lanes, *start(lanes, 1)[0])
    lanes.drop_if_unused(lane)
    assert lanes.get(1) is lane


def test_nothing_is_left_of_customers_that_came_and_went() -> None:
    """The lanes are plain data, so all that they keep shows in their pickled form."""
    lanes = make_lanes()
    sizes: list[int] = []
    for number in range(100):
        lane = add_lane(lanes, webhook_id=1, customer_id=1000 + number, held=1)
        end(lanes, lane, start(lanes)[0][1])
        add_lane(lanes, webhook_id=1, customer_id=2000 + number, held=1)
        lanes.forget_shards({1})
        assert start(lanes) == []
        sizes.append(len(pickle.dumps(lanes)))
    assert len(set(sizes)) == 1


def test_opening_a_lane_again_gives_the_same_one() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1)
    assert lanes.open(1, 1, shard_of(1), MONOTONIC + 1) is lane
    assert len(lanes) == 1


# --- the webhook's status --------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_webhook_is_known() -> None:
    lanes = make_lanes()
    lane = lanes.open(1, 1, shard_of(1), MONOTONIC)
    assert lanes.hold(lane, make_delivery())
    assert start(lanes) == []
    lanes.configure(make_webhook())
    assert started_webhooks(lanes) == [1]


def test_a_lane_that_learns_its_webhook_looks_at_the_table() -> None:
    lanes = make_lanes()
    lane = lanes.open(1, 1, shard_of(1), MONOTONIC)
    lanes.configure(make_webhook())
    assert lane.behind


def test_a_webhook_without_a_lane_gets_none_by_being_changed() -> None:
    lanes = make_lanes()
    lanes.configure(make_webhook())
    assert len(lanes) == 0


def test_a_paused_webhook_hands_its_queue_back_to_the_table() -> None:
    lanes = make_lanes(prefetch_bytes_max=300)
    lane = add_lane(lanes, held=3)
    [(_, delivery)] = start(lanes, 1)
    lanes.configure(make_webhook(status=WebhookStatus.PAUSED))

    assert start(lanes) == []
    assert list(lane.held.values()) == [delivery], "what is in flight goes on"
    assert lane.behind
    assert not lanes.is_full
    assert not lanes.hold(lane, make_delivery())
    end(lanes, lane, delivery)
    assert start(lanes) == []


def test_a_resumed_webhook_goes_on_from_the_table() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    handed_back = list(lane.held.values())
    lanes.configure(make_webhook(status=WebhookStatus.PAUSED))
    lane.behind = False
    lanes.configure(make_webhook(status=WebhookStatus.ACTIVE))

    assert lane.behind
    assert all(lanes.hold(lane, delivery) for delivery in handed_back)
    assert [delivery for _, delivery in start(lanes)] == handed_back


def test_a_paused_webhook_does_not_take_its_customers_turn() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=2)
    add_lane(lanes, webhook_id=2, held=2)
    lanes.configure(make_webhook(1, status=WebhookStatus.PAUSED))
    assert started_webhooks(lanes) == [2, 2]


def test_a_change_that_leaves_the_status_alone_disturbs_nothing() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=3)
    lanes.configure(make_webhook(url="https://example.org/", version=2))
    assert lane.webhook is not None
    assert lane.webhook.version == 2
    assert not lane.behind
    assert started_webhooks(lanes) == [1, 1, 1]


@pytest.mark.parametrize("status", [WebhookStatus.DISABLED, WebhookStatus.DELETED])
def test_an_ended_webhook_hands_out_its_deliveries_to_be_cancelled(status: WebhookStatus) -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    assert not lane.is_ending
    lanes.configure(make_webhook(status=status))
    assert lane.is_ending
    assert lane.behind, "the rest of them is in the table"
    assert lanes.hold(lane, make_delivery())
    assert started_webhooks(lanes) == [1, 1, 1]


@pytest.mark.parametrize(
    ("status", "may_send", "is_ending"),
    [
        (WebhookStatus.ACTIVE, True, False),
        (WebhookStatus.PAUSED, False, False),
        (WebhookStatus.DISABLED, True, True),
        (WebhookStatus.DELETED, True, True),
    ],
)
def test_what_a_status_means_for_a_lane(status: WebhookStatus, *, may_send: bool, is_ending: bool) -> None:
    lane = add_lane(make_lanes(), status=status)
    assert (lane.may_send, lane.is_ending) == (may_send, is_ending)


# --- shards ----------------------------------------------------------------------------------------------------------


def test_a_closed_shard_starts_nothing_and_is_idle_when_all_is_settled() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=3)
    [(lane, delivery)] = start(lanes, 1)
    lanes.close_shards({1})

    assert start(lanes) == []
    assert lane.behind
    assert list(lane.held.values()) == [delivery]
    assert not lanes.is_idle(1)
    lanes.finished(lane)
    assert start(lanes) == []
    assert not lanes.is_idle(1), "its result is still to be settled"
    lanes.settled(lane, delivery)
    assert lanes.is_idle(1)


def test_what_comes_for_a_closed_shard_is_not_started() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=1)
    lanes.close_shards({1})
    lanes.hold(lane, make_delivery(1))
    newcomer = add_lane(lanes, webhook_id=65)  # of the same shard
    lanes.hold(newcomer, make_delivery(65))
    assert start(lanes) == []


def test_the_other_shards_go_on() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=2)
    add_lane(lanes, webhook_id=2, held=2)
    lanes.close_shards({1})
    assert started_webhooks(lanes) == [2, 2]
    assert lanes.is_idle(1)
    assert not lanes.is_idle(2)
    assert lanes.is_idle(3)


def test_forgotten_shards_leave_nothing_behind() -> None:
    lanes = make_lanes(prefetch_bytes_max=300)
    add_lane(lanes, webhook_id=1, held=3)
    other = add_lane(lanes, webhook_id=2)
    assert lanes.is_full
    lanes.forget_shards({1})
    assert list(lanes) == [other]
    assert not lanes.is_full
    assert start(lanes) == []


def test_an_attempt_in_flight_of_a_forgotten_shard_ends_without_harm() -> None:
    lanes = make_lanes(prefetch_bytes_max=200)
    add_lane(lanes, webhook_id=1, held=2)
    [(lane, delivery)] = start(lanes, 1)
    lanes.forget_shards({1})
    assert lanes.in_flight == 1
    end(lanes, lane, delivery)
    assert lanes.in_flight == 0
    assert lanes.is_idle(1)
    assert not lanes.is_full
    assert len(lanes) == 0


def test_a_shard_that_comes_back_begins_anew_and_the_old_attempt_leaves_it_alone() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=1)
    [(old_lane, old_delivery)] = start(lanes)
    lanes.close_shards({1})
    lanes.forget_shards({1})

    new_lane = add_lane(lanes, webhook_id=1, held=1)
    assert new_lane is not old_lane
    assert started_webhooks(lanes) == [1], "it is open again"
    end(lanes, old_lane, old_delivery)
    assert lanes.get(1) is new_lane
    assert len(new_lane.held) == 1
    assert not lanes.is_idle(1)


def test_an_old_attempt_counts_against_its_customers_cap_until_it_ends() -> None:
    lanes = make_lanes(customer_in_flight_max=1)
    add_lane(lanes, webhook_id=1, held=1)
    [(lane, delivery)] = start(lanes)
    lanes.forget_shards({1})
    add_lane(lanes, webhook_id=1, held=1)
    assert start(lanes) == []
    end(lanes, lane, delivery)
    assert started_webhooks(lanes) == [1]


# --- alarms ----------------------------------------------------------------------------------------------------------


def test_an_alarm_makes_a_lane_look_at_the_table_when_its_time_has_come() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    lanes.set_alarm(1, MONOTONIC + 5)
    lanes.ring_alarms(MONOTONIC + 4.999)
    assert not lane.behind
    lanes.ring_alarms(MONOTONIC + 5)
    assert lane.behind


def test_an_alarm_rings_once() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    lanes.set_alarm(1, MONOTONIC)
    lanes.ring_alarms(MONOTONIC)
    lane.behind = False
    lanes.ring_alarms(MONOTONIC + 3600)
    assert not lane.behind


def test_alarms_ring_in_the_order_of_their_times_whatever_the_order_in_which_they_were_set() -> None:
    lanes = make_lanes()
    first, second, third = (add_lane(lanes, webhook_id) for webhook_id in (1, 2, 3))
    lanes.set_alarm(3, MONOTONIC + 3)
    lanes.set_alarm(1, MONOTONIC + 1)
    lanes.set_alarm(2, MONOTONIC + 2)
    lanes.ring_alarms(MONOTONIC + 2.5)
    assert (first.behind, second.behind, third.behind) == (True, True, False)


def test_an_alarm_of_a_lane_that_is_gone_is_ignored() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=2)
    lanes.set_alarm(1, MONOTONIC)
    lanes.set_alarm(2, MONOTONIC)
    lanes.ring_alarms(MONOTONIC)
    assert lanes.get(1) is None
    assert lane.behind
