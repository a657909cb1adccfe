"""Events: publish one, publish many, look at one, list them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import uuid_utils
from webhook.v1 import event_pb2, service_pb2

from ..domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    Overloaded,
    Violation,
    WebhookError,
    field_invalid,
)
from ..domain.ids import event_id_text
from ..domain.limits import TokenBucket
from ..domain.model import NewEvent, Published
from ..store import event_lists, history
from ..store.clock import DatabaseClock
from ..store.db import Database
from ..store.outbox import EventTypes
from ..store.pages import PageBounds
from ..store.publisher import Publisher
from . import convert
from .calls import Call, refuse_if
from .errors import code_of
from .filters import read_event_filter
from .paging import PAGE_BYTES_MAX, PageToken, fitting, page_size

BATCH_MAX: Final = 500
_READ_AT_ONCE: Final = 50
_BUCKETS_MAX: Final = 10_000


class EventMethods:
    """The calls that publish and read events."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        event_types: EventTypes,
        clock: DatabaseClock,
        rate_per_customer: float,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._event_types = event_types
        self._clock = clock
        self._rates = _CustomerRates(rate_per_customer)

    async def publish(self, request: service_pb2.PublishEventRequest, call: Call) -> service_pb2.PublishEventResponse:
        """Publishes one event; returns when it is committed."""
        event = self._read(request, 0, call)
        if await self._event_types.unknown({event.event_type}):
            raise event_type_unknown(event.event_type)
        self._rates.take(event.customer_id, 1)
        [answer] = await self._publisher.publish([event])
        if isinstance(answer, Exception):
            raise answer
        return _published_message(answer)

    async def publish_batch(
        self, request: service_pb2.BatchPublishEventsRequest, call: Call
    ) -> service_pb2.BatchPublishEventsResponse:
        """Publishes many events, each with a result of its own."""
        count = len(request.requests)
        if count > BATCH_MAX:
            raise field_invalid(
                "requests",
                f"must have at most {BATCH_MAX} entries, has {count}",
                "BATCH_TOO_LARGE",
                limit=str(BATCH_MAX),
            )
        violations = list[Violation]()
        if request.customer_id < 0:
            violations.append(Violation("customer_id", "must be positive"))
        if not count:
            violations.append(Violation("requests", "must have at least one entry"))
        refuse_if(violations)
        results: list[NewEvent | WebhookError] = []
        for index, item in enumerate(request.requests, 1):
            results.append(self._read_or_error(item, request.customer_id, call))
            if not index % _READ_AT_ONCE:
                await asyncio.sleep(0)  # a large batch must not keep everybody else from the loop
        await self._refuse_unknown_types(results)
        call.customer_id = request.customer_id or None
        good = [(index, result) for index, result in enumerate(results) if isinstance(result, NewEvent)]
        good = self._within_rates(good, results)
        answers = await self._publisher.publish([event for _, event in good]) if good else []
        final: list[Published | Exception] = [
            result if isinstance(result, Exception) else AssertionError("replaced below") for result in results
        ]
        for (index, _), answer in zip(good, answers, strict=True):
            final[index] = answer
        return service_pb2.BatchPublishEventsResponse(results=map(_result_message, final))

    async def get(self, request: service_pb2.GetEventRequest, call: Call) -> event_pb2.Event:
        """Returns one event."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        event_id = convert.read_event_id(request.event_id, "event_id", violations)
        refuse_if(violations)
        return convert.event_message(await history.get_event(self._database, customer_id, event_id))

    async def list(self, request: service_pb2.ListEventsRequest, call: Call) -> service_pb2.ListEventsResponse:
        """Lists events, newest first."""
        violations: list[Violation] = []
        size = page_size(request.page_size, violations)
        wanted = read_event_filter(request, call, violations)
        refuse_if(violations)
        token = PageToken(request, ">16s")
        key = token.read()
        before = _event_key(*key) if key else event_lists.FIRST
        page = await event_lists.list_events(self._database, wanted, before, PageBounds(size, PAGE_BYTES_MAX))
        events = fitting([convert.event_message(event) for event in page.items])
        after = page.key_after(len(events))
        return service_pb2.ListEventsResponse(events=events, next_page_token=token.after(after.bytes) if after else "")

    def _read(self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call) -> NewEvent:
        violations = list[Violation]()
        named = request.event.customer_id or default_customer_id
        customer_id = call.customer(named, "event.customer_id", violations)
        request_id = convert.read_request_id(request.request_id, violations)
        event_id = self._new_id()
        event = convert.read_event(request.event, customer_id, request_id, event_id, self._clock.now(), violations)
        refuse_if(violations)
        return event

    def _read_or_error(
        self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call
    ) -> NewEvent | WebhookError:
        try:
            return self._read(request, default_customer_id, call)
        except WebhookError as error:
            return error

    async def _refuse_unknown_types(self, results: list[NewEvent | WebhookError]) -> None:
        types = {result.event_type for result in results if isinstance(result, NewEvent)}
        unknown = await self._event_types.unknown(types)
        for index, result in enumerate(results):
            if isinstance(result, NewEvent) and result.event_type in unknown:
                results[index] = event_type_unknown(result.event_type)

    def _within_rates(
        self, good: Sequence[tuple[int, NewEvent]], results: list[NewEvent | WebhookError]
    ) -> list[tuple[int, NewEvent]]:
        within: list[tuple[int, NewEvent]] = []
        for index, event in good:
            try:
                self._rates.take(event.customer_id, 1)
                within.append((index, event))
            except Overloaded as error:
                results[index] = error
        return within

    def _new_id(self) -> UUID:
        """A UUIDv7 by the database's clock: the events table is partitioned by its time."""
        nanoseconds = int(self._clock.unix_seconds() * 1e9)
        return UUID(int=uuid_utils.uuid7(nanoseconds=nanoseconds).int)


