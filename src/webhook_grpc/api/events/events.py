"""Events: publish one, publish many, get one, list them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import uuid_utils
from webhook.v1 import event_pb2, service_pb2

from webhook_grpc.api.call import Call, refuse_if
from webhook_grpc.api.codes import code_of
from webhook_grpc.api.messages import reading, times, writing
from webhook_grpc.api.messages.filters import read_event_filter
from webhook_grpc.api.messages.paging import PAGE_BYTES_MAX, PageToken, fitting, page_size
from webhook_grpc.domain.error_bounds import ErrorBounds
from webhook_grpc.domain.errors import PermissionDenied, Violation, WebhookError, field_invalid
from webhook_grpc.domain.fair_shares import RateLimits
from webhook_grpc.domain.ids import event_id_text, event_id_time
from webhook_grpc.domain.model import Published
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.hub.type_rules import EventTypes
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.lists import events as event_lists
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import lookup

from .batch import (
    EVENTS_AT_ONCE,
    Accepted,
    Answered,
    Batch,
    PublishRates,
    Refused,
    customer_named,
)
from .offloading import LARGE_BYTES, LargeWork

BATCH_MAX: Final = 500
RESULTS_AT_ONCE: Final = 25  # of a batch that are written before other calls get a turn
# Bounds of one error in the response of a batch: those of a gRPC status, so that an event is refused with the same text
# alone and in a batch. 500 such errors fit into the 4 MiB that clients accept.
_RESULT_BOUNDS: Final = ErrorBounds(
    violations_bytes_max=3000, part_bytes_max=300, message_bytes_max=1000, escaped_bytes=3
)


class EventMethods:
    """The calls that publish and read events."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        event_types: EventTypes,
        clock: DatabaseClock,
        large: LargeWork,
        rates: RateLimits,
    ) -> None:
        """`rates`: of events."""
        self._database = database
        self._publisher = publisher
        self._event_types = event_types
        self._clock = clock
        self._large = large
        self._rates = PublishRates(rates)
        self._turns = LoopTurns()  # of batches; those of watchers are others, behind which no batch waits

    async def publish(self, request: service_pb2.PublishEventRequest, call: Call) -> service_pb2.PublishEventResponse:
        """Publishes one event; returns when it is committed."""
        [fate] = await self._publish(Batch([await self._read_in_turn(request, 0, call)]), call)
        match fate:
            case Answered(published):
                return service_pb2.PublishEventResponse(**_published_fields(published))
            case Refused(error):
                raise error

    async def publish_batch(
        self, request: service_pb2.BatchPublishEventsRequest, call: Call
    ) -> service_pb2.BatchPublishEventsResponse:
        """Publishes many events, each with a result of its own; returns when they are committed."""
        _refuse_bad_batch(request)
        customer_id = call.caller.customer_of(customer_named(request))
        whose = call.caller.line_of(customer_id)
        read: list[Accepted | Refused] = []
        for index, item in enumerate(request.requests, 1):
            read.append(await self._read_or_refuse(item, request.customer_id, call))
            if not index % EVENTS_AT_ONCE and index < len(request.requests):
                # However many batches are read at a time, others get the loop between two parts of one of them.
                await self._turns.wait(whose)
        call.customer_id = customer_id
        fates = await self._publish(Batch(read), call)
        response = service_pb2.BatchPublishEventsResponse()
        for begin in range(0, len(fates), RESULTS_AT_ONCE):
            if begin:
                await self._turns.wait(whose)
            for fate in fates[begin : begin + RESULTS_AT_ONCE]:
                response.results.add(**_result_fields(fate))
        return response

    async def get(self, request: service_pb2.GetEventRequest, call: Call) -> event_pb2.Event:
        """Returns one event."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        event_id = reading.read_event_id(request.event_id, "event_id", violations)
        refuse_if(violations)
        event = await lookup.get_event(self._database, customer_id, event_id)
        return writing.event_message(event, with_publisher=call.caller.may_see_callers)

    async def list(self, request: service_pb2.ListEventsRequest, call: Call) -> service_pb2.ListEventsResponse:
        """Lists events, newest first."""
        violations: list[Violation] = []
        size = page_size(request.page_size, violations)
        wanted = read_event_filter(request, call, violations)
        refuse_if(violations)
        token = PageToken(request, ">16s")
        key = token.read()
        before = _event_key(*key) if key else event_lists.EVENTS_START
        page = await event_lists.list_events(self._database, wanted, before, PageBounds(size, PAGE_BYTES_MAX))
        with_publisher = call.caller.may_see_callers
        events = await fitting(page.items, partial(writing.event_message, with_publisher=with_publisher))
        response = service_pb2.ListEventsResponse(events=events)
        if after := page.key_after(len(events)):
            response.next_page_token = token.after(after.bytes)
            response.progress_time.CopyFrom(times.timestamp(event_id_time(after)))
        return response

    async def _publish(self, batch: Batch, call: Call) -> Sequence[Answered | Refused]:
        turn = partial(self._turns.wait, call.caller.line_of(call.customer_id))
        await batch.judge(self._event_types, self._database, self._large, turn)
        batch.rate(self._rates, call.caller)
        return await batch.publish(self._publisher)

    async def _read_in_turn(
        self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call
    ) -> Accepted:
        """Reads an event, beside the loop if the event is large."""
        if not reading.is_large_event(request.event, LARGE_BYTES):
            return self._read(request, default_customer_id, call)
        whose = call.caller.customer_id or request.event.customer_id or default_customer_id
        return await self._large.run(whose, self._read, request, default_customer_id, call)

    def _read(self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call) -> Accepted:
        violations: list[Violation] = []
        named = request.event.customer_id or default_customer_id
        customer_id = call.customer(named, "event.customer_id", violations)
        request_id = reading.read_request_id(request.request_id, violations)
        event_id = self._new_id()
        now, publisher = self._clock.now(), call.caller.name
        event = reading.read_event(
            request.event, customer_id, request_id, event_id, now, violations, call.traceparent, publisher
        )
        refuse_if(violations)
        return Accepted(event, request.event.WhichOneof("content") or "")

    async def _read_or_refuse(
        self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call
    ) -> Accepted | Refused:
        try:
            return await self._read_in_turn(request, default_customer_id, call)
        except PermissionDenied as error:
            call.refused_part = call.refused_part or error
            return Refused(error)
        except WebhookError as error:
            return Refused(error)

    def _new_id(self) -> UUID:
        """Returns a UUIDv7 by the database's clock: the table of events is partitioned by the time in it."""
        nanoseconds = int(self._clock.unix_seconds() * 1e9)
        return UUID(int=uuid_utils.uuid7(nanoseconds=nanoseconds).int)


