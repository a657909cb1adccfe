"""What watchers share: a change is written once for each form, and each message is as if it was written for one."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from webhook.v1 import service_pb2

from webhook_grpc.api.messages import selecting, writing
from webhook_grpc.api.messages.selecting import advanced, may_want, wanted_of
from webhook_grpc.api.messages.sharing import Form, SharedDeliveries, SharedDelivery, joined
from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.model import Attempt, Delivery, DeliveryStatus, FailureReason, Outcome, Trigger
from webhook_grpc.hub.log.batches import SHARED_MAX, Batch
from webhook_grpc.server.grpc.exchange import ENTRIES
from webhook_grpc.server.http.json.writing import LEFT_OUT_BY_STREAMS, NOTHING, plain
from webhook_grpc.server.http.live import form_of, shown_with
from webhook_grpc.store.log.rows import Change

START: Position = (0,) * 64
ALL = DeliveryFilter(None)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)

times = st.integers(0, 10**9).map(lambda micros: NOW + timedelta(microseconds=micros))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    event_id, webhook_id = UUID(int=draw(st.integers(0, 2**128 - 1))), draw(st.integers(1, 2**62))
    attempt = Attempt(
        event_id=event_id,
        webhook_id=webhook_id,
        customer_id=7,
        event_type="job.completed",
        attempt_number=draw(st.integers(1, 20)),
        start_time=draw(times),
        latency_ms=draw(st.integers(0, 100_000)),
        outcome=draw(st.sampled_from(Outcome)),
        response_status=draw(st.none() | st.integers(100, 599)),
        response_body=draw(st.binary(max_size=300)),
        reason=draw(st.sampled_from(FailureReason)),
        trigger=draw(st.sampled_from(Trigger)),
        own_headers=tuple(draw(st.lists(st.sampled_from(["x-a", "x-b"]), unique=True))),
        response_headers=draw(st.dictionaries(st.sampled_from(["date", "retry-after"]), texts)),
        delivery_status=draw(st.sampled_from(DeliveryStatus)),
        next_attempt_time=draw(st.none() | times),
    )
    return Delivery(
        event_id=event_id,
        webhook_id=webhook_id,
        customer_id=7,
        event_type="job.completed",
        status=draw(st.sampled_from(DeliveryStatus)),
        attempt_count=attempt.attempt_number,
        last_attempt=draw(st.none() | st.just(attempt)),
        next_attempt_time=draw(st.none() | times),
        create_time=draw(times),
        update_time=draw(times),
        trigger=draw(st.sampled_from(Trigger)),
        replay_id=draw(st.none() | st.integers(1, 2**62)),
    )


def delivery(customer_id: int = 7, webhook_id: int = 3, number: int = 1) -> Delivery:
    status = DeliveryStatus.SUCCEEDED
    return Delivery(UUID(int=number), webhook_id, customer_id, "job.completed", status, 1, None, None, NOW, NOW)


def batch_of(*changes: tuple[int, int], before: Position = START, customers: Sequence[int] = (7,)) -> Batch:
    """Changes of these shards and seqs, of the customers in turn."""
    found = [
        Change(shard, seq, delivery(customers[number % len(customers)], shard + 64, seq))
        for number, (shard, seq) in enumerate(changes)
    ]
    after = list(before)
    for shard, seq in changes:
        after[shard] = seq
    return Batch(before, found, tuple(after))


def keys(batch: Batch, wanted: DeliveryFilter, position: Position) -> list[tuple[int, int]]:
    return [
        (shared.delivery.webhook_id - 64, shared.delivery.event_id.int)
        for part, _ in wanted_of(batch, wanted, position)
        for shared in part.deliveries
    ]


# --- as if alone ----------------------------------------------------------------------------------------------------


def ordered(text: bytes) -> Any:
    """JSON with the order of its members, but for headers: protobuf gives the entries of a map no order."""
    return json.loads(text, object_pairs_hook=lambda pairs: sorted(pairs) if _is_headers(pairs) else pairs)


def _is_headers(pairs: list[tuple[str, Any]]) -> bool:
    return "delivery_id" not in dict(pairs) and "deliveries" not in dict(pairs)


def whole(found: Sequence[Delivery], **own: Any) -> Message:
    messages = [writing.delivery_message(one, with_text=False) for one in found]
    return service_pb2.WatchDeliveriesResponse(deliveries=messages, **own)


@settings(max_examples=25)
@given(st.lists(st.lists(deliveries(), min_size=1, max_size=3), max_size=3), st.binary(max_size=200))
def test_a_message_of_shared_deliveries_is_as_if_it_was_written_whole(
    parts: list[list[Delivery]], cursor: bytes
) -> None:
    shared = [SharedDeliveries([SharedDelivery(one) for one in part]) for part in parts]
    own = service_pb2.WatchDeliveriesResponse(cursor=cursor, snapshot_complete=bool(cursor))
    expected = whole([one for part in parts for one in part], cursor=cursor, snapshot_complete=bool(cursor))
    for _ in range(2):  # also what was kept of the first time
        raw = joined(shared, ENTRIES) + own.SerializeToString()
        assert service_pb2.WatchDeliveriesResponse.FromString(raw) == expected
        assert len(raw) == expected.ByteSize()
        for left_out in (NOTHING, LEFT_OUT_BY_STREAMS):
            shown = orjson.dumps(shown_with(own, joined(shared, form_of(left_out))))
            alone = orjson.dumps(plain(expected, left_out))
            assert ordered(shown) == ordered(alone)
            assert len(shown) == len(alone)


# --- once -------------------------------------------------------------------------------------------------------------


class Counting:
    """A form that counts how often each delivery is written."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.form = Form(self._write, b"")

    def _write(self, message: Any) -> bytes:
        self.counts[message.delivery_id] += 1
        return message.delivery_id.encode()


