"""While processes of an older version run, what they would do wrong is refused; everything else goes on."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import LiteralString

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from webhook.v1 import event_type_pb2, service_pb2

from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory, error_details
from webhook_grpc.domain.cursor import decode_cursor
from webhook_grpc.store.schema.migration_files import program_version

pytestmark = pytest.mark.asyncio(loop_scope="module")

# As a process registers that knows nothing of versions, or knows an earlier one.
REGISTER: LiteralString = """
INSERT INTO workers (worker_id, lease_until, version) VALUES (gen_random_uuid(), now() + interval '50 s', %(version)s)
"""
DIE: LiteralString = """
UPDATE workers SET lease_until = now() - interval '1 s' WHERE version IS NOT DISTINCT FROM %(version)s::integer
"""
SCHEMA = '{"type":"object"}'
TYPE = "order.paid"


async def rotate(service: Service, webhook_id: int, overlap_seconds: int) -> None:
    request = service_pb2.RotateWebhookSecretRequest(
        customer_id=CUSTOMER, webhook_id=webhook_id, overlap=Duration(seconds=overlap_seconds)
    )
    await service.stub.RotateWebhookSecret(request)


async def try_webhook(service: Service, webhook_id: int) -> None:
    await service.stub.TestWebhook(service_pb2.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook_id))


async def create_type(service: Service, event_type: str, json_schema: str) -> None:
    message = event_type_pb2.EventType(event_type=event_type, description="Paid.", json_schema=json_schema)
    await service.stub.CreateEventType(service_pb2.CreateEventTypeRequest(event_type=message))


async def update_type(service: Service, event_type: str, json_schema: str) -> None:
    message = event_type_pb2.EventType(event_type=event_type, json_schema=json_schema)
    request = service_pb2.UpdateEventTypeRequest(event_type=message, update_mask=FieldMask(paths=["json_schema"]))
    await service.stub.UpdateEventType(request)


async def refusal(call: Awaitable[None]) -> str:
    """The reason of the error that a call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "repeat the call when they are replaced" in str(caught.value.details())
    return str(error_details(caught.value)["ErrorInfo"].reason)


@pytest.mark.parametrize("version", [None, 4])
async def test_what_an_older_process_would_do_wrong_is_refused_while_one_lives(
    services: ServiceFactory, postgres: TestPostgres, receiver: Receiver, version: int | None
) -> None:
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())
    postgres.rows(REGISTER, {"version": version})
    for call in (
        rotate(service, webhook.webhook_id, 60),
        try_webhook(service, webhook.webhook_id),
        create_type(service, TYPE, SCHEMA),
        update_type(service, "job.failed", SCHEMA),
    ):
        assert await refusal(call) == "OLD_PROCESSES_RUNNING"
    await rotate(service, webhook.webhook_id, 0)
    await create_type(service, TYPE, "")
    await update_type(service, TYPE, "")

    postgres.rows(DIE, {"version": version})
    await rotate(service, webhook.webhook_id, 60)
    await update_type(service, TYPE, SCHEMA)
    await try_webhook(service, webhook.webhook_id)


async def test_a_process_registers_its_version(services: ServiceFactory, postgres: TestPostgres) -> None:
    await services.start()
    assert postgres.rows("SELECT version FROM workers") == [(program_version(),)]


async def test_cursors_are_sealed_but_for_an_older_process_which_could_not_read_them(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start()
    postgres.rows(REGISTER, {"version": 11})
    async with service.watching() as watch:
        assert decode_cursor(watch.cursor) is not None
    postgres.rows(DIE, {"version": 11})
    async with service.watching(cursor=watch.cursor) as later:
        assert decode_cursor(later.cursor) is None
    async with service.watching(cursor=later.cursor) as last:
        assert last.cursor == later.cursor
