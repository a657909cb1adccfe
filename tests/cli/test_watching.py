"""What `watch` writes: a line for each kind of change, and what is said beside the lines."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc_cli.output.look import Look
from webhook_grpc_cli.values import duration, timestamp
from webhook_grpc_cli.watching.lines import Widths, is_problem, line
from webhook_grpc_cli.watching.observing import ObservedStream
from webhook_grpc_cli.watching.status import Status

pytestmark = pytest.mark.fast

NOW = datetime(2026, 11, 28, 14, 3, 24, 482_000, tzinfo=UTC)
LOOK = Look(is_terminal=False, has_colour=False, has_unicode=True, width=120, is_utc=True, now=NOW)
ID = "dlv_01jd8zq4v6e3m0k9x2h7t5n8cw_12"
STATUS, OUTCOME, TRIGGER = delivery_pb2.DeliveryStatus, delivery_pb2.AttemptOutcome, delivery_pb2.AttemptTrigger


def delivery(status: str, outcome: str = "", *, answer: int = 0, number: int = 1, next_in: float = 0) -> Any:
    attempt = delivery_pb2.DeliveryAttempt(
        attempt_number=number,
        latency=duration(0.031),
        outcome=OUTCOME.Value(f"ATTEMPT_OUTCOME_{outcome}") if outcome else 0,  # pyright: ignore[reportArgumentType]
        response_status=answer,
        trigger=TRIGGER.Value("ATTEMPT_TRIGGER_SCHEDULED"),
    )
    return delivery_pb2.Delivery(
        delivery_id=ID,
        webhook_id=12,
        event_type="job.failed",
        status=STATUS.Value(f"DELIVERY_STATUS_{status}"),
        last_attempt=attempt if outcome else None,
        trigger=TRIGGER.Value("ATTEMPT_TRIGGER_MANUAL"),
        next_attempt_time=timestamp(NOW + timedelta(seconds=next_in)) if next_in else None,
        update_time=timestamp(NOW),
    )


def shown(message: Any, look: Look = LOOK) -> str:
    return line(message, "billing-eu", look, Widths())


def test_lines_are_as_the_design_prints_them() -> None:
    assert [
        shown(delivery("PENDING", "HTTP_ERROR", answer=503, number=3, next_in=366)),
        shown(delivery("SUCCEEDED", "SUCCEEDED", answer=200)),
        shown(delivery("FAILED", "HTTP_ERROR", answer=503, number=12)),
        shown(delivery("CANCELLED")),
    ] == [
        f"14:03:24.482  ■ 503              31 ms  billing-eu #12  job.failed      #3 scheduled  next 14:09:30  {ID}",
        f"14:03:24.482  ✓ 200              31 ms  billing-eu #12  job.failed      #1 scheduled                 {ID}",
        f"14:03:24.482  ✕ failed 503       31 ms  billing-eu #12  job.failed      #12 scheduled                {ID}",
        f"14:03:24.482  ⊘ cancelled            –  billing-eu #12  job.failed                                   {ID}",
    ]


def test_what_is_longer_makes_its_column_wider_for_the_lines_behind_it() -> None:
    widths, wide, usual = Widths(), delivery("CANCELLED"), delivery("CANCELLED")
    wide.event_type = "environment.started"
    first, second = (line(one, "billing-europe", LOOK, widths) for one in (wide, usual))
    assert first.index(ID) == second.index(ID)
    wide.event_type = "e" * 200
    line(wide, "", LOOK, widths)
    assert line(usual, "", LOOK, widths).index(ID) < 140


@pytest.mark.parametrize(
    ("message", "result"),
    [
        (delivery("PENDING", "TIMEOUT", next_in=5), "▲ timeout"),
        (delivery("PENDING", "BLOCKED", next_in=5), "◆ blocked"),
        (delivery("FAILED", "CONNECTION_ERROR"), "✕ failed connection_error"),
        (delivery("EXPIRED"), "⧖ expired"),
        (delivery("PENDING", next_in=5), "◷ pending"),
    ],
)
def test_each_result_has_a_shape_and_a_word(message: Any, result: str) -> None:
    text = shown(message)
    assert text[14:].startswith(result)
    assert "manual" in text or message.HasField("last_attempt") or result == "⧖ expired"


def test_colour_says_nothing_that_the_text_does_not() -> None:
    from click import unstyle

    coloured = Look(is_terminal=True, has_colour=True, has_unicode=True, width=80, is_utc=True, now=NOW)
    for message in (delivery("SUCCEEDED", "SUCCEEDED", answer=200), delivery("CANCELLED")):
        assert shown(message, coloured) != shown(message)
        assert unstyle(shown(message, coloured)) == shown(message)


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    plain = Look(is_terminal=True, has_colour=False, has_unicode=False, width=80, is_utc=True, now=NOW)
    assert shown(delivery("FAILED", "HTTP_ERROR", answer=500), plain).isascii()
    assert shown(delivery("CANCELLED"), plain).isascii()


def test_no_name_and_no_type_drives_the_terminal() -> None:
    message = delivery("SUCCEEDED", "SUCCEEDED", answer=200)
    message.event_type = "job\x1b]0;owned\x07\u202edone"
    text = line(message, "\x9b31m\r\n", LOOK, Widths())
    assert text.isprintable()
    assert "\\x1b]0;owned\\x07\\u202edone" in text


def test_only_what_went_wrong_is_a_problem() -> None:
    fine = [("SUCCEEDED", "SUCCEEDED"), ("PENDING", "")]
    wrong = [("PENDING", "TIMEOUT"), ("FAILED", "HTTP_ERROR"), ("CANCELLED", ""), ("EXPIRED", "")]
    assert not any(is_problem(delivery(*words)) for words in fine)
    assert all(is_problem(delivery(*words)) for words in wrong)


class Failed(grpc.RpcError):
    """What gRPC raises."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> Any:
        return ()


