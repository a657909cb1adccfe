"""Deliveries: get one, list them, list their attempts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from uuid import UUID

from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.messages import reading, writing
from webhook_grpc.api.messages.filters import read_attempt_filter, read_delivery_filter
from webhook_grpc.api.messages.paging import PAGE_BYTES_MAX, PageToken, fitting, micros_of, page_size, time_of
from webhook_grpc.api.messages.times import timestamp
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.filters import AttemptFilter
from webhook_grpc.store.db import Database
from webhook_grpc.store.lists import attempts as attempt_lists
from webhook_grpc.store.lists import deliveries as delivery_lists
from webhook_grpc.store.lists.attempts import AttemptKey
from webhook_grpc.store.lists.deliveries import DeliveryKey
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import lookup

_DELIVERY_KEY: Final = ">q16sq"
_ATTEMPT_KEY: Final = ">qqq"


class DeliveryMethods:
    """The calls that read deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, request: service_pb2.GetDeliveryRequest, call: Call) -> delivery_pb2.Delivery:
        """Returns one delivery."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        event_id, webhook_id = reading.read_delivery_id(request.delivery_id, "delivery_id", violations)
        refuse_if(violations)
        return writing.delivery_message(await lookup.get_delivery(self._database, customer_id, event_id, webhook_id))

    async def list(self, request: service_pb2.ListDeliveriesRequest, call: Call) -> service_pb2.ListDeliveriesResponse:
        """Lists deliveries, newest event first."""
        violations = list[Violation]()
        size = page_size(request.page_size, violations)
        wanted = read_delivery_filter(request, call, violations)
        refuse_if(violations)
        token = PageToken(request, _DELIVERY_KEY)
        key = token.read()
        before = _delivery_key(*key) if key else delivery_lists.DELIVERIES_START
        page = await delivery_lists.list_deliveries(self._database, wanted, before, PageBounds(size, PAGE_BYTES_MAX))
        deliveries = await fitting(page.items, writing.delivery_message)
        response = service_pb2.ListDeliveriesResponse(deliveries=deliveries)
        if after := page.key_after(len(deliveries)):
            response.next_page_token = token.after(micros_of(after.create_time), after.event_id.bytes, after.webhook_id)
            response.progress_time.CopyFrom(timestamp(after.create_time))
        return response

    async def list_attempts(
        self, request: service_pb2.ListDeliveryAttemptsRequest, call: Call
    ) -> service_pb2.ListDeliveryAttemptsResponse:
        """Lists attempts, newest first. Raises NotFound if the request names a delivery that does not exist."""
        violations = list[Violation]()
        size = page_size(request.page_size, violations)
        wanted = read_attempt_filter(request, call, violations)
        delivery = (
            reading.read_delivery_id(request.delivery_id, "delivery_id", violations) if request.delivery_id else None
        )
        refuse_if(violations)
        token = PageToken(request, _ATTEMPT_KEY)
        key = token.read()
        before = _attempt_key(*key) if key else attempt_lists.ATTEMPTS_START
        if delivery:
            await lookup.get_delivery(self._database, wanted.customer_id, *delivery)  # or NOT_FOUND
            wanted = _within_delivery(wanted, *delivery)
            if wanted is None:
                return service_pb2.ListDeliveryAttemptsResponse()
        page = await attempt_lists.list_attempts(self._database, wanted, before, PageBounds(size, PAGE_BYTES_MAX))
        attempts = await fitting(page.items, writing.attempt_message)
        response = service_pb2.ListDeliveryAttemptsResponse(attempts=attempts)
        if after := page.key_after(len(attempts)):
            response.next_page_token = token.after(micros_of(after.end_time), after.webhook_id, after.seq)
            response.progress_time.CopyFrom(timestamp(after.end_time))
        return response


def _within_delivery(wanted: AttemptFilter, event_id: UUID, webhook_id: int) -> AttemptFilter | None:
    """Returns the filter narrowed to one delivery, None if another part of the filter excludes that delivery."""
    if wanted.event_id not in {None, event_id} or (wanted.webhook_ids and webhook_id not in wanted.webhook_ids):
        return None
    return replace(wanted, event_id=event_id, webhook_ids=(webhook_id,))


def _delivery_key(micros: int | bytes, event_id: int | bytes, webhook_id: int | bytes) -> DeliveryKey:
    assert isinstance(event_id, bytes)
    assert isinstance(webhook_id, int)
    return DeliveryKey(time_of(micros), UUID(bytes=event_id), webhook_id)


def _attempt_key(micros: int | bytes, webhook_id: int | bytes, seq: int | bytes) -> AttemptKey:
    assert isinstance(webhook_id, int)
    assert isinstance(seq, int)
    return AttemptKey(time_of(micros), webhook_id, seq)
