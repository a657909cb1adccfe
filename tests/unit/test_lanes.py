"""Whose turn it is: fair over customers and webhooks, bounded, and nothing held twice."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.full import in_full
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import AttemptResult, Danger, Outcome, PendingDelivery, Trigger, Webhook, WebhookStatus
from webhook_grpc.domain.pace import Pace, PacePolicy
from webhook_grpc.engine.queue.hosts import HostLimits
from webhook_grpc.engine.queue.lane import Lane, Turn
from webhook_grpc.engine.queue.lanes import LaneLimits, Lanes
from webhook_grpc.engine.receivers.receiver import Receiver

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 1000.0
BODY = b"x" * 100
POLICY = PacePolicy(in_flight_max=100)
SUCCESS = AttemptResult(Outcome.SUCCEEDED, START, 5, response_status=200)
TIMEOUT = AttemptResult(Outcome.TIMEOUT, START, 5)
OVERLOADED = AttemptResult(Outcome.HTTP_ERROR, START, 5, response_status=429)

_numbers = count(1)


def make_lanes(
    *,
    prefetch_max: int = 100,
    prefetch_bytes_max: int = 1_000_000_000,
    lane_bytes_max: int = 1_000_000_000,
    customer_in_flight_max: int = 100,
    host_in_flight_max: int = 1000,
    host_share: float = 1.0,
) -> Lanes:
    """No lanes yet, with limits that do not get in the way."""
    hosts = HostLimits(host_in_flight_max, host_share)
    return Lanes(LaneLimits(prefetch_max, prefetch_bytes_max, lane_bytes_max, customer_in_flight_max, hosts))


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
        "rate_limit_per_second": None,
        "headers": {},
        "labels": {},
        "description": "",
        "version": 1,
        "create_time": START,
        "update_time": START,
    }
    return Webhook(**{**values, **fields})


def make_delivery(
    webhook_id: int = 1,
    customer_id: int = 1,
    body: bytes = BODY,
    *,
    is_fresh: bool = False,
    is_replay: bool = False,
    danger: Danger = Danger.NONE,
) -> PendingDelivery:
    """A delivery of another event each time, due a second after the one before."""
    number = next(_numbers)
    return PendingDelivery(
        webhook_id=webhook_id,
        event_id=UUID(int=number),
        due_at=START + timedelta(seconds=number),
        customer_id=customer_id,
        attempt=0,
        event_type="job.completed",
        event_create_time=START,
        body=body,
        danger=danger,
        is_fresh=is_fresh,
        trigger=Trigger.REPLAY if is_replay else Trigger.SCHEDULED,
    )


def add_suspects(lanes: Lanes, lane: Lane, count: int, **fields: Any) -> list[PendingDelivery]:
    """So many deliveries that a process may have died of."""
    suspects = [make_delivery(lane.webhook_id, lane.customer_id, danger=Danger.SUSPECT, **fields) for _ in range(count)]
    assert all(lanes.hold(lane, suspect, NOW) for suspect in suspects)
    return suspects


def change(lanes: Lanes, webhook: Webhook, now: float = NOW) -> None:
    """The webhook is so from now on: told to its pace, which is made if it is new, and to the lanes."""
    lane = lanes.get(webhook.webhook_id)
    pace = Pace(POLICY, now) if lane is None or lane.receiver is None else lane.receiver.pace
    pace.configure(webhook.max_in_flight, webhook.rate_limit_per_second)
    lanes.configure(Receiver(webhook, pace), now)


def add_lane(
    lanes: Lanes, webhook_id: int = 1, customer_id: int = 1, held: int = 0, body: bytes = BODY, **fields: Any
) -> Lane:
    """A lane that knows its webhook and holds so many deliveries."""
    lane = lanes.open(webhook_id, customer_id, shard_of(webhook_id), NOW)
    change(lanes, make_webhook(webhook_id, customer_id, **fields))
    lane.reading.behind = False  # as after a look at the table
    for _ in range(held):
        assert lanes.hold(lane, make_delivery(webhook_id, customer_id, body), NOW)
    return lane


def pace_of(lane: Lane) -> Pace:
    """The pace of a lane that knows its webhook."""
    assert lane.receiver is not None
    return lane.receiver.pace


def start(lanes: Lanes, limit: int = 1000, now: float = NOW) -> list[Turn]:
    """Starts whatever may be started, at most so many."""
    started: list[Turn] = []
    while len(started) < limit and (turn := lanes.next(now)) is not None:
        started.append(turn)
    return started


def started_webhooks(lanes: Lanes, limit: int = 1000, now: float = NOW) -> list[int]:
    """The webhooks in the order in which they get their turns."""
    return [turn.lane.webhook_id for turn in start(lanes, limit, now)]


def end(lanes: Lanes, turn: Turn, now: float = NOW) -> None:
    """The attempt ends and is settled."""
    lanes.finished(turn, now)
    lanes.release(turn)


def fail(lanes: Lanes, turn: Turn, now: float = NOW, result: AttemptResult = TIMEOUT) -> None:
    """The attempt ends like this; it is not settled."""
    pace_of(turn.lane).ended(result, None, started_at=now, now=now, jitter=0.5)
    lanes.finished(turn, now)


def open_breaker(lanes: Lanes, lane: Lane, now: float = NOW) -> list[Turn]:
    """Ten attempts of the lane's fail, so that its breaker opens; the probe is 30 s later."""
    turns = start(lanes, 10, now)
    assert [turn.lane for turn in turns] == [lane] * 10
    for turn in turns:
        fail(lanes, turn, now)
    return turns


# --- suspects --------------------------------------------------------------------------------------------------------


def test_of_all_suspects_one_is_sent_at_a_time_until_it_is_settled_and_the_others_go_on() -> None:
    lanes = make_lanes()
    first, second = add_lane(lanes, 1, 1, held=2), add_lane(lanes, 2, 2, held=2)
    suspects = [*add_suspects(lanes, first, 2), *add_suspects(lanes, second, 2)]
    turns = start(lanes)
    assert len(turns) == 5, "four that are none, and one"
    for left in (3, 2, 1, 0):
        [alone] = [turn for turn in turns if turn.delivery.danger]
        suspects.remove(alone.delivery)
        assert len(suspects) == left
        lanes.finished(alone, NOW)
        assert start(lanes) == [], "it is not settled yet"
        lanes.release(alone)
        turns = start(lanes)


def test_a_suspect_that_takes_long_lets_the_next_one_begin() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    add_suspects(lanes, lane, 3)
    [first] = start(lanes)
    lanes.end_isolation(first)
    [second] = start(lanes)
    end(lanes, first)
    assert start(lanes) == [], "the second one has the right now"
    end(lanes, second)
    assert len(start(lanes)) == 1


def test_lanes_take_turns_with_their_suspects() -> None:
    lanes = make_lanes()
    for webhook_id in (1, 2, 3):
        add_suspects(lanes, add_lane(lanes, webhook_id, webhook_id), 2)
    order = list[int]()
    for _ in range(6):
        [alone] = start(lanes)
        order.append(alone.lane.webhook_id)
        end(lanes, alone)
    assert sorted(order[:3]) == [1, 2, 3]
    assert sorted(order[3:]) == [1, 2, 3]


def test_a_suspect_that_may_not_be_sent_does_not_keep_others_waiting() -> None:
    lanes = make_lanes()
    held, free = add_lane(lanes, 1, 1), add_lane(lanes, 2, 2)
    add_suspects(lanes, held, 1)
    add_suspects(lanes, free, 1)
    pace_of(held).hold(60, NOW)
    [alone] = start(lanes)
    assert alone.lane is free
    assert start(lanes, now=NOW + 61) == [], "its time has come, and the other one is not settled"
    end(lanes, alone, NOW + 61)
    assert started_webhooks(lanes, now=NOW + 61) == [1]


def test_suspects_take_no_room_of_what_comes_behind_them() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    room = lanes.room(lane, NOW)
    add_suspects(lanes, lane, 5)
    add_suspects(lanes, lane, 5, is_fresh=True)
    assert lanes.room(lane, NOW) == room
    assert lanes.room(lane, NOW, fresh=True) == room
    lanes.close_shards({lane.shard})
    assert not lane.held
    assert not lane.has_queued
    assert lanes.room(lane, NOW) == room


def test_a_replay_that_is_a_suspect_needs_a_slot_of_replays() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=4)  # one of them for replays
    for _ in range(2):
        assert lanes.hold(lane, make_delivery(is_replay=True), NOW)
    replays = start(lanes)
    assert len(replays) == 1
    add_suspects(lanes, lane, 1, is_replay=True)
    assert start(lanes) == []
    end(lanes, replays[0])
    [alone] = start(lanes)
    assert alone.delivery.danger is Danger.SUSPECT
    assert lane.replay_count == 2


def test_a_suspect_whose_shard_was_lost_makes_way_for_the_next_one() -> None:
    lanes = make_lanes()
    lost = add_lane(lanes, 1, 1)
    add_suspects(lanes, lost, 1)
    [alone] = start(lanes)
    add_suspects(lanes, add_lane(lanes, 2, 2), 1)
    lanes.forget_shards({1})
    assert start(lanes) == []
    end(lanes, alone)
    assert started_webhooks(lanes) == [2]


