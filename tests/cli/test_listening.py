"""`listen`: what comes in is bounded, verified, printed and passed on, and no webhook is left behind."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import queue
import re
import socket
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from webhook.v1 import delivery_pb2, event_pb2, service_pb2

from tests.cli.running import Program, Ran
from tests.cli.test_tools import run
from tests.e2e.test_docs import blocks
from tests.support import slowness
from tests.support.receiver import Received, Receiver, answers
from tests.support.service import CUSTOMER, SECRET, Service
from webhook_grpc.domain.envelope import render_body
from webhook_grpc.domain.ids import parse_event_id
from webhook_grpc.domain.request_headers import Envelope, request_headers
from webhook_grpc.domain.signing import SigningKey
from webhook_grpc_cli.commands.listen import listen as command
from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.listening import receiver as receivers
from webhook_grpc_cli.listening.arrivals import Handled, Tally, as_json, judged, lines
from webhook_grpc_cli.listening.following import HEARTBEAT_SECONDS, Silence, what_comes_next
from webhook_grpc_cli.listening.forwarding import Forwarder
from webhook_grpc_cli.listening.receiver import Answer, Arrival, LocalReceiver
from webhook_grpc_cli.listening.signing import kept_secret, request_of
from webhook_grpc_cli.listening.temporary import LABEL
from webhook_grpc_cli.output.look import Look
from webhook_grpc_cli.session import Session
from webhook_grpc_cli.values import json_text, timestamp

NOW = datetime(2026, 11, 28, 14, 3, 24, 482_000, tzinfo=UTC)
LOOK = Look(is_terminal=False, has_colour=False, has_unicode=True, width=120, is_utc=True, now=NOW)
ID = "evt_01jd8zq4v6e3m0k9x2h7t5n8cw"
EVENT = event_pb2.Event(
    event_id=ID,
    event_type="job.completed",
    data_json='{"job_id": "job-abc123", "status": "completed", "duration": 3600}',
    create_time=timestamp(NOW),
)


# --- the receiver ----------------------------------------------------------------------------------------------------


@pytest.fixture
def arrivals() -> list[Arrival]:
    return []


@pytest.fixture
def local(arrivals: list[Arrival]) -> Generator[LocalReceiver]:
    def answer(arrival: Arrival) -> Answer:
        arrivals.append(arrival)
        return Answer(201, [("X-Own", "a\r\nb"), ("Connection", "close"), ("Content-Length", "9")], b"made")

    local = LocalReceiver("127.0.0.1", 0, answer)
    yield local
    local.close()


def posted(port: int, body: bytes = b"{}", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=slowness.lengthened(10.0))
    try:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


def test_a_request_is_answered_with_what_the_program_says(local: LocalReceiver, arrivals: list[Arrival]) -> None:
    status, body, headers = posted(local.port, b"\x00{}", Webhook="1")
    assert (status, body) == (201, b"made")
    assert headers == {"X-Own": "a b", "Content-Length": "4"}
    assert (arrivals[0].body, arrivals[0].headers["webhook"]) == (b"\x00{}", "1")


def test_what_is_too_large_or_of_unknown_length_is_not_read(local: LocalReceiver, arrivals: list[Arrival]) -> None:
    with socket.create_connection(("127.0.0.1", local.port), timeout=slowness.lengthened(10.0)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", local.port), timeout=slowness.lengthened(10.0)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 411")
    assert posted(local.port)[0] == 201
    assert len(arrivals) == 1


def test_one_connection_too_many_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "CONNECTIONS_MAX", 1)
    came, goes_on = threading.Event(), threading.Event()

    def answer(_: Arrival) -> Answer:
        came.set()
        goes_on.wait(slowness.lengthened(20.0))
        return Answer(200)

    local = LocalReceiver("127.0.0.1", 0, answer)
    results: list[int] = []
    first = threading.Thread(target=lambda: results.append(posted(local.port)[0]))
    first.start()
    assert came.wait(slowness.lengthened(20.0))
    with pytest.raises(ConnectionError):
        posted(local.port)
    goes_on.set()
    first.join()
    local.close()
    assert results == [200]


def test_what_is_being_answered_is_answered_before_it_closes() -> None:
    came, goes_on = threading.Event(), threading.Event()

    def answer(_: Arrival) -> Answer:
        came.set()
        goes_on.wait(slowness.lengthened(20.0))
        return Answer(200)

    local = LocalReceiver("127.0.0.1", 0, answer)
    results: list[int] = []
    first = threading.Thread(target=lambda: results.append(posted(local.port)[0]))
    first.start()
    assert came.wait(slowness.lengthened(20.0))
    closing = threading.Thread(target=local.close)
    closing.start()
    goes_on.set()
    closing.join()
    first.join()
    assert results == [200]


# --- passing on ------------------------------------------------------------------------------------------------------


def test_body_and_headers_are_passed_on_as_they_are(local: LocalReceiver, arrivals: list[Arrival]) -> None:
    arrival = request_of(EVENT, SECRET, NOW.timestamp())
    answer = Forwarder(f"http://127.0.0.1:{local.port}/hook?a=1")(arrival)
    assert (answer.status, answer.body, answer.problem) == (201, b"made", "")
    assert arrivals[0].body == arrival.body
    assert arrivals[0].headers.items() >= arrival.headers.items()


def test_a_program_that_is_down_is_said_to_be_down() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        answer = Forwarder(f"http://127.0.0.1:{port}/")(request_of(EVENT, SECRET, 0))
    assert (answer.status, answer.problem) == (502, f"nothing listens on 127.0.0.1:{port}")
    for url in ("localhost:3000", "ftp://a", "http://", "http://a:port/"):
        with pytest.raises(UsageFailure):
            Forwarder(url)


# --- what is printed -------------------------------------------------------------------------------------------------


def handled(answer: Answer, secret: str = SECRET, *, seen: bool = False) -> Handled:
    arrival = request_of(EVENT, SECRET, NOW.timestamp())
    return Handled(arrival, judged(arrival, [secret] if secret else []), answer, 0.012, seen)


def test_lines_are_as_the_documentation_prints_them() -> None:
    head = f"14:03:24.482  job.completed  {ID}  attempt 1  121 B  signatures"
    data = f"              {EVENT.data_json}"
    assert lines(handled(Answer(200)), LOOK) == [f"{head} ✓ ✓   → 200   12 ms", data]
    assert lines(handled(Answer(200), seen=True), LOOK)[0] == f"{head} ✓ ✓   → 200   12 ms   seen before"
    failed = Answer(500, body=b"TypeError: duration\n  at hook.js:3\n")
    assert lines(handled(failed), LOOK)[0] == f"{head} ✓ ✓   → 500   12 ms   TypeError: duration"
    wrong = lines(handled(Answer(200), "another secret"), LOOK)
    assert wrong[0] == f"{head} ✕ ✕   → 200   12 ms"
    assert wrong[-1].startswith("              Another secret, or another body")
    assert lines(handled(Answer(200), ""), LOOK)[0] == f"{head} not checked  → 200   12 ms"


def test_long_data_has_a_line_for_each_value_and_drives_no_terminal() -> None:
    data = json.dumps({"text": "\x1b[2J" + "long " * 40, "n": 1}, ensure_ascii=False)
    arrival = Arrival(0.0, {"x-webhook-event": "a\x07"}, render_body("a.b", 1, data.encode())[0])
    texts = lines(Handled(arrival, (), Answer(200, problem="\u202e"), 0.0), LOOK)
    assert texts[1].strip() == "{"
    assert texts[2].strip().startswith('"text": "\\u001b[2J')
    assert all(text.isprintable() for text in texts)
    assert lines(Handled(Arrival(0.0, {}, b"\xff\n"), (), Answer(200), 0.0), LOOK)[1].endswith("\ufffd")


def test_programs_get_an_object_with_the_data_as_it_came() -> None:
    value = json.loads(json_text(as_json(handled(Answer(200)))))
    assert value["data"] == json.loads(EVENT.data_json)
    assert value["signatures"] == {"webhook-signature": "right", "X-Webhook-Signature": "right"}
    assert EVENT.data_json in json_text(as_json(handled(Answer(200))))


def test_events_are_counted_once_and_requests_each_time() -> None:
    tally = Tally()
    assert [tally.add(ID, is_failure=True), tally.add(ID, is_failure=False)] == [False, True]
    assert tally.text() == "2 requests, 1 event, 1 failure"


def test_a_failure_is_an_answer_beyond_2xx_or_a_wrong_signature() -> None:
    assert not handled(Answer(204)).is_failure
    assert handled(Answer(301)).is_failure
    assert handled(Answer(200), "another").is_failure


# --- what the service does -------------------------------------------------------------------------------------------


def test_a_silence_of_more_than_two_heartbeats_is_said_once_and_its_end_too() -> None:
    silence = Silence(0.0)
    assert silence.check(2 * HEARTBEAT_SECONDS) == ""
    assert "nothing for 11 s" in silence.check(2 * HEARTBEAT_SECONDS + 1)
    assert silence.check(100.0) == ""
    assert "back after 1 min 40 s" in silence.heard(100.0)
    assert silence.heard(101.0) == silence.check(105.0) == ""


def test_what_comes_next_is_said_after_a_failure_only() -> None:
    def delivery(outcome: str, status: str, answer: int = 0) -> delivery_pb2.Delivery:
        return delivery_pb2.Delivery(
            status=delivery_pb2.DeliveryStatus.Value(f"DELIVERY_STATUS_{status}"),
            last_attempt=delivery_pb2.DeliveryAttempt(
                outcome=delivery_pb2.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome}"), response_status=answer
            ),
            update_time=timestamp(NOW),
            next_attempt_time=timestamp(NOW + timedelta(seconds=5)),
        )

    assert what_comes_next(delivery("SUCCEEDED", "SUCCEEDED", 200)) == ""
    assert what_comes_next(delivery_pb2.Delivery()) == ""
    again = "answered 500: the service tries again in about 5 s"
    assert what_comes_next(delivery("HTTP_ERROR", "PENDING", 500)) == again
    assert what_comes_next(delivery("TIMEOUT", "FAILED")) == "timeout: that was the last attempt"


# --- as the service makes them ---------------------------------------------------------------------------------------


def test_requests_made_here_are_those_that_the_service_makes() -> None:
    made = request_of(EVENT, SECRET, 1_764_450_000.9)
    event_id = parse_event_id(ID)
    assert event_id is not None
    envelope = Envelope(event_id, 0, EVENT.event_type, 1)
    body = render_body(EVENT.event_type, int(NOW.timestamp()), EVENT.data_json.encode())[0]
    headers = request_headers(envelope, {}, [SigningKey(SECRET)], 1_764_450_000, body)
    assert made.body == body
    assert made.headers == {name.lower(): value for name, value in headers.items()}


def test_the_secret_of_this_machine_stays_and_is_its_owners(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    first = kept_secret(environment)
    assert kept_secret(environment) == first
    path = tmp_path / "webhook-grpc" / "listen-secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    for wrong, said in {"": "holds no secret", "whsec_AAE…Hh8=": "whole text"}.items():
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(UsageFailure, match=said):
            kept_secret(environment)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageFailure):
        kept_secret(environment)


# --- as it is typed --------------------------------------------------------------------------------------------------


class Listening:
    """A `listen` that runs, and what it says."""

    def __init__(self, task: asyncio.Task[Ran], said: queue.SimpleQueue[str]) -> None:
        self.task = task
        self.said = said

    async def says(self, words: str) -> str:
        """Waits until it says something."""
        while words not in (text := await asyncio.to_thread(self.said.get, timeout=slowness.lengthened(20.0))):
            pass
        return text


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[str]:
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def say(_: Session, text: str) -> None:
        said.put(text)

    monkeypatch.setattr(Session, "say", say)
    return said


def started(program: Program, said: queue.SimpleQueue[str], *words: str) -> Listening:
    return Listening(asyncio.create_task(run(program, "listen", *words)), said)


async def webhooks(service: Service) -> list[str]:
    listed = await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))
    return [webhook.name for webhook in listed.webhooks]


live = pytest.mark.asyncio(loop_scope="module")


@live
async def test_a_temporary_webhook_is_ready_after_its_test_and_is_deleted(
    program: Program,
    service: Service,
    receiver: Receiver,
    said: queue.SimpleQueue[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream reports what comes next: the first answer waits until it is open, the second until that was reported."""
    was_reported = threading.Event()

    def reported(delivery: delivery_pb2.Delivery) -> str:
        if text := what_comes_next(delivery):
            was_reported.set()
        return text

    async def behave(received: Received) -> web.StreamResponse:
        while not service.app._tail._subscriptions:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)  # that a stream is open gives no signal
        if received.number:
            await asyncio.to_thread(was_reported.wait, slowness.scaled(20))
        return web.Response(status=200 if received.number else 500)

    monkeypatch.setattr("webhook_grpc_cli.listening.following.what_comes_next", reported)
    url = receiver.on("/hook", behave)
    listening = started(
        program, said, "--create", "--listen", "127.0.0.1:0", "--forward", url, "-n", "2", "-o", "table"
    )
    ready = await listening.says("Ready")
    assert re.fullmatch(
        r'Ready\. Webhook \d+ "listen@127\.0\.0\.1:\d+" \(deleted at the end\), '
        r"a test of it came in after [\d.]+ m?s\.",
        ready,
    )
    assert len(await webhooks(service)) == 1
    assert receiver.requests == [], "the test is not passed on"
    await service.publish('{"n": 1}')
    done = await listening.task
    assert done.status == 0
    first, *_ = [line for line in done.lines if "attempt 1" in line]
    second, *_ = [line for line in done.lines if "attempt 2" in line]
    assert "signatures ✓ ✓   → 500" in first
    assert second.endswith("seen before")
    assert any("the service tries again in about" in line for line in done.lines)
    assert '              {"n": 1}' in done.lines
    assert await webhooks(service) == []
    assert await listening.says("1 event") == "2 requests, 1 event, 1 failure."


