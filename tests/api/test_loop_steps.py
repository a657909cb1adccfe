"""No request holds the event loop for long: CPU time of each step of the loop while requests come that cost a lot."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
from asyncio import events
from collections.abc import Callable
from typing import Any, Final

import grpc
import pytest
from webhook.v1 import event_pb2, event_type_pb2, service_pb2

from tests.api.asking import code_of
from tests.attack import inputs
from tests.support import slowness
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory

pytestmark = pytest.mark.asyncio(loop_scope="module")

STEP_SECONDS_MAX: Final = slowness.scaled(0.02)  # of CPU: a busy machine makes a step longer, but not more work
SHARE_MAX: Final = 0.35  # of an answer's work in one step, where the machine is so busy that each takes longer
TRIES: Final = 3  # a collection of garbage may fall into a step: only what every try shows is the request's
BRANCHES: Final = json.dumps(
    {
        "oneOf": [
            {"required": [f"k{n}"], "properties": {"a": {"type": "array", "items": {"type": "string"}}}}
            for n in range(100)
        ]
    }
)
_PUBLISH, _BATCH = service_pb2.PublishEventRequest, service_pb2.BatchPublishEventsRequest


class Steps:
    """The longest step of the loop so far, but for those of the test itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest_seconds = self.all_seconds = 0.0
        self.what = ""
        self.held = dict[str, str]()
        test, run = asyncio.current_task(), events.Handle._run

        def measured(handle: Any) -> None:
            began = time.thread_time()
            run(handle)
            seconds, owner = time.thread_time() - began, getattr(handle._callback, "__self__", None)
            self.all_seconds += seconds if owner is not test else 0.0
            if seconds > self.longest_seconds and owner is not test:
                self.longest_seconds, self.what = seconds, repr(owner or handle)

        monkeypatch.setattr(events.Handle, "_run", measured)

    async def judge(self, name: str, call: Callable[[], Any], share_max: float = 0.0) -> None:
        """Notes in `held` if each try of a call has a step that is too long, and more than this share of its work."""
        found = list[str]()
        for _ in range(TRIES):
            self.reset()
            await call()
            if self.longest_seconds <= max(STEP_SECONDS_MAX, share_max * self.all_seconds):
                return
            found.append(f"{self.longest_seconds * 1000:.0f} ms {self.what}")
        self.held[name] = found[-1]

    def reset(self) -> None:
        self.longest_seconds = self.all_seconds = 0.0
        self.what = ""


def event(event_type: str = "job.completed", **content: Any) -> event_pb2.Event:
    return event_pb2.Event(customer_id=CUSTOMER, event_type=event_type, **content)


def with_data(value: bytes) -> bytes:
    """A request of one event whose data is a list of so many values."""
    field = inputs.field_of
    data = field(1, field(1, b"a") + field(2, field(6, value)))
    content = event().SerializeToString() + field(event_pb2.Event.DATA_FIELD_NUMBER, data)
    return field(_PUBLISH.EVENT_FIELD_NUMBER, content)


def published(event_type: str, data_json: str) -> bytes:
    return _PUBLISH(event=event(event_type, data_json=data_json)).SerializeToString()


def batch(data_json: str, count: int) -> bytes:
    request = _PUBLISH(event=event(data_json=data_json))
    return _BATCH(requests=[request] * count).SerializeToString()


