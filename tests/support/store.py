"""Shorthands for tests of the store."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import uuid_utils

from tests.support import roles, slowness
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.envelope import render_body
from webhook_grpc.domain.model import AttemptResult, DeliveryStatus, NewEvent, Outcome, PendingDelivery, WebhookSpec
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.db import Database, DatabaseOptions, LoopConnection
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.outbox.publishing import PublishedBatch
from webhook_grpc.store.registry import webhooks

CUSTOMER = 42
ALL_SHARDS = range(64)
# What the changes of a test leave in the audit.
AUDIT = AuditEntry("CreateWebhook", "test", None, "192.0.2.1", "of-a-test", CUSTOMER, ("webhook:1",), ("name",))


def options(conninfo: str) -> DatabaseOptions:
    """Options for a test's database."""
    return DatabaseOptions(roles.of_service(conninfo), 4, slowness.scaled(10.0), 100, slowness.scaled(10.0))


def new_event_id() -> UUID:
    """A UUIDv7 of now."""
    return UUID(int=uuid_utils.uuid7(nanoseconds=time.time_ns()).int)


def new_event(**fields: Any) -> NewEvent:
    """An event as the API makes it."""
    event_type = fields.get("event_type", "job.completed")
    body, data_start = render_body(event_type, 1_700_000_000, fields.pop("data", b"{}"))
    values: dict[str, Any] = {
        "event_id": new_event_id(),
        "customer_id": CUSTOMER,
        "event_type": event_type,
        "occur_time": datetime.fromtimestamp(1_700_000_000, UTC),
        "body": body,
        "data_start": data_start,
        "attributes": {},
        "request_id": None,
        "fingerprint": 1,
    }
    return NewEvent(**{**values, **fields})


async def new_webhook(database: Database, **fields: Any) -> int:
    """A webhook for everything; returns its id."""
    customer_id = fields.pop("customer_id", CUSTOMER)
    spec: dict[str, Any] = {"name": "test", "url": "https://example.com/", "events": ("*",), **fields}
    webhook_id = await webhooks.next_id(database)
    new = webhooks.NewWebhook(webhook_id, customer_id, WebhookSpec(**spec), b"sealed", "hint", False, None, ())
    await webhooks.create(database, new, 1000, audit=AUDIT)
    return webhook_id


async def publish(connection: LoopConnection, *events: NewEvent) -> PublishedBatch:
    """Publishes as the owner of all shards."""
    return await publishing.publish(connection, events, ALL_SHARDS)


def pending(batch: PublishedBatch) -> list[PendingDelivery]:
    """The deliveries that a publication made."""
    return [
        PendingDelivery(
            webhook_id=webhook_id,
            event_id=new.event.event_id,
            due_at=new.create_time,
            customer_id=new.event.customer_id,
            attempt=0,
            event_type=new.event.event_type,
            event_create_time=new.create_time,
            body=new.event.body,
            traceparent=new.event.traceparent,
        )
        for new in batch.new
        for webhook_id in new.own_webhook_ids
    ]


def succeeded(delivery: PendingDelivery) -> Settlement:
    """An attempt that was answered with 200."""
    result = AttemptResult(Outcome.SUCCEEDED, datetime.now(UTC), 5, response_status=200, response_body=b"ok")
    return Settlement(delivery, Decision(DeliveryStatus.SUCCEEDED), result)


def to_retry(delivery: PendingDelivery, seconds: float = 60) -> Settlement:
    """An attempt that was answered with 500."""
    result = AttemptResult(Outcome.HTTP_ERROR, datetime.now(UTC), 5, response_status=500, response_body=b"no")
    return Settlement(delivery, Decision(DeliveryStatus.PENDING, seconds), result)


def new_worker() -> UUID:
    """The id of a process."""
    return uuid4()
