"""WEBHOOK_TRACES=otlp: what the collector gets of attempts, over both doors, for batches, retries and replays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from webhook.v1 import event_pb2, replay_pb2, service_pb2

from tests.http.client import Http
from tests.support.application import application, publish_event
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver, answer, answers
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory

from .collector import Collector, links, traceparent_of, values

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PRODUCER_SPAN = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PRODUCER_SPAN}-01"
PRODUCER = (TRACE, PRODUCER_SPAN)
METADATA = (("traceparent", TRACEPARENT),)


def an_event(data_json: str = "{}") -> event_pb2.Event:
    return event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json=data_json)


async def publish(service: Service, traceparent: str | None = TRACEPARENT, data_json: str = "{}") -> str:
    metadata = (("traceparent", traceparent),) if traceparent is not None else ()
    request = service_pb2.PublishEventRequest(event=an_event(data_json))
    return (await service.stub.PublishEvent(request, metadata=metadata)).event_id


async def test_an_attempt_is_a_span_that_is_linked_to_the_span_of_the_producer(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp")
    webhook = await service.create_webhook(receiver.url())
    event_id = await publish(service)
    [span] = await collector.wait_for(1)
    assert (span.name, span.kind, links(span)) == ("webhook attempt", Span.SPAN_KIND_CLIENT, [PRODUCER])
    assert (span.parent_span_id, span.status.code) == (b"", Status.STATUS_CODE_UNSET)
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    assert span.trace_id.hex() != TRACE
    assert values(span.attributes) == {
        "customer_id": CUSTOMER,
        "webhook_id": webhook.webhook_id,
        "delivery_id": f"dlv_{event_id.removeprefix('evt_')}_{webhook.webhook_id}",
        "event_type": "job.completed",
        "attempt_number": 1,
        "trigger": "scheduled",
        "outcome": "succeeded",
        "http.request.method": "POST",
        "http.response.status_code": 200,
    }
    [request] = await receiver.wait_for(1)
    assert "traceparent" not in request.headers


async def test_the_service_has_a_name_that_the_usual_variables_change(
    services: ServiceFactory, receiver: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    await publish(service)
    await collector.wait_for(1)
    await services.stop_one(service)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "webhooks-of-cell-7")
    await publish(await services.start(traces="otlp"))
    await collector.wait_for(2)
    assert [resource["service.name"] for resource in collector.resources] == ["webhook-grpc", "webhooks-of-cell-7"]


async def test_no_url_no_body_and_no_secret_is_exported(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp")
    receiver.on("/hidden-path", answer(500, "hidden answer"))
    await service.create_webhook(
        receiver.url("/hidden-path?token=hidden-query"), headers={"Authorization": "hidden header"}
    )
    await publish(service, data_json='{"hidden": "data"}')
    await collector.wait_for(1)
    for hidden in (b"hidden", b"127.0.0.1", b"/ok", SECRET.encode(), b"whsec_"):
        assert hidden not in collector.raw


async def test_a_header_of_the_http_door_counts_as_well(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp", http_address="127.0.0.1:0")
    await service.create_webhook(receiver.url())
    async with Http(service) as http:
        event = {"customer_id": CUSTOMER, "event_type": "job.completed", "data_json": "{}"}
        answered = await http.post("/api/events", {"event": event}, Traceparent=TRACEPARENT)
        assert answered.status in {200, 201}, answered.text
    [span] = await collector.wait_for(1)
    assert links(span) == [PRODUCER]


async def test_the_header_of_a_batch_counts_for_each_event(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    requests = [service_pb2.PublishEventRequest(event=an_event()) for _ in range(12)]
    await service.stub.BatchPublishEvents(service_pb2.BatchPublishEventsRequest(requests=requests), metadata=METADATA)
    spans = await collector.wait_for(12)
    assert [links(span) for span in spans] == [[PRODUCER]] * 12
    assert len({span.trace_id for span in spans}) == 12


async def test_each_retry_is_a_span_with_the_same_link(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.on("/flaky", answers(500, 200)))
    await publish(service)
    first, second = await collector.wait_for(2)
    assert links(first) == links(second) == [PRODUCER]
    assert [values(span.attributes)["attempt_number"] for span in (first, second)] == [1, 2]
    failed = values(first.attributes)
    assert (failed["outcome"], failed["http.response.status_code"], failed["error.type"]) == ("http_error", 500, "500")
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert first.status.message == "The receiver answered with an error status."
    assert "error.type" not in values(second.attributes)


async def test_what_is_read_from_the_table_has_its_link_too(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp")
    webhook = await service.create_webhook(receiver.url())
    await service.pause_webhook(webhook.webhook_id)
    await publish(service)
    await services.stop_one(service)  # nothing of it is in memory any more
    service = await services.start(traces="otlp")
    await service.resume_webhook(webhook.webhook_id)
    [span] = await collector.wait_for(1)
    assert links(span) == [PRODUCER]


async def test_a_replay_is_linked_to_the_publication(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp", retry_delays_seconds=())
    await service.create_webhook(receiver.on("/later", answers(500, 200)))
    async with service.watching() as watch:
        await publish(service)
        await watch.until_ended()
    now = datetime.now(UTC)
    replay = replay_pb2.Replay(customer_id=CUSTOMER)
    replay.start_time.CopyFrom(_timestamp(now - timedelta(hours=1)))
    replay.end_time.CopyFrom(_timestamp(now))
    await service.stub.CreateReplay(service_pb2.CreateReplayRequest(replay=replay))
    first, replayed = await collector.wait_for(2)
    assert links(first) == links(replayed) == [PRODUCER]
    assert values(replayed.attributes)["trigger"] == "replay"


@pytest.mark.parametrize("traceparent", [None, TRACEPARENT.upper(), f"00-{TRACE}-{'0' * 16}-01", "1", ""])
async def test_without_a_valid_traceparent_the_span_has_no_link(
    traceparent: str | None, services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    await publish(service, traceparent)
    [span] = await collector.wait_for(1)
    assert not span.links


async def test_an_event_of_publish_event_in_sql_has_no_link(
    services: ServiceFactory, receiver: Receiver, collector: Collector, postgres: TestPostgres
) -> None:
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    with application(postgres.url) as connection:
        publish_event(connection)
        connection.commit()
    [span] = await collector.wait_for(1)
    assert not span.links


async def test_an_attempt_without_an_answer_says_how_it_ended(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp", retry_delays_seconds=())
    url = receiver.url()
    await service.create_webhook(url)
    await receiver.stop()
    await publish(service)
    [span] = await collector.wait_for(1)
    attributes = values(span.attributes)
    assert (attributes["outcome"], attributes["error.type"]) == ("connection_error", "connection_error")
    assert "http.response.status_code" not in attributes


async def test_the_receiver_gets_the_span_of_the_attempt_if_that_is_wanted(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp", traceparent_to_receivers=True)
    await service.create_webhook(receiver.on("/flaky", answers(500, 200)))
    await publish(service)
    spans = await collector.wait_for(2)
    requests = await receiver.wait_for(2)
    for span, request in zip(spans, requests, strict=True):
        version, trace_id, span_id, flags = request.headers["traceparent"].split("-")
        assert {"trace_id": trace_id, "span_id": span_id} == traceparent_of(span)
        assert (version, int(flags, 16) & 1) == ("00", 1)
        request.verify(SECRET)


async def test_what_the_producer_does_not_record_is_not_recorded(
    services: ServiceFactory, receiver: Receiver, collector: Collector
) -> None:
    service = await services.start(traces="otlp", traceparent_to_receivers=True)
    await service.create_webhook(receiver.url())
    await publish(service, f"00-{TRACE}-{PRODUCER_SPAN}-00")
    [request] = await receiver.wait_for(1)
    assert int(request.headers["traceparent"].split("-")[3], 16) & 1 == 0
    await publish(service)
    [span] = await collector.wait_for(1)
    assert links(span) == [PRODUCER]
    assert values(span.attributes)["delivery_id"] in receiver.requests[-1].headers["X-Webhook-Delivery"]


async def test_the_usual_variables_choose_the_sampler(
    services: ServiceFactory, receiver: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    service = await services.start(traces="otlp")
    await service.create_webhook(receiver.url())
    await publish(service, f"00-{TRACE}-{PRODUCER_SPAN}-00")
    [span] = await collector.wait_for(1)
    assert links(span) == [PRODUCER]


async def test_with_the_sdk_disabled_everything_is_delivered_and_nothing_recorded(
    services: ServiceFactory, receiver: Receiver, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    service = await services.start(traces="otlp", traceparent_to_receivers=True)
    await service.create_webhook(receiver.url())
    await publish(service)
    [request] = await receiver.wait_for(1)
    assert "traceparent" not in request.headers
    await services.stop_one(service)
    assert collector.spans == []


def _timestamp(at: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp
