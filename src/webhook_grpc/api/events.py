"""Events: publish one, publish many, look at one, list them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import uuid_utils
from webhook.v1 import event_pb2, service_pb2

from webhook_grpc.api.messages import reading, times, writing
from webhook_grpc.api.messages.filters import read_event_filter
from webhook_grpc.api.messages.paging import PAGE_BYTES_MAX, PageToken, fitting, page_size
from webhook_grpc.domain.errors import InvalidArgument, Overloaded, Violation, WebhookError, field_invalid
from webhook_grpc.domain.ids import event_id_text
from webhook_grpc.domain.limits import TokenBucket
from webhook_grpc.domain.model import NewEvent, Published
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.hub.type_rules import EventTypes, TypeRules
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database
from webhook_grpc.store.lists import events as event_lists
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import lookup
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.registry.event_types import event_type_archived, event_type_unknown

from .call import Call, refuse_if
from .codes import code_of

BATCH_MAX: Final = 500
_READ_AT_ONCE: Final = 50
_BODY_BYTES_AT_ONCE: Final = 16 * 1024
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
        [answer] = await self._judged_by_type([event], [request])
        if isinstance(answer, NewEvent):
            self._rates.take(event.customer_id, 1)
            [answer] = await self._publisher.publish([answer])
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
        results: list[NewEvent | Published | Exception] = []
        for index, item in enumerate(request.requests, 1):
            results.append(self._read_or_error(item, request.customer_id, call))
            if not index % _READ_AT_ONCE:
                await asyncio.sleep(0)  # a large batch must not keep everybody else from the loop
        results = await self._judged_by_type(results, request.requests)
        call.customer_id = request.customer_id or None
        good = [(index, result) for index, result in enumerate(results) if isinstance(result, NewEvent)]
        good = self._within_rates(good, results)
        answers = await self._publisher.publish([event for _, event in good]) if good else []
        final = [AssertionError("replaced below") if isinstance(result, NewEvent) else result for result in results]
        for (index, _), answer in zip(good, answers, strict=True):
            final[index] = answer
        return service_pb2.BatchPublishEventsResponse(results=map(_result_message, final))

    async def get(self, request: service_pb2.GetEventRequest, call: Call) -> event_pb2.Event:
        """Returns one event."""
        violations = list[Violation]()
        customer_id = call.customer(request.customer_id, "customer_id", violations)
        event_id = reading.read_event_id(request.event_id, "event_id", violations)
        refuse_if(violations)
        return writing.event_message(await lookup.get_event(self._database, customer_id, event_id))

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
        events = fitting([writing.event_message(event) for event in page.items])
        after = page.key_after(len(events))
        return service_pb2.ListEventsResponse(events=events, next_page_token=token.after(after.bytes) if after else "")

    def _read(self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call) -> NewEvent:
        violations = list[Violation]()
        named = request.event.customer_id or default_customer_id
        customer_id = call.customer(named, "event.customer_id", violations)
        request_id = reading.read_request_id(request.request_id, violations)
        event_id = self._new_id()
        event = reading.read_event(request.event, customer_id, request_id, event_id, self._clock.now(), violations)
        refuse_if(violations)
        return event

    def _read_or_error(
        self, request: service_pb2.PublishEventRequest, default_customer_id: int, call: Call
    ) -> NewEvent | WebhookError:
        try:
            return self._read(request, default_customer_id, call)
        except WebhookError as error:
            return error

    async def _judged_by_type(
        self,
        results: Sequence[NewEvent | Published | Exception],
        requests: Sequence[service_pb2.PublishEventRequest],
    ) -> list[NewEvent | Published | Exception]:
        """Replaces events that their types refuse: by the error or, if they were published before, by that answer.

        What was acknowledged once stays so, even if its type was archived or has become stricter since.
        """
        judged = list(results)
        rules = await self._event_types.rules({event.event_type for event in results if isinstance(event, NewEvent)})
        are_checked = any(of_type.has_schema for of_type in rules.values())  # else this takes no time worth a turn
        refused: dict[int, NewEvent] = {}
        for index, (event, request) in enumerate(zip(results, requests, strict=True)):
            if not isinstance(event, NewEvent):
                continue
            error = _why_refused(event, request.event.WhichOneof("content") or "", rules)
            if error is not None:
                judged[index] = error
                if event.request_id is not None:
                    refused[index] = event
            if are_checked and (len(event.body) > _BODY_BYTES_AT_ONCE or not (index + 1) % _READ_AT_ONCE):
                await asyncio.sleep(0)  # a check of large data takes milliseconds: others get a turn
        if refused:
            before = await publishing.published_before(self._database, list(refused.values()))
            for index, answer in zip(refused, before, strict=True):
                judged[index] = answer or judged[index]
        return judged

    def _within_rates(
        self, good: Sequence[tuple[int, NewEvent]], results: list[NewEvent | Published | Exception]
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


def _why_refused(event: NewEvent, content: str, rules: Mapping[str, TypeRules]) -> WebhookError | None:
    """Whether the event's type refuses it. `content`: the field that its data came in."""
    of_type = rules.get(event.event_type)
    if of_type is None:
        return event_type_unknown(event.event_type)
    if of_type.archived:
        return event_type_archived(event.event_type)
    try:
        schema = of_type.schema
    except WebhookError as error:
        return error
    violations = schema.violations(event.data_json, f"event.{content}") if schema is not None else []
    if not violations:
        return None
    return InvalidArgument(violations, "DATA_SCHEMA_MISMATCH", {"event_type": event.event_type})


def _event_key(event_id: int | bytes) -> UUID:
    assert isinstance(event_id, bytes)
    return UUID(bytes=event_id)


def _published_message(published: Published) -> service_pb2.PublishEventResponse:
    return service_pb2.PublishEventResponse(
        event_id=event_id_text(published.event_id),
        delivery_count=published.delivery_count,
        duplicate=published.duplicate,
        create_time=times.timestamp(published.create_time),
    )


def _result_message(answer: Published | Exception) -> service_pb2.BatchPublishResult:
    match answer:
        case Published():
            return service_pb2.BatchPublishResult(published=_published_message(answer))
        case WebhookError():
            violations = answer.violations if isinstance(answer, InvalidArgument) else ()
            return service_pb2.BatchPublishResult(
                error=service_pb2.BatchPublishError(
                    code=code_of(answer),
                    reason=answer.reason,
                    message=answer.message,
                    field_violations=[
                        service_pb2.FieldViolation(field=v.field, description=v.description) for v in violations
                    ],
                )
            )
        case _:
            raise answer
