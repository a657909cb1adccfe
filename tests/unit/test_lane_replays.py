"""Replays come behind everything else of their webhook, and a cancelled delivery is not started."""

from __future__ import annotations

from typing import Any

from tests.unit.test_lanes import (
    NOW,
    add_lane,
    change,
    end,
    make_delivery,
    make_lanes,
    make_webhook,
    start,
)
from webhook_grpc.domain.model import PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.engine.queue.lane import Lane
from webhook_grpc.engine.queue.lanes import Lanes


def hold(lanes: Lanes, lane: Lane, count: int, **kind: Any) -> list[PendingDelivery]:
    """Gives the lane so many deliveries; all of them must find room."""
    deliveries = [make_delivery(**kind) for _ in range(count)]
    assert all(lanes.hold(lane, delivery, NOW) for delivery in deliveries)
    return deliveries


def order(lanes: Lanes, lane: Lane, count: int) -> str:
    """The kinds of the next deliveries, one in flight at a time: f, b or r."""
    kinds = ""
    for _ in range(count):
        turns = start(lanes, 1)
        if not turns:
            break
        [turn] = turns
        delivery = turn.delivery
        is_replay = delivery.trigger is Trigger.REPLAY
        kinds += "r" if is_replay else "f" if delivery.is_fresh else "b"
        end(lanes, turn)
    return kinds


def test_beside_other_work_a_replay_has_every_fourth_turn() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=1)
    hold(lanes, lane, 5, is_replay=True)
    hold(lanes, lane, 9)

    assert order(lanes, lane, 100) == "bbb" + "rbbb" + "rbbb" + "rrr"


def test_new_events_and_a_backlog_still_alternate() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=1)
    hold(lanes, lane, 3, is_replay=True)
    hold(lanes, lane, 4)
    hold(lanes, lane, 4, is_fresh=True)

    assert order(lanes, lane, 100) == "fbf" + "rbfb" + "rfb" + "r"


def test_replays_alone_use_a_quarter_of_the_slots() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=8)
    replays = hold(lanes, lane, 5, is_replay=True)

    turns = start(lanes)
    assert [turn.delivery for turn in turns] == replays[:2]
    assert start(lanes) == []
    end(lanes, turns[0])
    assert [turn.delivery for turn in start(lanes)] == replays[2:3], "and go on as slots become free"


def test_a_webhook_with_one_slot_is_replayed_too() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=1)
    hold(lanes, lane, 2, is_replay=True)

    assert len(start(lanes)) == 1


def test_replays_that_have_their_slots_do_not_stop_others() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=4)
    hold(lanes, lane, 5, is_replay=True)
    assert len(start(lanes)) == 1

    live = hold(lanes, lane, 4)

    assert [turn.delivery for turn in start(lanes)] == live[:3]


def test_however_many_replays_there_are_others_find_room() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    held = 0
    while lanes.hold(lane, make_delivery(is_replay=True), NOW):
        held += 1

    assert held == 20
    assert lane.reading.replays_behind
    assert not lane.reading.behind, "the others are not behind because of that"
    assert lanes.room(lane, NOW) == 100
    assert not lanes.is_hungry(lane, NOW)
    for turn in start(lanes):
        end(lanes, turn)
    assert lanes.is_hungry(lane, NOW), "there is room again"


def test_a_replay_does_not_move_the_mark_up_to_which_the_table_was_read() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, held=1)
    reached = lane.reading.reached

    hold(lanes, lane, 1, is_replay=True)

    assert lane.reading.reached == reached


def test_replays_of_a_webhook_that_is_switched_off_are_all_let_through_to_be_cancelled() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes, max_in_flight=4)
    hold(lanes, lane, 4, is_replay=True)

    change(lanes, make_webhook(status=WebhookStatus.DISABLED, max_in_flight=4))

    assert lane.reading.replays_behind or lane.replays
    hold(lanes, lane, 4 - len(lane.replays), is_replay=True)
    assert len(start(lanes)) == 4


def test_a_queued_delivery_that_is_barred_is_not_started() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    first, second = hold(lanes, lane, 2)

    assert lanes.bar(1, first.event_id)

    assert not lanes.hold(lane, first, NOW), "its row may be read again meanwhile"
    assert [turn.delivery for turn in start(lanes)] == [second]
    lanes.unbar(1, first.event_id)
    assert lanes.hold(lane, first, NOW)


def test_a_delivery_that_was_started_cannot_be_barred_until_it_is_settled() -> None:
    lanes = make_lanes()
    lane = add_lane(lanes)
    [delivery] = hold(lanes, lane, 1)
    [turn] = start(lanes)

    assert not lanes.bar(1, delivery.event_id)
    lanes.finished(turn, NOW)
    assert not lanes.bar(1, delivery.event_id), "the result is on its way"
    lanes.release(turn)
    assert lanes.bar(1, delivery.event_id)


def test_what_is_not_held_can_be_barred() -> None:
    lanes = make_lanes()
    delivery = make_delivery()

    assert lanes.bar(1, delivery.event_id)

    lane = add_lane(lanes)
    assert not lanes.hold(lane, delivery, NOW)


def test_barring_gives_memory_back() -> None:
    lanes = make_lanes(prefetch_bytes_max=250)
    lane = add_lane(lanes)
    first, _ = hold(lanes, lane, 2)

    lanes.bar(1, first.event_id)

    assert lane.held_bytes == 100
    assert lanes.hold(lane, make_delivery(), NOW)