GRPC: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "values": ("PublishEvent", lambda: with_data(b"\x0a\x02\x08\x00" * 65_000)),
    "5 MiB of values": ("PublishEvent", lambda: with_data(b"\x0a\x02\x08\x00" * 1_300_000)),
    "400,000 attributes": ("PublishEvent", lambda: inputs.field_of(1, inputs.field_of(6, b"") * 400_000)),
    "numbers": ("PublishEvent", lambda: with_data((b"\x0a\x09\x11" + bytes(8)) * 23_000)),
    "a batch of values": ("BatchPublishEvents", lambda: with_data(b"\x0a\x02\x08\x00" * 26_000) * 40),
    "a batch of nothing": ("BatchPublishEvents", lambda: inputs.field_of(1, b"") * 2_500_000),
    "a batch of texts": ("BatchPublishEvents", lambda: batch(f'{{"a":"{"x" * 9000}"}}', 500)),
    "a batch of lists": ("BatchPublishEvents", lambda: batch(f"[{'1,' * 4500}1]", 500)),
    "paths": ("UpdateWebhook", lambda: inputs.field_of(2, inputs.field_of(1, b"") * 60_000)),
    "millions of paths": ("UpdateWebhook", lambda: inputs.field_of(2, inputs.field_of(1, b"") * 2_600_000)),
    "ids": ("ListDeliveries", lambda: inputs.field_of(3, b"\x01" * 120_000)),
    "JSON": ("PublishEvent", lambda: published("job.completed", f'{{"a":[{"{}," * 85_000}{{}}]}}')),
    "no branch fits": ("PublishEvent", lambda: published("loop.branches", f'{{"a":[{"1," * 120_000}1]}}')),
}
HTTP: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "values": ("events", lambda: b'{"event":{"event_type":"job.completed","data":[' + b"{}," * 85_000 + b"{}]}}"),
    "a batch of nothing": ("events:batchPublish", lambda: b'{"requests":[' + b"{}," * 1_700_000 + b"{}]}"),
    "labels": ("webhooks", lambda: b'{"webhook":{"labels":{%s}}}' % b",".join(b'"%d":""' % n for n in range(12_000))),
    "brackets": ("events", lambda: b"[" * 260_000),
}


# What a receiver may answer: texts show each of these bytes as four.
BODY: Final = "\0" * 16_384
PAGES: Final = {"small": 1000, "of long answers": 120}  # deliveries
LISTS: Final = ("deliveries", "attempts", "events")


async def called(service: Service, method: str, raw: bytes) -> None:
    """Makes a call, which is served or refused."""
    client: Any = service.channel
    code = await code_of(client.unary_unary(f"/webhook.v1.WebhookService/{method}")(raw))
    assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}, method


def posted(service: Service, path: str, raw: bytes) -> None:
    """The same over HTTP. In a thread, so that nothing but the service uses the loop."""
    connection = http.client.HTTPConnection("127.0.0.1", service.app.http_port or 0)
    with contextlib.closing(connection):
        connection.request("POST", f"/api/{path}", raw, {"Content-Type": "application/json"})
        assert connection.getresponse().status in {200, 400, 413}


@pytest.mark.slow
async def test_no_request_holds_the_loop_for_long(services: ServiceFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    schema = event_type_pb2.EventType(event_type="loop.branches", description="Branches.", json_schema=BRANCHES)
    await service.stub.CreateEventType(service_pb2.CreateEventTypeRequest(event_type=schema))
    steps = Steps(monkeypatch)
    for name, (method, make) in GRPC.items():
        raw = make()
        await steps.judge(f"gRPC, {name}", lambda method=method, raw=raw: called(service, method, raw))
    for name, (path, make) in HTTP.items():
        raw = make()
        await steps.judge(f"HTTP, {name}", lambda path=path, raw=raw: asyncio.to_thread(posted, service, path, raw))
    assert not steps.held


@pytest.mark.slow
@pytest.mark.parametrize("size", PAGES)
async def test_no_answer_holds_the_loop_for_long(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    receiver.on("/", answer(200) if size == "small" else answer(200, BODY))
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        for start in range(0, PAGES[size], 500):
            await service.publish_many(min(500, PAGES[size] - start))
        await watch.until_ended(PAGES[size])
    steps = Steps(monkeypatch)
    for what in LISTS:
        path = f"{what}?customer_id={CUSTOMER}&page_size=1000"
        await steps.judge(f"HTTP, {what}", lambda path=path: asyncio.to_thread(got, service, path), SHARE_MAX)
    listed = service_pb2.ListDeliveriesRequest(customer_id=CUSTOMER, page_size=1000).SerializeToString()
    await steps.judge("gRPC, deliveries", lambda: called(service, "ListDeliveries", listed), SHARE_MAX)
    assert not steps.held


def got(service: Service, path: str) -> None:
    """Gets a list. In a thread, so that nothing but the service uses the loop."""
    connection = http.client.HTTPConnection("127.0.0.1", service.app.http_port or 0)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/{path}")
        assert connection.getresponse().status == 200
