"""Acting on deliveries: test a webhook, retry or cancel a delivery.

The owner of the delivery's shard, perhaps another process, carries that out. A call leaves a command for the owner,
follows the log until the command has its effect, and returns the delivery as the log has it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog
import uuid_utils
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import reading, writing
from webhook_grpc.domain import envelope, matching
from webhook_grpc.domain.command import Kind, TestEvent
from webhook_grpc.domain.concurrency_limits import Places
from webhook_grpc.domain.errors import FailedPrecondition, NotFound, Overloaded, Unavailable, Violation
from webhook_grpc.domain.ids import delivery_id_text
from webhook_grpc.domain.model import Delivery, DeliveryStatus, WebhookStatus
from webhook_grpc.hub.hints import Hints
from webhook_grpc.hub.log.tail import Tail
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import lookup
from webhook_grpc.store.outbox import commands
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.schema.partitions import ensure_partitions, is_partition_missing
from webhook_grpc.store.schema.versions import refuse_beside_older

from .effects import DeliveryName, Follower

log = structlog.get_logger(__name__)

TEST_EVENT_TYPE: Final = "webhook.test"
TEST_DATA: Final = b'{"test":true}'
TEST_WAIT_SECONDS: Final = 25.0  # the engine gives a test 20 s
TESTS_WAITING_MAX: Final = 20  # calls of one customer: each of them waits for a receiver that may take long
ACT_WAIT_SECONDS: Final = 5.0
ACTIONS_WAITING_MAX: Final = 100  # calls of one customer: each of them looks at every change of the log meanwhile


class ActionMethods:
    """The calls that make something happen to a delivery."""

    def __init__(self, database: Database, tail: Tail, hints: Hints, clock: DatabaseClock) -> None:
        self._database = database
        self._follower = Follower(database, tail, hints)
        self._clock = clock
        self._testing = _places(TESTS_WAITING_MAX, "TOO_MANY_TESTS", "tests")
        self._acting = _places(ACTIONS_WAITING_MAX, "TOO_MANY_ACTIONS", "calls of RetryDelivery and CancelDelivery")

    async def test(self, request: service_pb2.TestWebhookRequest, call: Call) -> service_pb2.TestWebhookResponse:
        """Sends one request now, and returns its delivery when the receiver has answered or the attempt has failed."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        webhook_id = reading.read_id(request.webhook_id, "webhook_id", violations)
        event_type = request.event_type or TEST_EVENT_TYPE
        if not matching.is_event_type(event_type):
            violations.append(Violation("event_type", "must be an event type like `job.completed`, or empty"))
        data_json = TEST_DATA
        if request.data_json:
            data_json = reading.read_data_json(request.data_json, "data_json", violations)
        refuse_if(violations)
        await webhooks.get(self._database, customer_id, webhook_id)  # or NOT_FOUND
        await refuse_beside_older(self._database, "TestWebhook")  # one that owns the shard would never make the test
        with self._testing.place(customer_id):
            return await self._test(customer_id, webhook_id, event_type, data_json, call)

    async def _test(
        self, customer_id: int, webhook_id: int, event_type: str, data_json: bytes, call: Call
    ) -> service_pb2.TestWebhookResponse:
        body, data_start = envelope.render_body(event_type, int(self._clock.unix_seconds()), data_json)
        event_id = UUID(int=uuid_utils.uuid7(nanoseconds=int(self._clock.unix_seconds() * 1e9)).int)
        event = TestEvent(event_id, customer_id, webhook_id, event_type, body, data_start)
        name = DeliveryName(customer_id, event_id, webhook_id)

        async def leave() -> None:
            audit = call.audit(f"webhook:{webhook_id}", f"delivery:{name.text}")
            try:
                await commands.insert_test(self._database, event, audit=audit)
            except Unavailable as error:
                if not is_partition_missing(error):
                    raise
                log.warning("a partition is missing: the database's clock may have stepped")
                await ensure_partitions(self._database)
                await commands.insert_test(self._database, event, audit=audit)

        delivery = await self._follower.carried_out(name, leave, _has_ended, TEST_WAIT_SECONDS)
        if delivery is None or not _has_ended(delivery):
            raise Unavailable("TEST_NOT_MADE", "no process of the service has made the test in time; try again")
        return service_pb2.TestWebhookResponse(delivery=writing.delivery_message(delivery))

    async def retry(self, request: service_pb2.RetryDeliveryRequest, call: Call) -> delivery_pb2.Delivery:
        """Restarts a delivery that has ended."""
        violations = list[Violation]()
        request_id = reading.read_request_id(request.request_id, violations)
        name = _read_name(request, call, violations)
        fingerprint = reading.fingerprint(b"retry " + name.text.encode("ascii"))
        before = await self._get(name)
        if request_id and await commands.is_repetition(self._database, name.customer_id, request_id, fingerprint):
            return writing.delivery_message(before)
        await self._must_be_retryable(before)

        async def leave() -> None:
            of_delivery = (Kind.RETRY, name.customer_id, name.webhook_id, name.event_id)
            audit = call.audit(f"delivery:{name.text}")
            if request_id is None:
                await commands.insert(self._database, *of_delivery, audit=audit)
            else:
                await commands.insert_once(
                    self._database, *of_delivery, request_id=request_id, fingerprint=fingerprint, audit=audit
                )

        def is_restarted(now: Delivery) -> bool:
            return now.update_time > before.update_time

        with self._acting.place(name.customer_id):
            delivery = await self._follower.carried_out(name, leave, is_restarted, ACT_WAIT_SECONDS)
        return writing.delivery_message(delivery or before)

    async def cancel(self, request: service_pb2.CancelDeliveryRequest, call: Call) -> delivery_pb2.Delivery:
        """Ends a pending delivery."""
        name = _read_name(request, call, list[Violation]())
        before = await self._get(name)
        if _has_ended(before):
            raise _wrong_status(before, "only a pending delivery can be cancelled")

        async def leave() -> None:
            of_delivery = (Kind.CANCEL, name.customer_id, name.webhook_id, name.event_id)
            await commands.insert(self._database, *of_delivery, audit=call.audit(f"delivery:{name.text}"))

        with self._acting.place(name.customer_id):
            delivery = await self._follower.carried_out(name, leave, _has_ended, ACT_WAIT_SECONDS)
        return writing.delivery_message(delivery or before)

    async def _get(self, name: DeliveryName) -> Delivery:
        return await lookup.get_delivery(self._database, name.customer_id, name.event_id, name.webhook_id)

    async def _must_be_retryable(self, delivery: Delivery) -> None:
        """Raises FailedPrecondition if the delivery is pending or a test, or has no event or no usable webhook."""
        if not _has_ended(delivery):
            raise _wrong_status(delivery, "it is pending already; wait for its next attempt, or cancel it first")
        try:
            event = await lookup.get_event(self._database, delivery.customer_id, delivery.event_id)
        except NotFound:
            raise FailedPrecondition(
                "EVENT_EXPIRED",
                "the event of this delivery is older than events are kept; publish it again",
                f"delivery:{delivery_id_text(delivery.event_id, delivery.webhook_id)}",
            ) from None
        if event.test_webhook_id is not None:
            raise _wrong_status(delivery, "the delivery of a test is not retried; call TestWebhook again")
        webhook = await webhooks.find(self._database, delivery.webhook_id)
        status = webhook.status if webhook is not None else WebhookStatus.DELETED
        if status not in {WebhookStatus.ACTIVE, WebhookStatus.PAUSED}:
            raise FailedPrecondition(
                "WEBHOOK_STATUS",
                f"webhook {delivery.webhook_id} is {status.value}; resume it first"
                if status is WebhookStatus.DISABLED
                else f"webhook {delivery.webhook_id} is deleted",
                f"webhook:{delivery.webhook_id}",
                {"status": status.value},
            )