class Call:
    """A call that gives some messages, and then breaks off."""

    def __init__(
        self, *messages: service_pb2.WatchDeliveriesResponse, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    ) -> None:
        self.messages = messages
        self.code = code
        self.is_cancelled = False

    def __iter__(self) -> Iterator[service_pb2.WatchDeliveriesResponse]:
        yield from self.messages
        raise Failed(self.code)

    def cancel(self) -> None:
        self.is_cancelled = True


def giving(call: Call) -> Callable[..., Call]:
    def method(*_: object, **__: object) -> Call:
        return call

    return method


class Heard:
    """Writes down what a stream says."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def received(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        self.words.append(f"received {len(message.deliveries)}")

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        self.words.append(f"finished {len(message.deliveries)}")

    def lost(self, gap: str) -> None:
        self.words.append(f"lost {gap}".rstrip())


def message(count: int = 0) -> service_pb2.WatchDeliveriesResponse:
    return service_pb2.WatchDeliveriesResponse(deliveries=[delivery("CANCELLED")] * count, server_time=timestamp(NOW))


def test_what_a_watcher_passes_over_is_heard() -> None:
    heard = Heard()
    requests: list[int] = []

    def method(request: service_pb2.WatchDeliveriesRequest, *, metadata: object) -> Call:
        requests.append(request.heartbeat_interval.seconds)
        return Call(message(2), message())

    stream = ObservedStream(method, 7.0, heard)
    call = stream(service_pb2.WatchDeliveriesRequest(), metadata=())
    with pytest.raises(grpc.RpcError):
        list(call)
    assert requests == [7]
    assert heard.words == ["received 2", "finished 2", "received 0", "finished 0", "lost"]
    refused = ObservedStream(giving(Call(code=grpc.StatusCode.INVALID_ARGUMENT)), 7.0, heard := Heard())
    with pytest.raises(grpc.RpcError):
        list(refused(service_pb2.WatchDeliveriesRequest(), metadata=()))
    assert heard.words == [], "a watch that is refused is not lost"


def test_a_gap_is_said_where_the_watch_goes_on_and_never_that_nothing_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    for goes_on in (True, False):
        status = Status(LOOK, "here:1", "", None, is_quiet=False, goes_on_after_gap=goes_on)
        status.received(message(1))
        status.lost("the log begins at noon")
        status.received(message())
    assert said.getvalue() == "── the log begins at noon: what is pending now follows ──\n"


def test_what_was_read_ahead_is_not_given_after_the_end() -> None:
    heard = Heard()
    stream = ObservedStream(giving(Call(message(2), message(1))), 7.0, heard)
    messages = iter(stream(service_pb2.WatchDeliveriesRequest(), metadata=()))
    next(messages)
    assert stream.left == 2
    stream.stop_after_message()
    assert list(messages) == []
    assert heard.words == ["received 2", "finished 2"]


def test_three_heartbeats_of_silence_end_a_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook_grpc_cli.watching.observing.time.monotonic", lambda: 100.0)
    call = Call()
    stream = ObservedStream(giving(call), 10.0, Heard())
    assert not stream.end_if_silent(1000.0)
    stream(service_pb2.WatchDeliveriesRequest(), metadata=())
    assert not stream.end_if_silent(130.0)
    assert not call.is_cancelled
    assert stream.end_if_silent(130.1)
    assert call.is_cancelled
    assert not stream.end_if_silent(131.0)


def test_an_interruption_is_said_once_and_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    status = Status(LOOK, "here:1", "job.*", None, is_quiet=False)
    status.received(message(1))
    status.lost("")
    status.lost("")
    status.received(message())
    first, second = said.getvalue().splitlines()
    assert "connection lost, resuming" in first
    assert second.startswith("── back after ")
    assert second.endswith("nothing missed ──")


def test_a_service_that_was_never_there_has_not_been_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    status = Status(LOOK, "here:1", "", None, is_quiet=False)
    status.lost("")
    status.lost("")
    assert status.text(0.0).startswith("● connecting")
    status.received(message())
    first, second = said.getvalue().splitlines()
    assert first.endswith(" here:1 does not answer, trying again … ──")
    assert second.startswith("── connected after ")


def test_the_last_line_says_how_it_stands(tmp_path: Path) -> None:
    status = Status(LOOK, "here:1", "job.*", tmp_path / "cursor", is_quiet=False)
    assert status.text(0.0) == "● connecting · 0/s · 0.0 s behind · job.* · cursor not saved yet"
    late = message(10)
    late.server_time.FromDatetime(NOW + timedelta(seconds=0.2))
    status.received(late)
    (tmp_path / "cursor").touch()
    text = status.text(0.0)
    assert text.startswith("● live · 2/s · 0.2 s behind · job.* · cursor saved ")
