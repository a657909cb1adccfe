"""Deliveries: one, a list, the attempts of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from webhook.v1 import delivery_pb2, service_pb2

from ..domain import validation
from ..domain.errors import Violation
from ..domain.ids import INT64_MAX
from ..domain.model import Delivery
from ..store import history
from ..store.db import Database
from ..store.history import DeliveryFilter, DeliveryKey
from . import convert
from .calls import Call, refuse_if
from .paging import PageToken, fitting, page_size, page_token_invalid

FILTER_IDS_MAX: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DeliveryMethods:
    """The calls that look at deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, request: service_pb2.GetDeliveryRequest, call: Call) -> delivery_pb2.Delivery:
        """Returns one delivery."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        event_id, webhook_id = convert.read_delivery_id(request.delivery_id, "delivery_id", violations)
        refuse_if(violations)
        return convert.delivery_message(await history.get_delivery(self._database, customer_id, event_id, webhook_id))

    async def list(self, request: service_pb2.ListDeliveriesRequest, call: Call) -> service_pb2.ListDeliveriesResponse:
        """Lists deliveries, newest first."""
        violations = list[Violation]()
        size = page_size(request.page_size, violations)
        wanted = read_filter(request, call, violations)
        refuse_if(violations)
        token = PageToken(request, ">q16sq")
        key = token.read()
        before = _key_from_token(key) if key else history.NEWEST
        found = await history.list_deliveries(self._database, wanted, before, size + 1)
        deliveries = fitting([convert.delivery_message(delivery) for delivery in found[:size]])
        is_last = len(deliveries) == len(found)
        return service_pb2.ListDeliveriesResponse(
            deliveries=deliveries,
            next_page_token="" if is_last else token.after(*_key_for_token(found[len(deliveries) - 1])),
        )

    async def list_attempts(
        self, request: service_pb2.ListDeliveryAttemptsRequest, call: Call
    ) -> service_pb2.ListDeliveryAttemptsResponse:
        """Lists the attempts of one delivery, newest first."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        size = page_size(request.page_size, violations)
        event_id, webhook_id = convert.read_delivery_id(request.delivery_id, "delivery_id", violations)
        refuse_if(violations)
        token = PageToken(request, ">q")
        key = token.read()
        before_seq = int(key[0]) if key else INT64_MAX
        await history.get_delivery(self._database, customer_id, event_id, webhook_id)  # or NOT_FOUND
        found = await history.list_attempts(self._database, customer_id, event_id, webhook_id, before_seq, size + 1)
        attempts = fitting([convert.attempt_message(attempt) for _, attempt in found[:size]])
        return service_pb2.ListDeliveryAttemptsResponse(
            attempts=attempts,
            next_page_token="" if len(attempts) == len(found) else token.after(found[len(attempts) - 1][0]),
        )


def read_filter(
    request: service_pb2.ListDeliveriesRequest | service_pb2.WatchDeliveriesRequest,
    call: Call,
    violations: list[Violation],
) -> DeliveryFilter:
    """The filter that List and Watch share."""
    customer_id = call.customer_or_all(request.customer_id, "customer_id", violations)
    violations += webhook_id_violations(request.webhook_ids)
    violations += validation.pattern_violations("event_types", request.event_types)
    return DeliveryFilter(
        customer_id=customer_id,
        webhook_ids=tuple(dict.fromkeys(request.webhook_ids)),
        event_types=tuple(request.event_types),
        statuses=convert.read_delivery_statuses(request.statuses, violations),
        event_id=convert.read_event_id(request.event_id, "event_id", violations) if request.event_id else None,
    )


def webhook_id_violations(webhook_ids: Sequence[int], field: str = "webhook_ids") -> list[Violation]:
    """Everything that is wrong with a filter by webhooks."""
    if len(webhook_ids) > FILTER_IDS_MAX:
        return [Violation(field, f"must have at most {FILTER_IDS_MAX} entries, has {len(webhook_ids)}")]
    return [Violation(f"{field}[{index}]", "must be positive") for index, value in enumerate(webhook_ids) if value <= 0]


def _key_for_token(delivery: Delivery) -> tuple[int, bytes, int]:
    micros = (delivery.create_time - _EPOCH) // timedelta(microseconds=1)
    return micros, delivery.event_id.bytes, delivery.webhook_id


def _key_from_token(key: tuple[int | bytes, ...]) -> DeliveryKey:
    micros, event_id, webhook_id = key
    assert isinstance(micros, int)
    assert isinstance(event_id, bytes)
    assert isinstance(webhook_id, int)
    try:
        return DeliveryKey(_EPOCH + timedelta(microseconds=micros), UUID(bytes=event_id), webhook_id)
    except OverflowError:
        raise page_token_invalid() from None