def _places(limit: int, reason: str, what: str) -> Places[int]:
    """Bounds how many calls of a kind each customer has in progress: they wait for a receiver, or for the log."""

    def too_many(customer_id: int) -> Overloaded:
        return Overloaded(reason, f"{limit} {what} of customer {customer_id} are waiting already; retry later", 1.0)

    return Places(limit, too_many)


def _read_name(
    request: service_pb2.RetryDeliveryRequest | service_pb2.CancelDeliveryRequest,
    call: Call,
    violations: list[Violation],
) -> DeliveryName:
    """Returns which delivery a request names. Raises InvalidArgument, also for the violations found before."""
    customer_id = call.customer(request.customer_id, "customer_id", violations)
    event_id, webhook_id = reading.read_delivery_id(request.delivery_id, "delivery_id", violations)
    refuse_if(violations)
    return DeliveryName(customer_id, event_id, webhook_id)


def _has_ended(delivery: Delivery) -> bool:
    return delivery.status is not DeliveryStatus.PENDING


def _wrong_status(delivery: Delivery, what: str) -> FailedPrecondition:
    name = delivery_id_text(delivery.event_id, delivery.webhook_id)
    return FailedPrecondition(
        "DELIVERY_STATUS",
        f"delivery {name} is {delivery.status.value}; {what}",
        f"delivery:{name}",
        {"status": delivery.status.value},
    )