def test_who_is_a_suspect_is_decided_by_whoever_knows_the_marks() -> None:
    limits = LaneLimits(100, 1_000_000_000, 1_000_000_000, 100, HostLimits(1000))
    lanes = Lanes(limits, is_suspect=lambda delivery: delivery.webhook_id == 2)
    add_suspects(lanes, add_lane(lanes, 1), 3)
    add_suspects(lanes, add_lane(lanes, 2), 3)
    assert sorted(started_webhooks(lanes)) == [1, 1, 1, 2]


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
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=10, max_in_flight=2)
    healthy = add_lane(lanes, webhook_id=2, held=10, max_in_flight=2)

    in_flight = start(lanes)
    assert [turn.lane.webhook_id for turn in in_flight] == [1, 2, 1, 2]
    delivered = 0
    for _ in range(4):  # the attempts of webhook 1 never end
        for turn in [turn for turn in in_flight if turn.lane is healthy]:
            end(lanes, turn)
            delivered += 1
        in_flight = start(lanes)
        assert {turn.lane.webhook_id for turn in in_flight} == {2}
    assert delivered == 8


def test_the_deliveries_of_a_webhook_start_in_the_order_in_which_they_came() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    deliveries = [make_delivery() for _ in range(5)]
    for delivery in deliveries:
        lanes.hold(lane, delivery, NOW)
    assert [turn.delivery for turn in start(lanes)] == deliveries


# --- caps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "default", "in_flight"), [(None, 2, 2), (3, 2, 3), (1, 2, 1), (None, 10, 7)], ids=str)
def test_a_webhook_has_its_own_cap_or_the_default(own: int | None, default: int, in_flight: int) -> None:
    lanes = make_lanes()
    lane = lanes.open(1, 1, shard_of(1), NOW)
    lanes.configure(Receiver(make_webhook(), Pace(PacePolicy(in_flight_max=default), NOW)), NOW)
    change(lanes, make_webhook(max_in_flight=own))
    for _ in range(7):
        lanes.hold(lane, make_delivery(), NOW)
    assert len(start(lanes)) == in_flight == lane.in_flight == lanes.in_flight


def test_a_slot_is_free_when_the_attempt_ends_not_only_when_it_is_settled() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=3, max_in_flight=1)
    [turn] = start(lanes)
    lanes.finished(turn, NOW)
    assert len(start(lanes)) == 1
    assert lane.in_flight == 1
    assert len(lane.held) == 3


def test_the_webhooks_of_a_customer_share_its_cap_and_take_turns_at_its_free_slots() -> None:
    lanes = make_lanes(customer_in_flight_max=3)
    for webhook_id in (1, 2):
        add_lane(lanes, webhook_id, customer_id=1, held=5)
    add_lane(lanes, webhook_id=3, customer_id=2, held=5)

    first = start(lanes)
    assert [turn.lane.webhook_id for turn in first] == [1, 3, 2, 3, 1, 3]
    order: list[int] = []
    for turn in [turn for turn in first if turn.lane.customer_id == 1]:
        end(lanes, turn)
        order += started_webhooks(lanes)
    assert order == [2, 1, 2]


def test_a_cap_that_is_raised_takes_effect_at_once() -> None:
    lanes = make_lanes()
    add_lane(lanes, held=5, max_in_flight=1)
    assert len(start(lanes)) == 1
    change(lanes, make_webhook(max_in_flight=3))
    assert len(start(lanes)) == 2


def test_a_cap_that_is_lowered_lets_attempts_end_and_starts_no_others_until_they_have() -> None:
    lanes = make_lanes()
    add_lane(lanes, held=9, max_in_flight=4)
    in_flight = start(lanes)
    change(lanes, make_webhook(max_in_flight=2))
    for turn in in_flight[:2]:
        end(lanes, turn)
        assert start(lanes) == []
    end(lanes, in_flight[2])
    assert len(start(lanes)) == 1


def test_everything_held_is_started_in_the_end() -> None:
    lanes = make_lanes(customer_in_flight_max=3, host_in_flight_max=4)
    for webhook_id in range(1, 9):
        url = f"https://host{webhook_id % 2}.example.com/"
        add_lane(lanes, webhook_id, customer_id=webhook_id % 3, held=10, max_in_flight=2, url=url)
    delivered: list[PendingDelivery] = []
    while in_flight := start(lanes):
        for turn in in_flight:
            end(lanes, turn)
            delivered.append(turn.delivery)
    assert len(delivered) == len({delivery.event_id for delivery in delivered}) == 80
    assert lanes.in_flight == 0
    assert len(lanes) == 0


# --- what is held ----------------------------------------------------------------------------------------------------


def test_a_delivery_is_held_once_until_it_is_settled() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    lane.reading.behind = True  # keeps the lane
    delivery = make_delivery()

    assert lanes.hold(lane, delivery, NOW)
    assert not lanes.hold(lane, delivery, NOW), "queued"
    [turn] = start(lanes)
    assert turn.delivery is delivery
    assert not lanes.hold(lane, delivery, NOW), "in flight"
    lanes.finished(turn, NOW)
    assert not lanes.hold(lane, delivery, NOW), "not settled yet"
    assert start(lanes) == []
    lanes.release(turn)
    assert lanes.hold(lane, delivery, NOW), "its next attempt"
    assert [turn.delivery for turn in start(lanes)] == [delivery]


def test_finding_a_delivery_again_does_not_mean_that_the_table_has_more() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    delivery = make_delivery()
    lanes.hold(lane, delivery, NOW)
    lanes.hold(lane, delivery, NOW)
    assert not lane.reading.behind


def test_a_full_lane_leaves_the_rest_in_the_table_and_remembers_that_there_is_more() -> None:
    lanes = make_lanes(prefetch_max=3)
    lane = add_lane(lanes, held=3)
    assert lanes.room(lane, NOW) == 0
    assert not lane.reading.behind
    assert not lanes.hold(lane, make_delivery(), NOW)
    assert lane.reading.behind
    assert len(lane.held) == 3


def test_what_is_in_flight_takes_room_until_it_is_settled() -> None:
    lanes = make_lanes(prefetch_max=3)
    lane = add_lane(lanes, held=3)
    [turn] = start(lanes, 1)
    assert lanes.room(lane, NOW) == 0
    lanes.finished(turn, NOW)
    assert lanes.room(lane, NOW) == 0
    lanes.release(turn)
    assert lanes.room(lane, NOW) == 1


def test_a_full_lane_leaves_room_in_the_others() -> None:
    lanes = make_lanes(prefetch_max=3)
    add_lane(lanes, webhook_id=1, held=3)
    other = add_lane(lanes, webhook_id=2)
    assert lanes.room(other, NOW) == 3


@pytest.mark.parametrize(("held", "is_low"), [(0, True), (4, True), (5, True), (6, False), (10, False)])
def test_a_lane_is_filled_up_when_half_of_it_is_free(held: int, *, is_low: bool) -> None:
    lanes = make_lanes(prefetch_max=10)
    assert lanes.is_low(add_lane(lanes, held=held), NOW) is is_low


def test_the_bodies_that_are_held_are_bounded_over_all_lanes() -> None:
    lanes = make_lanes(prefetch_bytes_max=201)
    one, other = add_lane(lanes, webhook_id=1), add_lane(lanes, webhook_id=2)
    assert lanes.hold(one, make_delivery(1), NOW)
    assert lanes.hold(other, make_delivery(2), NOW)
    assert not lanes.is_full
    assert lanes.hold(one, make_delivery(1), NOW), "the one that crosses the bound is still held"
    assert lanes.is_full
    assert lanes.room(one, NOW) == lanes.room(other, NOW) == 0
    assert not lanes.hold(other, make_delivery(2, body=b""), NOW)
    assert other.reading.behind
    assert not one.reading.behind


def test_a_lane_with_large_bodies_gets_no_more_than_its_share() -> None:
    lanes = make_lanes(lane_bytes_max=150)
    one, other = add_lane(lanes, webhook_id=1), add_lane(lanes, webhook_id=2)
    assert lanes.hold(one, make_delivery(1), NOW)
    assert lanes.hold(one, make_delivery(1), NOW), "the one that crosses the bound is still held"
    assert not lanes.hold(one, make_delivery(1), NOW)
    assert lanes.hold(other, make_delivery(2), NOW)


def test_when_all_memory_is_used_every_lane_may_still_hold_one() -> None:
    lanes = make_lanes(prefetch_bytes_max=100)
    one, other = add_lane(lanes, webhook_id=1), add_lane(lanes, webhook_id=2)
    assert lanes.hold(one, make_delivery(1), NOW)
    assert lanes.is_full
    assert lanes.hold(other, make_delivery(2), NOW), "it must not stand still because of others"
    assert not lanes.hold(other, make_delivery(2), NOW)


def test_settling_gives_bytes_back_and_finishing_does_not() -> None:
    lanes = make_lanes(prefetch_bytes_max=200)
    lane = add_lane(lanes, held=2)
    [turn, _] = start(lanes)
    lanes.finished(turn, NOW)
    assert lanes.is_full
    lanes.release(turn)
    assert not lanes.is_full
    assert lanes.hold(lane, make_delivery(), NOW)


def test_a_lane_knows_up_to_which_due_time_the_table_was_read() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    assert lane.reading.reached is None
    deliveries = [make_delivery() for _ in range(3)]
    for delivery in deliveries:
        lanes.hold(lane, delivery, NOW)
        assert lane.reading.reached == delivery.due_at

    started = start(lanes)
    end(lanes, started[0])
    assert lane.reading.reached == deliveries[2].due_at, "what is settled was read"
    lanes.hold(lane, deliveries[0], NOW)
    assert lane.reading.reached == deliveries[2].due_at, "an earlier one does not take it back"


