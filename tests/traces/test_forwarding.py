"""WEBHOOK_TRACEPARENT_TO_RECEIVERS with traces off: the trace of a producer goes on to receivers, not recorded."""

from __future__ import annotations

import pytest

from tests.support.receiver import Receiver, answers
from tests.support.service import SECRET, ServiceFactory

from .test_recording import PRODUCER_SPAN, TRACE, TRACEPARENT, publish

pytestmark = pytest.mark.slow


async def test_each_attempt_has_an_id_of_its_own_in_the_producers_trace(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(traceparent_to_receivers=True)
    await service.create_webhook(receiver.on("/flaky", answers(500, 200)))
    await publish(service, f"00-{TRACE}-{PRODUCER_SPAN}-ff")
    requests = await receiver.wait_for(2)
    parts = [request.headers["traceparent"].split("-") for request in requests]
    assert [(version, trace_id, flags) for version, trace_id, _, flags in parts] == [("00", TRACE, "03")] * 2
    span_ids = {span_id for _, _, span_id, _ in parts}
    assert len(span_ids | {PRODUCER_SPAN, "0" * 16}) == 4
    assert all(len(span_id) == 16 for span_id in span_ids)
    requests[0].verify(SECRET)


async def test_an_event_without_a_trace_brings_none(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(traceparent_to_receivers=True)
    await service.create_webhook(receiver.url())
    await publish(service, None)
    [request] = await receiver.wait_for(1)
    assert "traceparent" not in request.headers


async def test_a_header_of_the_webhooks_own_wins(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(traceparent_to_receivers=True)
    await service.create_webhook(receiver.url(), headers={"TraceParent": "its own"})
    await publish(service)
    [request] = await receiver.wait_for(1)
    assert request.headers.getall("traceparent") == ["its own"]


async def test_by_default_a_receiver_gets_nothing_of_a_trace(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start()
    await service.create_webhook(receiver.url())
    await publish(service, TRACEPARENT)
    [request] = await receiver.wait_for(1)
    assert not [name for name in request.headers if "trace" in name.lower()]