@live
async def test_ready_is_not_said_if_nothing_came_in_and_no_webhook_is_left(
    program: Program, service: Service, receiver: Receiver, said: queue.SimpleQueue[str]
) -> None:
    elsewhere = ("--create", "--listen", "127.0.0.1:0", "--url")
    done = await run(program, "listen", *elsewhere, receiver.on("/down", answers(503)))
    assert (done.status, done.stdout) == (1, "")
    assert "failed: " in done.stderr
    done = await run(program, "listen", *elsewhere, "http://10.0.0.1/")
    assert done.status != 0
    assert "try: add --pull, or --url with a public https address that leads here" in done.stderr
    assert await webhooks(service) == []
    texts = [said.get_nowait() for _ in range(said.qsize())]
    assert not [text for text in texts if "Ready" in text]


@live
async def test_what_an_earlier_listen_has_left_is_deleted_if_wanted(
    program: Program, service: Service, receiver: Receiver, said: queue.SimpleQueue[str]
) -> None:
    gone = f"{socket.gethostname()}-{2**22 + 1}"  # above the largest process id
    runs = f"{socket.gethostname()}-{os.getpid()}"
    for name, label in {"left": gone, "runs": runs}.items():
        await service.create_webhook(receiver.url(), name=name, labels={LABEL: label})
    listening = started(program, said, "--create", "--listen", "127.0.0.1:0", "-n", "1", "--yes")
    await listening.says("Ready")
    assert "left" not in await webhooks(service)
    assert "runs" in await webhooks(service)
    await service.publish()
    assert (await listening.task).status == 0


@live
async def test_events_are_pulled_signed_here_and_passed_on_once(
    program: Program, service: Service, receiver: Receiver, said: queue.SimpleQueue[str], tmp_path: Path
) -> None:
    await service.publish('{"n": "before"}')
    (tmp_path / "secret").write_text(SECRET)
    words = ("--pull", "--forward", receiver.url("/hook"), "--secret-file", str(tmp_path / "secret"))
    listening = started(program, said, *words, "-t", "job.*", "-n", "2", "-o", "json")
    await listening.says("Ready")
    ids = [(await service.publish(f'{{"n": {number}}}')).event_id for number in range(2)]
    done = await listening.task
    assert done.status == 0
    assert [json.loads(line)["event_id"] for line in done.lines] == ids
    assert [json.loads(line)["data"] for line in done.lines] == [{"n": 0}, {"n": 1}]
    received = receiver.at("/hook")
    assert [request.event_id for request in received] == ids
    for request in received:
        request.verify(SECRET)


@live
async def test_lines_that_contradict_themselves_are_refused(program: Program, service: Service) -> None:
    for words in (
        ("--pull",),
        ("--pull", "--forward", "http://a/", "--create"),
        ("--url", "http://a/"),
        ("--listen", "8787"),
        ("--delay", "2m"),
    ):
        assert (await run(program, "listen", *words)).status == 2


@live
async def test_lines_of_the_help_and_of_the_document_work(
    program: Program, service: Service, said: queue.SimpleQueue[str]
) -> None:
    for example in (*command.examples, *filter(None, blocks("docs/cli.md", "listen").splitlines())):
        place = "" if "--pull" in example else " --listen 127.0.0.1:0"
        task = asyncio.create_task(program.run(f"{example}{place} -o id"))
        await Listening(task, said).says("Ready")
        event_id = (await service.publish()).event_id
        done = await task
        assert (done.status, done.lines) == (0, [event_id])