def test_what_was_just_published_says_nothing_about_a_table_that_has_more() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    old, new, newer = make_delivery(), make_delivery(is_fresh=True), make_delivery(is_fresh=True)
    lanes.hold(lane, old, NOW)
    lane.reading.behind = True
    lanes.hold(lane, new, NOW)
    assert lane.reading.reached == old.due_at, "between the two there is a backlog"
    lane.reading.behind = False
    lanes.hold(lane, newer, NOW)
    assert lane.reading.reached == newer.due_at


def test_a_lane_that_was_emptied_is_read_from_the_beginning() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=3)
    lane.reading.fresh_floor = START
    change(lanes, make_webhook(status=WebhookStatus.PAUSED))
    assert lane.reading.reached is None
    assert lane.reading.fresh_floor is None
    assert lane.reading.behind


# --- when a lane goes ------------------------------------------------------------------------------------------------


def test_a_lane_with_nothing_in_it_is_forgotten_unless_the_table_may_have_more() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=1)
    behind = add_lane(lanes, webhook_id=2, held=1)
    behind.reading.behind = True
    for turn in start(lanes):
        end(lanes, turn)
    assert list(lanes) == [behind]
    assert lanes.get(1) is None
    assert lanes.get(2) is behind

    behind.reading.behind = False
    lanes.drop_if_unused(behind)
    assert len(lanes) == 0


def test_a_lane_is_not_forgotten_while_the_table_is_read_for_it() -> None:
    """All that it held may be sent and settled meanwhile: how far it was read, and that it has a backlog, would go."""
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    lane.reading.requests(NOW, 2, room=10, fresh_room=10, is_ending=False, database_time=START)
    for turn in start(lanes):
        end(lanes, turn)
    assert lanes.get(1) is lane

    lane.reading.end_read()
    lanes.drop_if_unused(lane)
    assert len(lanes) == 0


def test_a_lane_is_not_forgotten_while_it_holds_anything() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    end(lanes, start(lanes, 1)[0])
    lanes.drop_if_unused(lane)
    assert lanes.get(1) is lane


def test_nothing_is_left_of_customers_that_came_and_went() -> None:
    """The lanes are plain data, so all that they keep shows in their pickled form."""
    lanes = make_lanes()
    sizes: list[int] = []
    for number in range(100):
        url = f"https://host{number}.example.com/"
        add_lane(lanes, webhook_id=1, customer_id=1000 + number, held=1, url=url)
        end(lanes, start(lanes)[0])
        add_lane(lanes, webhook_id=1, customer_id=2000 + number, held=1)
        lanes.forget_shards({1})
        assert start(lanes) == []
        sizes.append(len(pickle.dumps(lanes)))
    assert len(set(sizes)) == 1


def test_opening_a_lane_again_gives_the_same_one() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1)
    assert lanes.open(1, 1, shard_of(1), NOW + 1) is lane
    assert len(lanes) == 1


# --- the webhook's status --------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_webhook_is_known() -> None:
    lanes = make_lanes()
    lane = lanes.open(1, 1, shard_of(1), NOW)
    assert lanes.hold(lane, make_delivery(), NOW)
    assert start(lanes) == []
    change(lanes, make_webhook())
    assert started_webhooks(lanes) == [1]


def test_a_lane_that_learns_its_webhook_looks_at_the_table() -> None:
    lanes = make_lanes()
    lane = lanes.open(1, 1, shard_of(1), NOW)
    change(lanes, make_webhook())
    assert lane.reading.behind


@pytest.mark.parametrize(("status", "is_read"), [(WebhookStatus.ACTIVE, False), (WebhookStatus.DISABLED, True)])
def test_a_lane_that_was_made_for_what_was_just_published_looks_at_the_table_only_to_end_what_is_there(
    status: WebhookStatus, *, is_read: bool
) -> None:
    lanes, published = make_lanes(), make_delivery(is_fresh=True)
    lane = lanes.open(1, 1, shard_of(1), NOW)
    lane.reading.begin_with(published)
    change(lanes, make_webhook(status=status))
    lanes.hold(lane, published, NOW)
    assert lane.reading.behind is is_read


def test_a_webhook_without_a_lane_gets_none_by_being_changed() -> None:
    lanes = make_lanes()
    change(lanes, make_webhook())
    assert len(lanes) == 0


def test_a_paused_webhook_hands_its_queue_back_to_the_table() -> None:
    lanes = make_lanes(prefetch_bytes_max=300)
    lane = add_lane(lanes, held=3)
    [turn] = start(lanes, 1)
    change(lanes, make_webhook(status=WebhookStatus.PAUSED))

    assert start(lanes) == []
    assert list(lane.held.values()) == [turn.delivery], "what is in flight goes on"
    assert lane.reading.behind
    assert not lanes.is_full
    assert not lanes.hold(lane, make_delivery(), NOW)
    end(lanes, turn)
    assert start(lanes) == []


def test_a_resumed_webhook_goes_on_from_the_table() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    handed_back = list(lane.held.values())
    change(lanes, make_webhook(status=WebhookStatus.PAUSED))
    assert lanes.get(lane.webhook_id) is None, "it is found again when it is not paused any more"

    lane = add_lane(lanes)
    assert all(lanes.hold(lane, delivery, NOW) for delivery in handed_back)
    assert [turn.delivery for turn in start(lanes)] == handed_back


def test_a_paused_webhook_does_not_take_its_customers_turn() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=2)
    add_lane(lanes, webhook_id=2, held=2)
    change(lanes, make_webhook(1, status=WebhookStatus.PAUSED))
    assert started_webhooks(lanes) == [2, 2]


def test_a_change_that_leaves_the_status_alone_disturbs_nothing() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=3)
    change(lanes, make_webhook(url="https://example.org/", version=2))
    assert lane.receiver is not None
    assert lane.receiver.webhook.version == 2
    assert not lane.reading.behind
    assert started_webhooks(lanes) == [1, 1, 1]


@pytest.mark.parametrize("status", [WebhookStatus.DISABLED, WebhookStatus.DELETED])
def test_an_ended_webhook_hands_out_its_deliveries_to_be_cancelled(status: WebhookStatus) -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    assert not lane.is_ending
    change(lanes, make_webhook(status=status))
    assert lane.is_ending
    assert lane.reading.behind, "the rest of them is in the table"
    assert lanes.hold(lane, make_delivery(), NOW)
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


def test_what_is_only_to_be_settled_takes_no_turn_and_is_not_held_twice() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    overdue = make_delivery(body=b"")

    turn = lanes.reserve(lane, overdue)
    assert turn is not None
    assert not lanes.reserve(lane, overdue)
    assert not lanes.hold(lane, overdue, NOW)
    assert start(lanes) == []
    assert not lanes.is_idle(lane.shard), "the shard is given back when it is settled"
    lanes.release(turn)
    assert lanes.is_idle(lane.shard)
    assert lanes.get(lane.webhook_id) is None


def test_what_is_held_is_not_taken_for_settling_only() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    queued = make_delivery()
    assert lanes.hold(lane, queued, NOW)
    assert not lanes.reserve(lane, queued)
    [started] = start(lanes)
    assert not lanes.reserve(lane, started.delivery)


def test_a_paused_lane_is_forgotten_when_what_was_to_be_settled_is() -> None:
    """Known to have something in the table or not: it is found again when it is not paused any more."""
    lanes = make_lanes()
    lane = lanes.open(1, 1, shard_of(1), NOW)
    overdue = make_delivery(body=b"")
    turn = lanes.reserve(lane, overdue)
    assert turn is not None
    change(lanes, make_webhook(status=WebhookStatus.PAUSED))
    assert lanes.get(1) is lane
    lanes.release(turn)
    assert lanes.get(1) is None


def test_a_closed_shard_starts_nothing_and_is_idle_when_all_is_settled() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=1, held=3)
    [turn] = start(lanes, 1)
    lanes.close_shards({1})

    assert start(lanes) == []
    assert lane.reading.behind
    assert list(lane.held.values()) == [turn.delivery]
    assert not lanes.is_idle(1)
    lanes.finished(turn, NOW)
    assert start(lanes) == []
    assert not lanes.is_idle(1), "its result is still to be settled"
    lanes.release(turn)
    assert lanes.is_idle(1)


def test_a_shard_is_busy_since_the_oldest_of_its_attempts_began() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=2)
    assert lanes.busy_since(1) == math.inf
    [first] = start(lanes, 1)
    second = lanes.next(NOW + 5)
    assert second is not None
    assert lanes.busy_since(1) == NOW
    lanes.finished(first, NOW + 6)
    assert lanes.busy_since(1) == NOW, "its result is still to be settled"
    lanes.release(first)
    assert lanes.busy_since(1) == NOW + 5


def test_what_comes_for_a_closed_shard_is_not_started() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=1)
    lanes.close_shards({1})
    lanes.hold(lane, make_delivery(1), NOW)
    newcomer = add_lane(lanes, webhook_id=65)  # of the same shard
    lanes.hold(newcomer, make_delivery(65), NOW)
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


def test_a_webhook_that_does_not_exist_leaves_nothing_behind_once_what_is_only_settled_has_ended() -> None:
    lanes = make_lanes(prefetch_bytes_max=200)
    lane = lanes.open(1, 1, 1, NOW)
    assert lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    turn = lanes.reserve(lane, make_delivery())
    assert turn is not None
    known = add_lane(lanes, webhook_id=2)
    assert lanes.is_full
    for webhook_id in (1, 2, 3):
        lanes.forget_unowned(webhook_id)
    assert not lanes.is_full
    assert list(lanes) == [lane, known]
    assert list(lane.held) == [turn.delivery.event_id]
    lanes.release(turn)
    lanes.forget_unowned(1)
    assert list(lanes) == [known]