class _CustomerRates:
    """A token bucket for each customer that published lately."""

    def __init__(self, rate_per_second: float) -> None:
        self._rate_per_second = rate_per_second
        self._buckets: dict[int, TokenBucket] = {}

    def take(self, customer_id: int, count: int) -> None:
        """Raises Overloaded if the customer publishes too fast."""
        if not self._rate_per_second:
            return
        now = time.monotonic()
        bucket = self._buckets.pop(customer_id, None) or TokenBucket.full(self._rate_per_second, now)
        self._buckets[customer_id] = bucket  # last used last
        if len(self._buckets) > _BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
        if wait_seconds := bucket.take(count, now):
            raise Overloaded(
                "RATE_LIMITED",
                f"customer {customer_id} publishes more than {self._rate_per_second:g} events a second; retry later",
                wait_seconds,
            )


def event_type_unknown(event_type: str) -> FailedPrecondition:
    """The error for a type that is not registered."""
    return FailedPrecondition(
        "EVENT_TYPE_UNKNOWN",
        f"event type `{event_type}` is not registered; docs/operations.md tells which are, and how to add one",
        f"event_type:{event_type}",
    )


def _event_key(event_id: int | bytes) -> UUID:
    assert isinstance(event_id, bytes)
    return UUID(bytes=event_id)


def _published_message(published: Published) -> service_pb2.PublishEventResponse:
    return service_pb2.PublishEventResponse(
        event_id=event_id_text(published.event_id),
        delivery_count=published.delivery_count,
        duplicate=published.duplicate,
        create_time=convert.timestamp(published.create_time),
    )


def _result_message(answer: Published | Exception) -> service_pb2.BatchPublishResult:
    match answer:
        case Published():
            return service_pb2.BatchPublishResult(published=_published_message(answer))
        case WebhookError():
            violations = answer.violations if isinstance(answer, InvalidArgument) else ()
            return service_pb2.BatchPublishResult(
                error=service_pb2.BatchPublishError(
                    code=code_of(answer).value[0],
                    reason=answer.reason,
                    message=answer.message,
                    field_violations=[
                        service_pb2.FieldViolation(field=v.field, description=v.description) for v in violations
                    ],
                )
            )
        case _:
            raise answer
