"""What the Python client decides: batches, pauses, and how far a watcher is. Without a service."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path

import grpc
import pytest
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc_client import (
    CursorExpired,
    CursorFileBroken,
    FailedPrecondition,
    InvalidArgument,
    Problem,
    PublisherLimits,
    Unauthorized,
    Unavailable,
)
from webhook_grpc_client.backoff import pause_seconds
from webhook_grpc_client.batches import EVENTS_MAX, PublisherBounds, Queue, Waiting
from webhook_grpc_client.calls import Patience, Tries
from webhook_grpc_client.connecting import Token
from webhook_grpc_client.cursor_files import SAVE_SECONDS, CursorFile
from webhook_grpc_client.events import BYTES_MAX, publish_request
from webhook_grpc_client.following import Following

Published = service_pb2.PublishEventResponse
AWAY = Unavailable(Problem(grpc.StatusCode.UNAVAILABLE, "away"))
GAP = CursorExpired(Problem(grpc.StatusCode.OUT_OF_RANGE, "gap", "CURSOR_EXPIRED", metadata={"oldest_time": "then"}))

pytestmark = pytest.mark.fast


def filled(
    limits: PublisherLimits, count: int, size_bytes: int = 100
) -> tuple[Queue[Future[Published]], list[Future[Published]]]:
    queue, futures = Queue[Future[Published]](limits), [Future[Published]() for _ in range(count)]
    for number, future in enumerate(futures):
        queue.add(publish_request("job.done", {}, {"request_id": str(number)}), size_bytes, future, 0.0)
    return queue, futures


def published(count: int) -> list[service_pb2.BatchPublishResult]:
    return [service_pb2.BatchPublishResult(published=Published(event_id=f"evt_{number}")) for number in range(count)]


def ids(batch: list[Waiting[Future[Published]]]) -> list[str]:
    return [event.request.request_id for event in batch]


def test_a_batch_is_sent_when_it_is_full_or_has_lingered() -> None:
    queue, _ = filled(PublisherLimits(linger_seconds=0.5), 1)
    assert queue.wait_seconds(0.0, hurry=False) == 0.5
    assert queue.wait_seconds(0.0, hurry=True) == 0
    assert queue.wait_seconds(0.6, hurry=False) == 0

    queue, _ = filled(PublisherLimits(linger_seconds=0.5), EVENTS_MAX)
    assert queue.wait_seconds(0.0, hurry=False) == 0
    assert len(queue.take(0.0)) == EVENTS_MAX
    assert queue.wait_seconds(0.0, hurry=True) is None, "there is nothing left to wait for"


def test_a_worker_has_to_look_again_when_a_batch_begins_and_when_it_is_full() -> None:
    queue, looks = Queue[Future[Published]](PublisherLimits(batch_events=3, linger_seconds=0.5)), list[bool]()
    for _ in range(4):
        before = queue.wait_seconds(0.0, hurry=False)
        looks.append(queue.add(publish_request("job.done", {}, {}), 1, Future[Published](), 0.0))
        assert looks[-1] == (queue.wait_seconds(0.0, hurry=False) != before)
    assert looks == [True, False, True, False]
    queue.take(0.0)
    assert queue.has_more, "the fourth"
    queue.failed(queue.take(0.0), AWAY, 0.0, 0.0)
    assert queue.has_more, "later"
    queue.answered(queue.take(1.0), published(1), 1.0, 0.0)
    assert not queue.has_more


def test_each_limit_of_a_publisher_may_be_given_by_its_name() -> None:
    assert PublisherBounds.__annotations__.keys() == {field.name for field in fields(PublisherLimits)}


@pytest.mark.parametrize("name", ["max_waiting", "max_waiting_bytes", "batches_at_once", "batch_events"])
def test_a_limit_with_which_nothing_would_be_sent_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is at least 1, not 0"):
        PublisherLimits(**{name: 0})


def test_a_batch_has_as_many_events_as_the_caller_wants_at_most() -> None:
    queue, _ = filled(PublisherLimits(batch_events=2, linger_seconds=60), 3)
    assert queue.wait_seconds(0.0, hurry=False) == 0.0, "two are a batch: it is full"
    assert [len(queue.take(0.0)) for _ in range(2)] == [2, 1]
    most, _ = filled(PublisherLimits(batch_events=10_000), EVENTS_MAX + 1)
    assert len(most.take(0.0)) == EVENTS_MAX


def test_a_batch_has_no_more_bytes_than_a_call_may_have_but_always_one_event() -> None:
    queue, _ = filled(PublisherLimits(), 3, size_bytes=BYTES_MAX // 2)
    assert [len(queue.take(0.0)) for _ in range(4)] == [1, 1, 1, 0]


def test_what_waits_has_bounds_and_one_event_always_finds_room() -> None:
    limits = PublisherLimits(max_waiting=2, max_waiting_bytes=1000)
    queue, _ = filled(limits, 0)
    assert queue.has_room(5000)
    queue, _ = filled(limits, 1)
    assert queue.has_room(900)
    assert not queue.has_room(901)
    queue, _ = filled(limits, 2)
    assert not queue.has_room(1)


def test_each_event_has_a_result_of_its_own_and_is_judged_by_itself() -> None:
    queue, futures = filled(PublisherLimits(), 2)
    error = service_pb2.BatchPublishError(code=9, reason="EVENT_TYPE_UNKNOWN", message="register it")
    error.field_violations.add(field="event.event_type", description="is unknown")
    queue.answered(queue.take(0.0), [*published(1), service_pb2.BatchPublishResult(error=error)], 0.0, 0.0)

    assert futures[0].result().event_id == "evt_0"
    raised = futures[1].exception()
    assert isinstance(raised, FailedPrecondition)
    assert (raised.reason, raised.violations) == ("EVENT_TYPE_UNKNOWN", (("event.event_type", "is unknown"),))
    assert (queue.count, queue.size_bytes) == (0, 0)


def test_after_a_failed_call_the_same_events_are_published_again_in_their_order() -> None:
    queue, futures = filled(PublisherLimits(), 3)
    queue.failed(queue.take(0.0), AWAY, 10.0, 0.0)
    assert queue.wait_seconds(10.0, hurry=True) == pytest.approx(0.1)

    again = queue.take(10.1)

    assert ids(again) == ["0", "1", "2"]
    queue.answered(again, published(3), 10.2, 0.0)
    assert all(future.done() for future in futures)


def test_while_the_service_is_away_new_events_wait_with_the_others() -> None:
    queue, _ = filled(PublisherLimits(), 1)
    queue.failed(queue.take(0.0), AWAY, 10.0, 0.0)
    queue.add(publish_request("job.done", {}, {}), 1, Future[Published](), 10.0)
    assert queue.wait_seconds(10.0, hurry=True) == pytest.approx(0.1)


def test_an_event_that_a_limit_refuses_is_published_again_without_holding_up_others() -> None:
    queue, futures = filled(PublisherLimits(), 2)
    error = service_pb2.BatchPublishError(code=8, reason="RATE_LIMITED", message="too fast")
    queue.answered(queue.take(0.0), [service_pb2.BatchPublishResult(error=error), *published(1)], 0.0, 0.0)
    assert [future.done() for future in futures] == [False, True]
    queue.add(publish_request("job.done", {}, {}), 1, Future[Published](), 0.0)
    assert queue.wait_seconds(0.0, hurry=True) == 0
    queue.take(0.0)
    assert ids(queue.take(1.0)) == ["0"]


def test_an_event_that_no_call_can_take_is_refused_before_it_waits() -> None:
    with pytest.raises(ValueError, match="the event has 4000"):
        publish_request("job.done", {"text": "x" * BYTES_MAX}, {})


def test_patience_ends_and_other_errors_are_raised_at_once() -> None:
    queue, [future] = filled(PublisherLimits(patience_seconds=5), 1)
    queue.failed(queue.take(0.0), AWAY, 6.0, 0.0)
    assert future.exception() is AWAY

    queue, [future] = filled(PublisherLimits(), 1)
    broken = RuntimeError("a bug")
    queue.failed(queue.take(0.0), broken, 0.0, 0.0)
    assert future.exception() is broken


def test_an_answer_with_results_for_other_events_is_the_error_of_each() -> None:
    queue, futures = filled(PublisherLimits(), 2)
    queue.answered(queue.take(0.0), published(1), 0.0, 0.0)
    assert [str(future.exception(0)) for future in futures] == ["1 results for 2 events"] * 2
    assert queue.count == 0


async def test_nobody_needs_to_wait_for_the_result() -> None:
    queue, future = Queue[asyncio.Future[Published]](PublisherLimits()), asyncio.get_running_loop().create_future()
    queue.add(publish_request("job.done", {}, {}), 1, future, 0.0)
    batch = queue.take(0.0)
    future.cancel()
    queue.answered(batch, published(1), 0.0, 0.0)
    assert queue.count == 0


def test_pauses_grow_to_a_bound_are_shortened_by_jitter_and_honour_what_was_asked() -> None:
    assert [pause_seconds(failures, None, 0.0) for failures in (1, 2, 5, 6, 1000)] == [0.1, 0.2, 1.6, 2.0, 2.0]
    assert pause_seconds(6, None, 1.0) == 1.0
    assert pause_seconds(1, 30.0, 1.0) == 30.0


@pytest.mark.parametrize("text", ["one\ntwo", "\ufeffone", "tök"])
def test_what_no_call_can_carry_is_no_token(text: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{text}\n", encoding="utf-8")
    for token in (Token(text, None), Token(None, file)):
        with pytest.raises(Unauthorized, match="no token has") as raised:
            token.metadata()
        assert text not in str(raised.value)
    assert Token("one\n".strip(), None).metadata() == (("authorization", "Bearer one"),)


def test_a_call_is_repeated_only_if_that_is_safe_and_patience_lasts() -> None:
    with pytest.raises(Unavailable):
        Tries(Patience(), 0.0, may_repeat=False).failed(AWAY, 0.0, 0.0)
    tries = Tries(Patience(seconds=1), 0.0, may_repeat=True)
    assert tries.failed(AWAY, 0.0, 0.0) == 0.1
    with pytest.raises(Unavailable):
        tries.failed(AWAY, 0.9, 0.0)
    with pytest.raises(InvalidArgument):
        tries.failed(InvalidArgument(Problem(grpc.StatusCode.INVALID_ARGUMENT, "")), 0.0, 0.0)


def message(cursor: bytes, count: int = 0) -> service_pb2.WatchDeliveriesResponse:
    return service_pb2.WatchDeliveriesResponse(cursor=cursor, deliveries=[delivery_pb2.Delivery()] * count)


def test_a_watch_goes_on_after_what_is_finished_and_not_after_what_has_come() -> None:
    following = Following({"snapshot": True, "event_types": ["job.*"], "statuses": ["failed"]}, 0.0)
    assert following.request().snapshot
    assert following.request().statuses == [delivery_pb2.DELIVERY_STATUS_FAILED]

    following.received(message(b"", 3), 0.0)
    following.finished(message(b"", 3))
    assert following.request().snapshot, "a snapshot that broke off is begun again"

    following.received(message(b"one"), 0.0)
    assert following.cursor == b""
    following.finished(message(b"one"))
    assert following.request().cursor == b"one"
    assert not following.request().snapshot
    assert following.request().event_types == ["job.*"]


def test_a_gap_is_raised_unless_a_snapshot_is_wanted_instead() -> None:
    with pytest.raises(CursorExpired) as raised:
        Following({"cursor": b"old"}, 0.0).failed(GAP, 0.0)
    assert raised.value.oldest_time == "then"

    following = Following({"cursor": b"old", "on_gap": "snapshot"}, 0.0)
    following.failed(GAP, 0.0)
    assert following.request().snapshot
    assert following.request().cursor == b""


def test_a_watch_resumes_after_interruptions_and_ends_with_errors_that_stay() -> None:
    following = Following({}, 0.0)
    assert [following.failed(AWAY, 0.0), following.failed(AWAY, 0.0)] == [0.1, 0.2]
    following.received(message(b"one"), 0.0)
    assert following.ended(0.0) == 0.1
    with pytest.raises(InvalidArgument):
        following.failed(InvalidArgument(Problem(grpc.StatusCode.INVALID_ARGUMENT, "")), 0.0)


def test_silence_ends_a_watch_that_wants_it() -> None:
    following = Following({"until_idle": 5}, 0.0)
    following.received(message(b"one", 1), 2.0)
    following.received(message(b"two"), 6.9)
    assert not following.is_idle(6.9)
    assert following.is_idle(7.0)
    assert not Following({}, 0.0).is_idle(1e9)


def test_a_watch_has_one_start() -> None:
    with pytest.raises(ValueError, match="cursor and snapshot"):
        Following({"cursor": b"one", "snapshot": True}, 0.0)


def test_a_cursor_file_is_saved_once_a_second_and_read_again(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "cursor")
    assert file.load() == b""
    assert not file.is_due(b"", 0.0, is_last=True)
    assert file.is_due(b"one", 0.0)
    file.save(b"one", 0.0)
    assert not file.is_due(b"one", 99.0)
    assert not file.is_due(b"two", SAVE_SECONDS / 2)
    assert file.is_due(b"two", SAVE_SECONDS / 2, is_last=True)
    file.save(b"two", 1.0)
    assert CursorFile(tmp_path / "cursor").load() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["cursor"]


@pytest.mark.parametrize("text", ["", "\n", "not base64!"])
def test_a_cursor_file_without_a_cursor_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cursor").write_text(text)
    with pytest.raises(CursorFileBroken, match="holds no cursor"):
        CursorFile(tmp_path / "cursor").load()


def test_data_may_be_text_that_is_kept_or_values_that_are_written_once() -> None:
    texts = [publish_request("a", data, {}).event.data_json for data in ('{"n": 1.0}', b"[1]", {"ä": [1, None]}, 5)]
    assert texts == ['{"n": 1.0}', "[1]", '{"ä":[1,null]}', "5"]
    assert publish_request("a", {}, {}).request_id != publish_request("a", {}, {}).request_id
    with pytest.raises(ValueError, match="JSON compliant"):
        publish_request("a", float("nan"), {})