def test_an_attempt_in_flight_of_a_forgotten_shard_ends_without_harm() -> None:
    lanes = make_lanes(prefetch_bytes_max=200)
    add_lane(lanes, webhook_id=1, held=2)
    [turn] = start(lanes, 1)
    lanes.forget_shards({1})
    assert lanes.in_flight == 1
    end(lanes, turn)
    assert lanes.in_flight == 0
    assert lanes.is_idle(1)
    assert not lanes.is_full
    assert len(lanes) == 0


def test_a_shard_that_comes_back_begins_anew_and_the_old_attempt_leaves_it_alone() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=1)
    [old] = start(lanes)
    lanes.close_shards({1})
    lanes.forget_shards({1})

    new_lane = add_lane(lanes, webhook_id=1, held=1)
    assert new_lane is not old.lane
    assert started_webhooks(lanes) == [1], "it is open again"
    end(lanes, old)
    assert lanes.get(1) is new_lane
    assert len(new_lane.held) == 1
    assert not lanes.is_idle(1)


def test_what_is_being_sent_when_its_shard_is_lost_and_taken_again_is_not_held_until_that_is_settled() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=1)
    [old] = start(lanes)
    lanes.forget_shards({1})
    lane = add_lane(lanes, webhook_id=1)

    assert not lanes.hold(lane, old.delivery, NOW), "its row is as it was"
    assert lanes.reserve(lane, old.delivery) is None
    assert not lanes.bar(1, old.delivery.event_id), "as what is in flight at any time"
    assert lanes.stray_count(lane) == 1
    lanes.finished(old, NOW)
    assert not lanes.hold(lane, old.delivery, NOW), "its result is still to be settled"
    lanes.put_back(old)
    assert lane.reading.behind, "nothing came of it"
    assert lanes.hold(lane, old.delivery, NOW)
    assert lanes.stray_count(lane) == 0


def test_what_another_owner_has_done_meanwhile_is_gone_on_with_beside_an_old_attempt() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=1)
    [old] = start(lanes)
    lanes.forget_shards({1})
    lane = add_lane(lanes, webhook_id=1)
    assert lanes.hold(lane, replace(old.delivery, attempt=1), NOW), "the old attempt can't be settled any more"
    end(lanes, old)
    assert len(lane.held) == 1


@pytest.mark.parametrize(("of_customer", "of_webhook"), [(1, 2), (2, 1)])
def test_an_old_attempt_counts_against_the_caps_of_its_customer_and_its_webhook_until_it_ends(
    of_customer: int, of_webhook: int
) -> None:
    lanes = make_lanes(customer_in_flight_max=of_customer)
    add_lane(lanes, webhook_id=1, held=1, max_in_flight=of_webhook)
    [turn] = start(lanes)
    for _ in range(2):
        lanes.forget_shards({1})
        add_lane(lanes, webhook_id=1, held=1, max_in_flight=of_webhook)
        assert start(lanes) == []
    lanes.finished(turn, NOW)
    assert started_webhooks(lanes) == [1]
    lanes.release(turn)


# --- alarms ----------------------------------------------------------------------------------------------------------


def test_an_alarm_makes_a_lane_look_at_the_table_when_its_time_has_come() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    lanes.set_alarm(1, NOW + 5)
    lanes.ring_alarms(NOW + 4.999)
    assert not lane.reading.behind
    lanes.ring_alarms(NOW + 5)
    assert lane.reading.behind


def test_an_alarm_rings_once() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    lanes.set_alarm(1, NOW)
    lanes.ring_alarms(NOW)
    lane.reading.behind = False
    lanes.ring_alarms(NOW + 3600)
    assert not lane.reading.behind


def test_alarms_ring_in_the_order_of_their_times_whatever_the_order_in_which_they_were_set() -> None:
    lanes = make_lanes()
    first, second, third = (add_lane(lanes, webhook_id) for webhook_id in (1, 2, 3))
    lanes.set_alarm(3, NOW + 3)
    lanes.set_alarm(1, NOW + 1)
    lanes.set_alarm(2, NOW + 2)
    lanes.ring_alarms(NOW + 2.5)
    assert (first.reading.behind, second.reading.behind, third.reading.behind) == (True, True, False)


def test_an_alarm_of_a_lane_that_is_gone_is_ignored() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=2)
    lanes.set_alarm(1, NOW)
    lanes.set_alarm(2, NOW)
    lanes.ring_alarms(NOW)
    assert lanes.get(1) is None
    assert lane.reading.behind


# --- hosts -----------------------------------------------------------------------------------------------------------

SHARED = "https://shared.example.com/"
OTHER = "https://other.example.com/"


def add_waiting(lanes: Lanes, *webhook_ids: int) -> list[Lane]:
    """A lane of a customer of its own for each, all of one host, with a delivery that had its turn in vain."""
    added = [add_lane(lanes, webhook_id, customer_id=webhook_id, held=1, url=SHARED) for webhook_id in webhook_ids]
    assert start(lanes) == []
    return added


def take_host(lanes: Lanes, webhook_id: int = 1) -> Turn:
    """A request that takes the only slot of the shared host."""
    add_lane(lanes, webhook_id, customer_id=webhook_id, held=1, url=SHARED)
    [turn] = start(lanes)
    return turn


def test_the_webhooks_that_lead_to_one_host_share_its_cap_whoever_has_them() -> None:
    lanes = make_lanes(host_in_flight_max=3)
    for webhook_id in (1, 2):
        add_lane(lanes, webhook_id, customer_id=webhook_id, held=5, url=f"{SHARED}{webhook_id}")
    add_lane(lanes, webhook_id=3, customer_id=3, held=5, url=OTHER)
    assert started_webhooks(lanes) == [1, 2, 3, 1, 3, 3]


@pytest.mark.parametrize(
    "url",
    [
        "https://SHARED.example.com/",
        "https://shared.example.com./",
        "https://shared.example.com:8443/a?b=c",
        "http://shared.example.com/",
    ],
)
def test_a_host_is_the_same_however_it_is_written(url: str) -> None:
    lanes = make_lanes(host_in_flight_max=1)
    take_host(lanes)
    add_lane(lanes, webhook_id=2, held=1, url=url)
    assert start(lanes) == []


def test_a_host_that_hangs_delays_no_other() -> None:
    lanes = make_lanes(host_in_flight_max=2)
    for webhook_id in (1, 2, 3):
        add_lane(lanes, webhook_id, held=10, url=SHARED)
    other = add_lane(lanes, webhook_id=4, held=10, url=OTHER)
    in_flight = start(lanes)
    assert [turn.lane.webhook_id for turn in in_flight] == [1, 2, 4, 4]
    for _ in range(4):  # the attempts at the shared host never end
        for turn in [turn for turn in in_flight if turn.lane is other]:
            end(lanes, turn)
        in_flight = start(lanes)
        assert [turn.lane.webhook_id for turn in in_flight] == [4, 4]


def test_who_has_waited_longest_for_a_host_is_first() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turns = [take_host(lanes)]
    add_waiting(lanes, 5, 3, 4, 2)
    order: list[int] = []
    while turns:
        end(lanes, turns[0])
        turns = start(lanes)
        order += [turn.lane.webhook_id for turn in turns]
    assert order == [5, 3, 4, 2]


def test_lanes_with_backlogs_take_turns_at_a_hosts_slot() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    for webhook_id in (1, 2, 3):
        add_lane(lanes, webhook_id, customer_id=webhook_id % 2, held=10, url=SHARED)
    [turn] = start(lanes)
    order: list[int] = []
    for _ in range(9):
        end(lanes, turn)
        [turn] = start(lanes)
        order.append(turn.lane.webhook_id)
    assert order[1:] == [2, 3, 2, 1, 2, 3, 2, 1], "customer by customer, and the webhooks of each in turn"


def test_customers_take_turns_at_a_hosts_slots_however_many_webhooks_one_of_them_has_there() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    for webhook_id in range(2, 12):
        add_lane(lanes, webhook_id, customer_id=2, held=5, url=SHARED)
    assert start(lanes) == []
    add_waiting(lanes, 20, 21)
    order: list[int] = []
    for _ in range(6):
        end(lanes, turn)
        [turn] = start(lanes)
        order.append(turn.lane.webhook_id)
    assert order == [2, 20, 21, 3, 4, 5]


def test_no_customer_takes_all_slots_of_a_host() -> None:
    lanes = make_lanes(host_in_flight_max=5, host_share=0.8)
    for webhook_id in range(1, 11):
        add_lane(lanes, webhook_id, customer_id=1, held=5, url=SHARED)
    turns = start(lanes)
    assert len(turns) == 4
    for webhook_id in (20, 21):
        add_lane(lanes, webhook_id, customer_id=2, held=1, url=SHARED)
        [other] = start(lanes)
        assert other.lane.webhook_id == webhook_id
        end(lanes, other)
        assert start(lanes) == [], "the slot is left for others"
        end(lanes, turns.pop(0))
        [again] = start(lanes)
        assert again.lane.customer_id == 1
        turns.append(again)


@pytest.mark.parametrize(
    ("slots", "share", "most"), [(50, 0.8, 40), (50, 1.0, 50), (5, 0.8, 4), (2, 0.8, 1), (1, 0.8, 1), (3, 0.01, 1)]
)
def test_the_share_of_a_host_that_one_customer_may_have(slots: int, share: float, most: int) -> None:
    assert HostLimits(slots, share).customer_in_flight_max == most