def test_each_change_is_written_once_for_all_watchers_whatever_they_filter() -> None:
    batch = batch_of(*((1, seq) for seq in range(1, 21)), customers=(7, 8))
    one, other = Counting(), Counting()
    filters = [ALL, ALL, DeliveryFilter(7), DeliveryFilter(8), DeliveryFilter(None, webhook_ids=(65,))]
    written = [joined([part for part, _ in wanted_of(batch, wanted, START)], one.form) for wanted in filters]
    assert written[0] == written[1] == written[4] != written[2]
    assert list(one.counts.values()) == [1] * 20
    joined([part for part, _ in wanted_of(batch, ALL, START)], other.form)
    assert list(other.counts.values()) == [1] * 20


def test_what_is_selected_for_a_filter_is_selected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Delivery]()

    def admits(_: DeliveryFilter, one: Delivery) -> bool:
        asked.append(one)
        return True

    monkeypatch.setattr(DeliveryFilter, "admits", admits)
    batch = batch_of((1, 1), (1, 2), (2, 1))
    for _ in range(3):
        assert keys(batch, DeliveryFilter(7), START) == [(1, 1), (1, 2), (2, 1)]
    assert len(asked) == 3


def test_rare_filters_are_served_without_being_kept() -> None:
    batch = batch_of((1, 1), customers=(3,))
    made = list[int]()

    def make(number: int) -> int:
        made.append(number)
        return number

    for number in range(SHARED_MAX + 5):
        for _ in range(2):
            assert batch.once(number, functools.partial(make, number)) == number
    assert Counter(made) == {number: 1 if number < SHARED_MAX else 2 for number in range(SHARED_MAX + 5)}


# --- positions --------------------------------------------------------------------------------------------------------


def test_a_watcher_that_is_ahead_of_a_batch_gets_only_what_is_after_its_position() -> None:
    batch = batch_of((1, 1), (1, 2), (2, 1), (2, 2))
    ahead = (0, 1, 5, *START[3:])
    assert keys(batch, ALL, ahead) == [(1, 2)]
    assert keys(batch, ALL, START) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert advanced(ahead, batch) == (0, 2, 5, *START[3:])
    assert advanced(START, batch) == batch.after


def test_a_part_is_at_most_a_message_and_names_the_position_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selecting, "MESSAGE_DELIVERIES_MAX", 2)
    batch = batch_of((1, 1), (2, 1), (1, 2), (3, 1), (2, 2))
    parts = wanted_of(batch, DeliveryFilter(None, webhook_ids=(65, 66)), START)
    assert [len(part.deliveries) for part, _ in parts] == [2, 2]
    assert [after[1:4] for _, after in parts] == [(1, 1, 0), (2, 2, 1)]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=4, unique=True), st.data())
def test_what_can_be_said_quickly_never_leaves_a_change_out(
    changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    batch = batch_of(*sorted(changes), customers=data.draw(st.sampled_from([(7,), (7, 8), (8,)])))
    webhook_ids = data.draw(st.lists(st.integers(64, 68), max_size=2))
    wanted = DeliveryFilter(data.draw(st.sampled_from([None, 7, 9])), tuple(webhook_ids))
    assert may_want(wanted)(batch) or not keys(batch, wanted, START)


def test_a_watcher_of_another_customer_or_webhook_is_known_to_want_nothing() -> None:
    batch = batch_of((3, 1))
    assert may_want(DeliveryFilter(7, (67,)))(batch)
    assert not may_want(DeliveryFilter(8))(batch)
    assert not may_want(DeliveryFilter(7, (99,)))(batch)