def _refuse_bad_batch(request: service_pb2.BatchPublishEventsRequest) -> None:
    """Raises InvalidArgument for what is wrong with a batch as a whole."""
    count = len(request.requests)
    if count > BATCH_MAX:
        raise field_invalid(
            "requests", f"must have at most {BATCH_MAX} entries, has {count}", "BATCH_TOO_LARGE", limit=str(BATCH_MAX)
        )
    violations = list[Violation]()
    if request.customer_id < 0:
        violations.append(Violation("customer_id", "must be positive"))
    if not count:
        violations.append(Violation("requests", "must have at least one entry"))
    refuse_if(violations)


def _event_key(event_id: int | bytes) -> UUID:
    assert isinstance(event_id, bytes)
    return UUID(bytes=event_id)


def _published_fields(published: Published) -> Any:
    """Returns the fields of a PublishEventResponse: what a message that holds it takes as well, and need not copy."""
    return {
        "event_id": event_id_text(published.event_id),
        "delivery_count": published.delivery_count,
        "duplicate": published.duplicate,
        "create_time": times.time_fields(published.create_time),
    }


def _result_fields(fate: Answered | Refused) -> Any:
    """Returns the fields of a BatchPublishResult."""
    match fate:
        case Answered(published):
            return {"published": _published_fields(published)}
        case Refused(WebhookError() as error):
            return {"error": _error_message(error)}
        case Refused(error):
            raise error


def _error_message(error: WebhookError) -> service_pb2.BatchPublishError:
    return service_pb2.BatchPublishError(
        code=code_of(error),
        reason=error.reason,
        message=_RESULT_BOUNDS.message(error),
        field_violations=[
            service_pb2.FieldViolation(field=violation.field, description=violation.description)
            for violation in _RESULT_BOUNDS.violations(error)
        ],
    )