def test_several_slots_wake_several() -> None:
    lanes = make_lanes(host_in_flight_max=3)
    add_lane(lanes, webhook_id=1, customer_id=1, held=3, url=SHARED)
    turns = start(lanes)
    add_waiting(lanes, 2, 3, 4, 5)
    for turn in turns:
        end(lanes, turn)
    assert started_webhooks(lanes) == [2, 3, 4]


def test_a_lane_waits_for_a_host_once_however_often_it_is_looked_at() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    [lane] = add_waiting(lanes, 2)
    for _ in range(5):
        lanes.hold(lane, make_delivery(2, 2), NOW)
        change(lanes, make_webhook(2, 2, url=SHARED))
    assert list(lanes._hosts._hosts[lane.host].waiting[2]) == [lane]
    end(lanes, turn)
    assert started_webhooks(lanes) == [2]


def pause(lanes: Lanes, lane: Lane) -> None:
    change(lanes, make_webhook(lane.webhook_id, lane.customer_id, url=SHARED, status=WebhookStatus.PAUSED))


def close_shard(lanes: Lanes, lane: Lane) -> None:
    lanes.close_shards({lane.shard})


def lose_shard(lanes: Lanes, lane: Lane) -> None:
    lanes.close_shards({lane.shard})
    lanes.forget_shards({lane.shard})


def limit_rate(lanes: Lanes, lane: Lane) -> None:
    change(lanes, make_webhook(lane.webhook_id, lane.customer_id, url=SHARED, rate_limit_per_second=1))
    pace_of(lane).started(NOW)


def hold_back(lanes: Lanes, lane: Lane) -> None:
    """Its receiver asked for that with a Retry-After."""
    pace_of(lane).hold(60, NOW)


def break_off(lanes: Lanes, lane: Lane) -> None:
    for _ in range(10):
        pace_of(lane).ended(TIMEOUT, None, started_at=NOW, now=NOW, jitter=0.5)


SPOILERS = [pause, close_shard, lose_shard, limit_rate, hold_back, break_off]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_lane_that_can_not_use_a_hosts_slot_any_more_does_not_keep_it_from_others(
    spoil: Callable[[Lanes, Lane], None],
) -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    spoilt, _ = add_waiting(lanes, 2, 3)
    spoil(lanes, spoilt)
    end(lanes, turn)
    assert started_webhooks(lanes) == [3]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_not_even_if_that_happens_when_it_has_been_given_the_slot_already(
    spoil: Callable[[Lanes, Lane], None],
) -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    spoilt, *_ = add_waiting(lanes, 2, 3, 4)
    end(lanes, turn)
    spoil(lanes, spoilt)
    [turn] = start(lanes)
    assert turn.lane.webhook_id == 3
    end(lanes, turn)
    assert started_webhooks(lanes) == [4]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_many_of_them_do_not_either(spoil: Callable[[Lanes, Lane], None]) -> None:
    lanes = make_lanes(host_in_flight_max=2)
    add_lane(lanes, webhook_id=1, customer_id=1, held=2, url=SHARED)
    turns = start(lanes)
    *spoilt, _, _ = add_waiting(lanes, *range(2, 12))
    end(lanes, turns[0])
    for lane in spoilt:
        spoil(lanes, lane)
    end(lanes, turns[1])
    assert started_webhooks(lanes) == [10, 11]


def test_a_lane_that_was_held_back_comes_again_when_its_time_has_come() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    held_back, _ = add_waiting(lanes, 2, 3)
    hold_back(lanes, held_back)
    end(lanes, turn)
    [turn] = start(lanes)
    assert lanes.next_gate_at == NOW + 60
    lanes.open_gates(NOW + 60)
    assert start(lanes, now=NOW + 60) == [], "the host has no slot now"
    end(lanes, turn, NOW + 61)
    assert started_webhooks(lanes, now=NOW + 61) == [2]


def test_a_newcomer_may_take_a_slot_that_is_free() -> None:
    lanes = make_lanes(host_in_flight_max=2)
    take_host(lanes)
    add_lane(lanes, webhook_id=2, customer_id=2, held=1, url=SHARED)
    assert started_webhooks(lanes) == [2]


def test_a_webhook_whose_url_changes_counts_at_its_new_host() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    take_host(lanes)
    add_waiting(lanes, 2)
    change(lanes, make_webhook(2, 2, url=OTHER))
    assert started_webhooks(lanes) == [2]
    add_lane(lanes, webhook_id=3, customer_id=3, held=1, url=OTHER)
    assert start(lanes) == []


def test_what_is_in_flight_when_the_url_changes_counts_at_the_old_host_until_it_ends() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    change(lanes, make_webhook(1, 1, url=OTHER))
    add_waiting(lanes, 2)
    end(lanes, turn)
    assert started_webhooks(lanes) == [2]
    add_lane(lanes, webhook_id=1, customer_id=1, held=1, url=OTHER)
    assert started_webhooks(lanes) == [1]


def test_when_the_last_request_to_the_old_host_has_ended_a_backlog_goes_on_at_the_new_one() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    lane = add_lane(lanes, held=2, max_in_flight=1, url=SHARED)
    [turn] = start(lanes)
    change(lanes, make_webhook(max_in_flight=1, url=OTHER))
    add_waiting(lanes, 2)
    end(lanes, turn)
    assert sorted(started_webhooks(lanes)) == [1, 2]
    assert lane.host == "other.example.com"


def test_a_customer_at_its_cap_does_not_keep_a_hosts_slot_from_another_customer() -> None:
    lanes = make_lanes(host_in_flight_max=1, customer_in_flight_max=1)
    turn = take_host(lanes)
    add_lane(lanes, webhook_id=9, customer_id=2, held=1, url=OTHER)
    add_lane(lanes, webhook_id=2, customer_id=2, held=1, url=SHARED)
    assert started_webhooks(lanes) == [9]
    add_waiting(lanes, 3)
    end(lanes, turn)
    assert started_webhooks(lanes) == [3]


def test_a_lane_that_moves_to_another_host_leaves_its_slot_to_those_who_wait() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    turn = take_host(lanes)
    add_waiting(lanes, 2, 3)
    end(lanes, turn)
    change(lanes, make_webhook(2, 2, url=OTHER))
    assert started_webhooks(lanes) == [2, 3]


def test_a_lane_that_has_moved_while_it_waited_takes_no_slot_of_the_old_host() -> None:
    lanes = make_lanes(host_in_flight_max=2, customer_in_flight_max=1)
    turn = take_host(lanes, 1)
    take_host(lanes, 8)
    add_lane(lanes, webhook_id=2, customer_id=2, held=2, url=SHARED)
    add_waiting(lanes, 3)
    change(lanes, make_webhook(2, 2, url=OTHER))
    assert started_webhooks(lanes) == [2], "and is ready for its next, when its customer has a slot"
    end(lanes, turn)
    assert started_webhooks(lanes) == [3]


def test_a_lane_that_moves_from_a_full_host_to_another_waits_for_the_new_one() -> None:
    lanes = make_lanes(host_in_flight_max=1)
    take_host(lanes)
    add_waiting(lanes, 2)
    add_lane(lanes, webhook_id=3, customer_id=3, held=1, url=OTHER)
    [turn] = start(lanes)
    change(lanes, make_webhook(2, 2, url=OTHER))
    end(lanes, turn)
    assert started_webhooks(lanes) == [2]


# --- gates -----------------------------------------------------------------------------------------------------------


def test_without_anything_to_wait_for_there_is_no_gate() -> None:
    lanes = make_lanes()
    assert lanes.next_gate_at == math.inf
    assert not lanes.open_gates(NOW)
    add_lane(lanes, held=3, max_in_flight=1)
    start(lanes)
    assert lanes.next_gate_at == math.inf, "time alone does not free a slot"


def test_a_rate_limited_lane_starts_each_delivery_at_its_time_and_not_before() -> None:
    lanes = make_lanes()
    add_lane(lanes, held=2, rate_limit_per_second=4)
    for number in range(1, 3):
        at = NOW + number / 4
        assert start(lanes) == []
        assert lanes.next_gate_at == pytest.approx(at)
        assert not lanes.open_gates(at - 0.01)
        assert start(lanes, now=at - 0.01) == []
        assert not lanes.open_gates(at), "what it needs is held"
        assert started_webhooks(lanes, now=at) == [1]
    assert lanes.next_gate_at == math.inf


def test_a_rate_limited_webhook_delays_no_other() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, held=2, rate_limit_per_second=1)
    add_lane(lanes, webhook_id=2, held=3)
    assert started_webhooks(lanes) == [2, 2, 2]


def test_gates_open_in_the_order_of_their_times() -> None:
    lanes = make_lanes()
    for webhook_id, seconds in ((1, 3), (2, 1), (3, 2)):
        lane = add_lane(lanes, webhook_id)
        pace_of(lane).hold(seconds, NOW)
        lane.reading.behind = True
        change(lanes, make_webhook(webhook_id))
    assert lanes.next_gate_at == NOW + 1
    assert lanes.open_gates(NOW + 2)
    assert lanes.next_gate_at == NOW + 3


def test_when_a_breaker_opens_what_is_queued_goes_back_and_nothing_is_held() -> None:
    lanes = make_lanes(prefetch_bytes_max=2000)
    lane = add_lane(lanes, held=20, max_in_flight=10)
    sent = open_breaker(lanes, lane)

    assert list(lane.held.values()) == [turn.delivery for turn in sent], "what was sent is not settled yet"
    assert lane.reading.behind
    assert lane.reading.reached is None
    assert lanes.room(lane, NOW) == 0
    assert not lanes.hold(lane, make_delivery(), NOW)
    assert not lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    for turn in sent:
        lanes.release(turn)
    assert not lane.held
    assert lanes._held_bytes == lane.held_bytes == 0
    assert lanes.get(1) is lane, "the table has more"
    assert start(lanes) == []


