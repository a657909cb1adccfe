"""A row that can't be worked with fails alone: whatever stands in it, the others are delivered, and nothing dies."""

from __future__ import annotations

from typing import LiteralString

import pytest
from webhook.v1 import delivery_pb2, service_pb2

from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import Service, ServiceFactory
from tests.support.sharing import receiver, service, services, shared, shared_settings

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]  # fixtures

pytestmark = pytest.mark.asyncio(loop_scope="module")
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED

# What no call of the API would write.
POISONS: dict[str, LiteralString] = {
    "secret that can't be opened": "secret = 'nonsense'",
    "empty secret": "secret = ''",
    "URL that is none": "url = 'not a url'",
    "empty URL": "url = ''",
    "URL with a forbidden port": "url = 'http://127.0.0.1:22/'",
    "URL that leads inside": "url = 'http://169.254.169.254/latest/meta-data/'",
    "URL with a space": "url = 'http://127.0.0.1:8080/a b'",
    "URL with a line break": "url = E'http://127.0.0.1:8080/\\r\\nX: y'",
    "header with a line break": """headers = '{"X-A": "b\\r\\nX-C: d"}'""",
    "header name with a space": """headers = '{"X A": "b"}'""",
    "header name that is empty": """headers = '{"": "b"}'""",
    "header that is not ASCII": """headers = '{"X-A": "\u00fc\u2603"}'""",
    "header value that is a number": """headers = '{"X-A": 5}'""",
    "headers that are a list": "headers = '[1, 2]'",
    "headers that are null": "headers = 'null'",
    "schedule that is empty": "url = 'not a url', retry_delays_seconds = '{}'",
    "schedule with a hole": "url = 'not a url', retry_delays_seconds = '{NULL}'",
    "schedule of negative delays": "url = 'not a url', retry_delays_seconds = '{-5, -5}'",
    "schedule that is not a number": "url = 'not a url', retry_delays_seconds = '{NaN}'",
    "timeout that is negative": "timeout_seconds = -1",
    "timeout that is not a number": "timeout_seconds = 'NaN'",
    "requests at once that are negative": "max_in_flight = -3",
    "rate that is negative": "url = 'not a url', rate_limit_per_second = -3",
}


@pytest.mark.parametrize("change", POISONS.values(), ids=POISONS.keys())
async def test_a_webhook_that_cannot_be_worked_with_fails_alone(
    service: Service, receiver: Receiver, postgres: TestPostgres, change: LiteralString
) -> None:
    poison = await service.create_webhook(receiver.url("/poison"))
    whole = await service.create_webhook(receiver.url("/whole"))
    statement: LiteralString = "UPDATE webhooks SET " + change + " WHERE id = %s"  # noqa: S608 - of the table above
    postgres.rows(statement, [poison.webhook_id])
    async with service.watching(webhook_ids=[whole.webhook_id]) as at_whole:
        async with service.watching(webhook_ids=[poison.webhook_id]) as at_poison:
            await service.publish_many(3)
            told = await at_whole.until_ended(3)
            assert {delivery.status for delivery in told} == {SUCCEEDED}
            told = await at_poison.until_ended(3)
            assert {delivery.status for delivery in told} <= {FAILED, CANCELLED, SUCCEEDED}
    for request in receiver.at("/poison"):
        assert "X-C" not in request.headers
    assert not [task.get_name() for task in service.app._loops if task.done()]  # pyright: ignore[reportPrivateUsage]


async def test_an_event_that_is_far_too_large_is_delivered_alone(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """Larger than the API lets through and than all the memory for bodies."""
    service = await services.start(prefetch_bytes_max=1_000_000)
    await service.create_webhook(receiver.url("/hook"))
    gone = await service.publish(event_type="quota.exceeded")
    assert gone.event_id
    await receiver.wait_for(1)
    webhook = await service.create_webhook(receiver.url("/large"), events=["alert.*"])

    named = service_pb2.PauseWebhookRequest(customer_id=42, webhook_id=webhook.webhook_id)
    await service.stub.PauseWebhook(named)
    await service.publish(event_type="alert.triggered")
    postgres.rows("UPDATE events SET body = convert_to(repeat('x', 900000), 'UTF8') WHERE event_type LIKE 'alert.%'")
    await service.stub.ResumeWebhook(service_pb2.ResumeWebhookRequest(customer_id=42, webhook_id=webhook.webhook_id))
    await service.publish_many(20)
    await receiver.wait_for(1, "/large")
    await receiver.wait_for(22, "/hook")