def test_an_open_breaker_starts_one_delivery_when_its_probe_is_due_and_not_before() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=20, max_in_flight=10)
    for turn in open_breaker(lanes, lane):
        lanes.release(turn)

    assert start(lanes) == []
    assert lanes.next_gate_at == NOW + 30
    assert not lanes.open_gates(NOW + 29.9)
    assert lanes.room(lane, NOW + 29.9) == 0
    assert lanes.open_gates(NOW + 30), "the probe has to be read from the table"
    assert lanes.room(lane, NOW + 30) == 1
    assert lanes.hold(lane, make_delivery(), NOW + 30)
    assert not lanes.hold(lane, make_delivery(), NOW + 30)
    [probe] = start(lanes, now=NOW + 30)
    fail(lanes, probe, NOW + 40)
    assert lanes.next_gate_at == NOW + 40 + 60


def test_a_half_open_breaker_lets_one_and_then_two_through() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=10, max_in_flight=10)
    for turn in open_breaker(lanes, lane):
        lanes.release(turn)
    now = NOW + 30
    lanes.hold(lane, make_delivery(), now)
    for slots in [1, 1, 1, 1, 1, 1, 2]:  # the probe, five that are answered
        turns = start(lanes, now=now)
        assert len(turns) == slots
        for turn in turns:
            fail(lanes, turn, now, SUCCESS)
            lanes.release(turn)
        while lanes.hold(lane, make_delivery(), now):
            pass


def test_a_webhook_whose_receiver_asked_to_wait_is_not_sent_anything_for_so_long() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=5)
    [turn] = start(lanes, 1)
    assert lane.is_ready
    pace_of(lane).ended(OVERLOADED, 120, started_at=NOW, now=NOW, jitter=0.5)
    lanes.finished(turn, NOW)
    assert list(lane.held.values()) == [turn.delivery]
    assert start(lanes) == []
    assert lanes.next_gate_at == NOW + 120
    assert lanes.open_gates(NOW + 120)
    assert lanes.hold(lane, make_delivery(), NOW + 120)
    assert started_webhooks(lanes, now=NOW + 120) == [1]


def test_a_lane_that_holds_what_it_needs_is_not_hungry_though_the_table_has_more() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1, rate_limit_per_second=1)
    assert start(lanes) == []
    lane.reading.behind = True
    assert not lanes.open_gates(NOW + 1)
    assert started_webhooks(lanes, now=NOW + 1) == [1]


def test_a_gate_of_a_lane_that_did_not_need_to_wait_does_nothing() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1, rate_limit_per_second=1)
    assert start(lanes) == []
    change(lanes, make_webhook())
    end(lanes, start(lanes)[0])
    assert lanes.get(1) is None
    assert not lanes.open_gates(NOW + 1)
    assert start(lanes, now=NOW + 1) == []
    assert lane.in_flight == 0
    assert lanes.next_gate_at == math.inf


def test_a_gate_of_a_lane_that_was_lost_does_not_open_its_successor() -> None:
    lanes = make_lanes()
    old = add_lane(lanes)
    pace_of(old).hold(10, NOW)
    old.reading.behind = True
    change(lanes, make_webhook())
    lanes.forget_shards({1})
    new = add_lane(lanes)
    pace_of(new).hold(20, NOW)
    new.reading.behind = True
    change(lanes, make_webhook())
    assert not lanes.open_gates(NOW + 10)
    assert lanes.next_gate_at == NOW + 20
    assert lanes.open_gates(NOW + 20)


def test_a_lane_is_gated_once_however_often_it_is_looked_at() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1, rate_limit_per_second=1)
    for _ in range(50):
        change(lanes, make_webhook(rate_limit_per_second=1))
        lanes.hold(lane, make_delivery(), NOW)
    assert len(lanes._gates) == 1


def test_an_earlier_time_moves_the_gate_and_the_later_one_does_nothing() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1)
    pace_of(lane).hold(60, NOW)
    assert start(lanes) == []
    assert lanes.next_gate_at == NOW + 60
    pace_of(lane).forget()
    pace_of(lane).hold(5, NOW)
    change(lanes, make_webhook())
    assert lanes.next_gate_at == NOW + 5
    assert lanes.open_gates(NOW + 5)
    lane.reading.behind = False
    assert not lanes.open_gates(NOW + 60)
    assert lanes.next_gate_at == math.inf


@pytest.mark.parametrize("status", [WebhookStatus.DISABLED, WebhookStatus.DELETED])
def test_what_is_only_to_be_cancelled_waits_for_nothing(status: WebhookStatus) -> None:
    """Nothing is sent, so neither rate nor breaker nor hold matter."""
    lanes = make_lanes()
    lane = add_lane(lanes, held=2, max_in_flight=10, rate_limit_per_second=1)
    pace = pace_of(lane)
    break_off(lanes, lane)
    pace.hold(600, NOW)
    change(lanes, make_webhook(status=status, max_in_flight=10, rate_limit_per_second=1))
    while lanes.hold(lane, make_delivery(), NOW):
        pass
    assert len(lane.held) == 100
    assert len(start(lanes)) == 10, "at once, but not more than at other times"
    assert pace._throttle._starts.total(NOW) == 0, "nothing was started"


class RoundedPace(Pace):
    """One whose waiting time is lost when it is added to the time: 1e-9 s are less than half a step of the clock."""

    asked = 0

    def wait_seconds(self, in_flight: int, now: float) -> float:
        del in_flight
        self.asked += 1
        assert self.asked < 1000, "asked for ever"
        return 1e-9 if now <= 1e8 else 0.0


def test_a_wait_that_is_shorter_than_the_clock_can_tell_is_waited_for_once() -> None:
    """As after 12 days: (missing / rate) is added to 1e6, and what rounding takes away is missing again."""
    lanes = make_lanes()
    lane = lanes.open(1, 1, 1, 1e8)
    pace = RoundedPace(POLICY, 1e8)
    lanes.configure(Receiver(make_webhook(), pace), 1e8)
    lanes.hold(lane, make_delivery(), 1e8)
    lanes.open_gates(1e8)
    assert lanes.next_gate_at > 1e8


# --- what was just published beside a backlog ------------------------------------------------------------------------


def kinds(turns: list[Turn]) -> str:
    """The deliveries by kind: fresh or backlog."""
    return "".join("f" if turn.delivery.is_fresh else "b" for turn in turns)


@pytest.mark.parametrize(
    ("backlog", "fresh", "order"),
    [(6, 3, "fbfbfbbbb"), (2, 4, "fbfbff"), (3, 0, "bbb"), (0, 3, "fff"), (1, 1, "fb")],
)
def test_half_of_the_turns_are_for_what_was_just_published(backlog: int, fresh: int, order: str) -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=backlog)
    for _ in range(fresh):
        assert lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    assert kinds(start(lanes)) == order


def test_what_is_published_while_a_backlog_drains_waits_for_one_of_it_at_the_most() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=100, max_in_flight=1)
    for _ in range(20):
        lanes.hold(lane, make_delivery(is_fresh=True), NOW)
        sent = ""
        while "f" not in sent:
            [turn] = start(lanes)
            sent += kinds([turn])
            lanes.finished(turn, NOW)
        assert sent in {"f", "bf"}
    assert len(lane.backlog) >= 80 - 1


def test_a_backlog_goes_on_however_much_is_published() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=10, max_in_flight=1)
    sent = ""
    for _ in range(20):
        for _ in range(3):
            lanes.hold(lane, make_delivery(is_fresh=True), NOW)
        [turn] = start(lanes)
        sent += kinds([turn])
        lanes.finished(turn, NOW)
    assert sent == "fb" * 10


def test_both_keep_their_order() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    for number in range(10):
        lanes.hold(lane, make_delivery(is_fresh=number % 3 == 0), NOW)
    turns = start(lanes)
    for is_fresh in (True, False):
        due = [turn.delivery.due_at for turn in turns if turn.delivery.is_fresh is is_fresh]
        assert due == sorted(due)


def test_a_backlog_takes_no_room_of_what_is_published_nor_the_other_way_round() -> None:
    lanes = make_lanes(prefetch_max=3)
    lane = add_lane(lanes, held=3)
    assert lanes.room(lane, NOW) == 0
    assert not lanes.is_low(lane, NOW)
    assert lanes.room(lane, NOW, fresh=True) == 3
    assert lanes.is_low(lane, NOW, fresh=True)
    for _ in range(2):
        lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    assert lanes.room(lane, NOW, fresh=True) == 1
    assert not lanes.is_low(lane, NOW, fresh=True)
    assert lane.fresh_count == 2


def test_the_room_of_what_was_published_is_given_back_when_it_is_settled() -> None:
    lanes = make_lanes(prefetch_max=1)
    lane = add_lane(lanes, held=1)
    assert lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    assert not lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    [turn] = start(lanes, 1)
    assert turn.delivery.is_fresh
    end(lanes, turn)
    assert lane.fresh_count == 0
    assert lanes.room(lane, NOW, fresh=True) == 1
    assert lanes.room(lane, NOW) == 0


def test_a_lane_is_gone_back_to_the_table_with_what_was_published_too() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=2)
    lanes.hold(lane, make_delivery(is_fresh=True), NOW)
    change(lanes, make_webhook(status=WebhookStatus.PAUSED))
    assert (len(lane.held), lane.fresh_count, lane.held_bytes, lanes._held_bytes) == (0, 0, 0, 0)


# --- large bodies ----------------------------------------------------------------------------------------------------

KIB = 1024


@pytest.mark.parametrize(
    ("size", "turns"),
    [(0, 1), (100, 1), (16 * KIB - 1, 1), (16 * KIB, 2), (64 * KIB, 5), (100 * KIB, 7), (256 * KIB, 17)],
)
def test_a_large_body_costs_turns_of_its_customer(size: int, turns: int) -> None:
    lanes = make_lanes(prefetch_max=1000)
    add_lane(lanes, webhook_id=1, customer_id=1, held=5, body=b"x" * size)
    add_lane(lanes, webhook_id=2, customer_id=2, held=500, max_in_flight=1000)
    lanes._limits = LaneLimits(1000, 10**9, 10**9, 1000, HostLimits(1000))
    order = started_webhooks(lanes)
    places = [place for place, webhook_id in enumerate(order) if webhook_id == 1]
    between = [later - earlier - 1 for earlier, later in pairwise(places)]
    assert between == [turns] * 4
    assert places[0] == turns - 1


def test_large_bodies_delay_no_other_customer() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, customer_id=1, held=10, body=b"x" * 256 * KIB)
    for customer_id in range(2, 7):
        add_lane(lanes, webhook_id=customer_id, customer_id=customer_id, held=100)
    order = started_webhooks(lanes, 172)
    assert order.count(1) == 2, "one in 17 rounds"
    assert [webhook_id for webhook_id in order if webhook_id != 1] == [2, 3, 4, 5, 6] * 34


def test_alone_a_customer_with_large_bodies_does_not_wait() -> None:
    lanes = make_lanes()
    add_lane(lanes, held=10, body=b"x" * 256 * KIB)
    assert started_webhooks(lanes) == [1] * 10


def test_the_webhooks_of_a_customer_with_large_bodies_pay_for_each_other() -> None:
    lanes = make_lanes()
    add_lane(lanes, webhook_id=1, customer_id=1, held=2, body=b"x" * 256 * KIB)
    add_lane(lanes, webhook_id=2, customer_id=1, held=2)
    add_lane(lanes, webhook_id=3, customer_id=3, held=40)
    assert started_webhooks(lanes) == [3] * 16 + [1, 3, 2] + [3] * 17 + [1, 3, 2] + [3] * 5


def test_what_a_customer_did_not_use_gives_it_no_two_turns_at_once() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=1, customer_id=1, held=1, body=b"x" * 256 * KIB)
    add_lane(lanes, webhook_id=2, customer_id=2, held=50)
    start(lanes, 10)
    lanes.close_shards({lane.shard})  # before it could afford its large one
    add_lane(lanes, webhook_id=3, customer_id=1, held=5)
    assert started_webhooks(lanes, 8) in ([2, 3] * 4, [3, 2] * 4)


def test_the_turns_that_a_customer_has_saved_up_for_a_large_body_are_good_for_another() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, webhook_id=1, customer_id=1, held=1, body=b"x" * 256 * KIB)
    add_lane(lanes, webhook_id=2, customer_id=2, held=50)
    start(lanes, 10)
    lanes.close_shards({lane.shard})
    add_lane(lanes, webhook_id=3, customer_id=1, held=3, body=b"x" * 64 * KIB)
    assert started_webhooks(lanes, 8) == [2, 3, 2, 3, 2, 2, 2, 3], "10 were saved up, each costs 5"


# --- whatever happens ------------------------------------------------------------------------------------------------

WEBHOOKS = range(1, 9)
webhook_ids = st.sampled_from(WEBHOOKS)
HOST_CAP, HOST_SHARE, CUSTOMER_CAP, LANE_CAP, PREFETCH = 3, 0.67, 3, 2, 4
RESULTS = [SUCCESS, SUCCESS, TIMEOUT, OVERLOADED, AttemptResult(Outcome.INTERNAL_ERROR, START, 5)]


class LanesMachine(RuleBasedStateMachine):
    """The lanes beside a table of what is pending, and all that can happen to them.

    Webhooks 1 to 8 belong to customers 0 to 2 and lead to hosts 0 and 1, in shards 1 to 8.
    """

    moves = False  # whether webhooks change their hosts

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.lanes = make_lanes(
            prefetch_max=PREFETCH,
            prefetch_bytes_max=3000,
            lane_bytes_max=1000,
            customer_in_flight_max=CUSTOMER_CAP,
            host_in_flight_max=HOST_CAP,
            host_share=HOST_SHARE,
        )
        self.table: dict[int, dict[UUID, PendingDelivery]] = {known: {} for known in WEBHOOKS}
        self.webhooks = {
            known: make_webhook(
                known, known % 3, url=f"https://host{known // 2 % 2}.example.com/", max_in_flight=LANE_CAP
            )
            for known in WEBHOOKS
        }
        self.paces = {known: Pace(POLICY, NOW) for known in WEBHOOKS}
        self.closed: set[int] = set()
        self.in_flight: list[Turn] = []
        self.unsettled: list[Turn] = []

    # What the rest of the engine does.

    def lane(self, webhook_id: int) -> Lane:
        webhook = self.webhooks[webhook_id]
        lane = self.lanes.get(webhook_id)
        if lane is None:
            lane = self.lanes.open(webhook_id, webhook.customer_id, shard_of(webhook_id), self.now)
            self.tell(webhook)
        return lane

    def tell(self, webhook: Webhook) -> None:
        self.webhooks[webhook.webhook_id] = webhook
        pace = self.paces[webhook.webhook_id]
        pace.configure(webhook.max_in_flight, webhook.rate_limit_per_second)
        self.lanes.configure(Receiver(webhook, pace), self.now)

    def read_table(self, webhook_id: int) -> None:
        lane = self.lane(webhook_id)
        lane.reading.behind = lane.reading.replays_behind = False
        is_refused = False
        for delivery in self.table[webhook_id].values():
            is_replay = delivery.trigger is Trigger.REPLAY
            if delivery.event_id not in lane.held and (is_replay or not is_refused):
                is_held = self.lanes.hold(lane, delivery, self.now)
                is_refused |= not is_held and not is_replay
        self.lanes.drop_if_unused(lane)

    def start_one(self) -> bool:
        hosts_before = {lane.webhook_id: lane.host for lane in self.lanes}
        turn = self.lanes.next(self.now)
        if turn is None:
            return False
        lane, delivery = turn.lane, turn.delivery
        assert lane.shard not in self.closed
        assert lane.may_send
        assert delivery.event_id in self.table[lane.webhook_id]
        assert all(delivery is not other.delivery for other in self.in_flight), "it is being sent"
        assert all(delivery is not other.delivery for other in self.unsettled), "it was sent"
        assert self.lanes.get(lane.webhook_id) is lane
        assert turn.host == hosts_before[lane.webhook_id]
        self.in_flight.append(turn)
        webhook, pace = self.webhooks[lane.webhook_id], self.paces[lane.webhook_id]
        hosts = [other.host for other in self.in_flight]
        customers = [other.lane.customer_id for other in self.in_flight]
        assert hosts.count(lane.host) <= HOST_CAP
        of_both = [(other.host, other.lane.customer_id) for other in self.in_flight]
        assert of_both.count((lane.host, lane.customer_id)) <= HOST_CAP * HOST_SHARE
        assert customers.count(lane.customer_id) <= CUSTOMER_CAP
        if webhook.status is WebhookStatus.ACTIVE:
            assert delivery.trigger is not Trigger.REPLAY or lane.replays_in_flight <= max(1, LANE_CAP // 4)
            assert lane.in_flight <= pace.breaker.slots(LANE_CAP, self.now)
            assert self.now >= pace._hold_until
            assert pace._throttle.bucket.tokens >= -1e-6
        return True

    def end_one(self, index: int, result: AttemptResult, asked_seconds: float | None = None) -> None:
        turn = self.in_flight.pop(index % len(self.in_flight))
        lane = turn.lane
        if not lane.is_ending:
            self.paces[lane.webhook_id].ended(
                result, asked_seconds, started_at=self.now - 0.1, now=self.now, jitter=0.5
            )
        self.lanes.finished(turn, self.now)
        self.unsettled.append(turn)

    def settle_one(self, index: int, *, is_done: bool) -> None:
        turn = self.unsettled.pop(index % len(self.unsettled))
        if is_done:
            self.table[turn.delivery.webhook_id].pop(turn.delivery.event_id, None)
            self.lanes.release(turn)
        else:
            self.lanes.put_back(turn)

    # What can happen.

    @rule(
        webhook_id=webhook_ids,
        kind=st.sampled_from(["fresh", "backlog", "replay"]),
        size=st.sampled_from([0, 100, 600, 40_000]),
    )
    def publish(self, webhook_id: int, size: int, kind: str) -> None:
        """Three at once, so that there is some competition."""
        for _ in range(3):
            self.publish_one(webhook_id, size, kind)

    def publish_one(self, webhook_id: int, size: int, kind: str) -> None:
        is_fresh, is_replay = kind == "fresh", kind == "replay"
        delivery = make_delivery(webhook_id, webhook_id % 3, b"x" * size, is_fresh=is_fresh, is_replay=is_replay)
        self.table[webhook_id][delivery.event_id] = delivery
        if shard_of(webhook_id) not in self.closed:
            lane = self.lane(webhook_id)
            self.lanes.hold(lane, delivery, self.now)
            assert not self.lanes.hold(lane, delivery, self.now) or delivery.event_id in lane.held

    @rule(webhook_id=webhook_ids)
    def read(self, webhook_id: int) -> None:
        if shard_of(webhook_id) not in self.closed:
            self.read_table(webhook_id)

    @rule(at_most=st.integers(1, 30))
    def start(self, at_most: int) -> None:
        for _ in range(at_most):
            if not self.start_one():
                return

    @precondition(lambda self: self.in_flight)
    @rule(index=st.integers(0, 20), result=st.sampled_from(RESULTS), asked=st.sampled_from([None, 5.0]))
    def finish(self, index: int, result: AttemptResult, asked: float | None) -> None:
        self.end_one(index, result, asked)

    @precondition(lambda self: self.unsettled)
    @rule(index=st.integers(0, 20), is_done=st.booleans())
    def settle(self, index: int, *, is_done: bool) -> None:
        self.settle_one(index, is_done=is_done)

    @rule(webhook_id=webhook_ids)
    def break_down(self, webhook_id: int) -> None:
        pace = self.paces[webhook_id]
        for _ in range(10):
            pace.ended(TIMEOUT, None, started_at=self.now, now=self.now, jitter=0.5)

    @rule(
        webhook_id=webhook_ids,
        status=st.sampled_from([WebhookStatus.ACTIVE, WebhookStatus.PAUSED, WebhookStatus.DISABLED]),
        rate=st.sampled_from([None, 1, 5]),
    )
    def change(self, webhook_id: int, status: WebhookStatus, rate: int | None) -> None:
        url = self.webhooks[webhook_id].url
        if self.moves and rate is None:
            url = OTHER
        self.tell(
            make_webhook(
                webhook_id,
                webhook_id % 3,
                status=status,
                rate_limit_per_second=rate,
                max_in_flight=LANE_CAP,
                url=url,
            )
        )

    @rule(shard=webhook_ids)
    def close(self, shard: int) -> None:
        self.closed.add(shard)
        self.lanes.close_shards({shard})

    @rule(shard=webhook_ids)
    def lose_and_regain(self, shard: int) -> None:
        """Whether or not it was closed before. What is in flight goes on, and is not sent beside that."""
        self.lanes.forget_shards({shard})
        self.closed.discard(shard)
        self.paces[shard] = Pace(POLICY, self.now)
        self.tell(self.webhooks[shard])

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 1.0, 31.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.lanes.open_gates(self.now)

    # What is always so.

    @invariant()
    def counts_add_up(self) -> None:
        lanes = self.lanes
        assert lanes.in_flight == len(self.in_flight)
        assert sum(customer.in_flight for customer in lanes._customers.values()) == len(self.in_flight)
        hosts = lanes._hosts._hosts
        assert sum(host.in_flight for host in hosts.values()) == len(self.in_flight)
        assert all(customer.in_flight >= 0 for customer in lanes._customers.values())
        for name, host in hosts.items():
            assert host.in_flight == sum(turn.host == name for turn in self.in_flight)
            assert host.of_customers == Counter(turn.lane.customer_id for turn in self.in_flight if turn.host == name)
        turns = [*self.in_flight, *self.unsettled]
        gone = [turn.lane for turn in turns if lanes.get(turn.lane.webhook_id) is not turn.lane]
        everywhere = {id(lane): lane for lane in (*lanes, *gone)}.values()
        assert lanes._held_bytes == sum(lane.held_bytes for lane in everywhere)
        for lane in everywhere:
            assert lane.held_bytes == sum(len(delivery.body) for delivery in lane.held.values())
            assert lane.fresh_count == sum(delivery.is_fresh for delivery in lane.held.values())
            assert lane.replay_count == sum(delivery.trigger is Trigger.REPLAY for delivery in lane.held.values())
            queued = [delivery.event_id for delivery in (*lane.fresh, *lane.backlog, *lane.replays)]
            sent = [turn.delivery.event_id for turn in turns if turn.lane is lane]
            assert sorted(queued + sent) == sorted(lane.held), "each once, queued or sent"
        for lane in lanes:  # also the requests that an earlier lane of the webhook began
            requests = [turn for turn in self.in_flight if turn.lane.webhook_id == lane.webhook_id]
            assert lane.in_flight == len(requests)
            assert lane.replays_in_flight == sum(turn.delivery.trigger is Trigger.REPLAY for turn in requests)
        for shard in WEBHOOKS:
            is_busy = any(turn.lane.shard == shard for turn in turns)
            assert lanes.is_idle(shard) is not is_busy

    @invariant()
    def memory_is_bounded(self) -> None:
        for lane in self.lanes:
            assert lane.fresh_count <= PREFETCH or lane.is_ending or lane.receiver is None
            assert len(lane.held) - lane.fresh_count - lane.replay_count <= PREFETCH or lane.is_ending
            assert lane.replay_count <= PREFETCH or lane.is_ending or lane.receiver is None
            if lane.shard in self.closed or not lane.may_send:
                sent = [turn for turn in (*self.in_flight, *self.unsettled) if turn.lane is lane]
                assert lane.shard in self.closed or len(lane.held) == len(sent)

    @invariant()
    def gates_are_in_the_future(self) -> None:
        assert self.lanes.next_gate_at > self.now - 1e-9 or not self.lanes.open_gates(self.now)

    def teardown(self) -> None:
        """From now on every receiver answers and nothing happens but time: whatever may be sent is sent."""
        wanted = {known for known in WEBHOOKS if self.webhooks[known].status is not WebhookStatus.PAUSED} - self.closed
        for _ in range(2000):
            while self.start_one():
                pass
            while self.in_flight:
                self.end_one(0, SUCCESS)
            while self.unsettled:
                self.settle_one(0, is_done=True)
            for known in wanted:
                lane = self.lane(known)
                if self.lanes.is_hungry(lane, self.now) or (lane.reading.behind and self.lanes.room(lane, self.now)):
                    self.read_table(known)
            if not any(self.table[known] for known in wanted):
                break
            if not any(lane.is_ready for lane in self.lanes):
                self.stand_still(wanted)
        assert not any(self.table[known] for known in wanted), "what may be sent is sent in the end"
        assert self.lanes.in_flight == 0
        assert not self.lanes._strays

    def stand_still(self, wanted: set[int]) -> None:
        """Nothing is in flight and nobody is ready, so whoever has something must wait for time."""
        for lane in self.lanes:
            if lane.queue and lane.webhook_id in wanted:
                assert lane.gate_at < math.inf, "it stands still for ever"
        self.now = min(self.lanes.next_gate_at + 0.001, self.now + 4000)
        self.lanes.open_gates(self.now)


class MovingLanesMachine(LanesMachine):
    """The same with webhooks that change their hosts."""

    moves = True


_SETTINGS = settings(max_examples=in_full(150, short=60), stateful_step_count=60, deadline=None)
LanesMachine.TestCase.settings = MovingLanesMachine.TestCase.settings = _SETTINGS
TestLanes = pytest.mark.slow(2)(LanesMachine.TestCase)
TestMovingLanes = pytest.mark.slow(2)(MovingLanesMachine.TestCase)


# --- for how long something has been due -----------------------------------------------------------------------------


def test_the_oldest_delivery_that_may_be_sent_is_the_first_due_of_all_lanes() -> None:
    lanes = make_lanes()
    assert lanes.oldest_due(NOW) is None
    first, second = add_lane(lanes, 1), add_lane(lanes, 2)
    replay = make_delivery(1, is_replay=True)
    assert lanes.hold(first, replay, NOW)
    assert lanes.oldest_due(NOW) is None, "a replay waits on purpose"
    older, younger = make_delivery(2, is_fresh=True), make_delivery(1)
    assert lanes.hold(second, older, NOW)
    assert lanes.hold(first, younger, NOW)
    assert lanes.oldest_due(NOW) == older.due_at


def test_what_is_held_back_is_not_the_oldest() -> None:
    lanes = make_lanes(customer_in_flight_max=1, host_in_flight_max=1)
    held = add_lane(lanes, 1, held=1, url="https://a.example/")
    assert lanes.oldest_due(NOW) is not None
    assert not lanes.is_held_back(held, NOW)
    pace_of(held).hold(60, NOW)
    assert lanes.is_held_back(held, NOW), "the receiver has requested it"
    assert lanes.oldest_due(NOW) is None
    assert lanes.oldest_due(NOW + 61) is not None


@pytest.mark.parametrize(("customer_id", "host"), [(1, "b.example"), (2, "a.example")])
def test_a_customer_or_a_host_that_is_full_holds_back(customer_id: int, host: str) -> None:
    lanes = make_lanes(customer_in_flight_max=1, host_in_flight_max=1)
    add_lane(lanes, 1, customer_id=1, held=1, url="https://a.example/")
    [turn] = start(lanes, 1)
    other = add_lane(lanes, 2, customer_id=customer_id, held=1, url=f"https://{host}/")
    assert lanes.is_held_back(other, NOW)
    assert lanes.oldest_due(NOW) is None
    end(lanes, turn)
    assert not lanes.is_held_back(other, NOW)


def test_a_webhook_that_is_paused_or_full_or_whose_breaker_is_open_holds_back() -> None:
    lanes = make_lanes()
    one_at_a_time = add_lane(lanes, 1, held=2, max_in_flight=1)
    start(lanes)
    assert lanes.is_held_back(one_at_a_time, NOW)
    down = add_lane(lanes, 2, held=11)
    open_breaker(lanes, down)
    assert lanes.is_held_back(down, NOW)
    paused = add_lane(lanes, 3)
    change(lanes, make_webhook(3, status=WebhookStatus.PAUSED))
    assert lanes.is_held_back(paused, NOW)
    assert lanes.oldest_due(NOW) is None
