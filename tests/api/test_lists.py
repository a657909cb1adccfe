"""ListEvents, ListDeliveryAttempts by filters, and windows of time, over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, LiteralString

import grpc
import pytest
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2
from webhook.v1.service_pb2 import (
    GetDeliveryRequest,
    GetEventRequest,
    ListDeliveriesRequest,
    ListDeliveryAttemptsRequest,
    ListDeliveryAttemptsResponse,
    ListEventsRequest,
    ListEventsResponse,
)

from tests.api.asking import ABSENT_DELIVERY_ID, ABSENT_EVENT_ID, OTHER_CUSTOMER, pages, refusal, world_of
from tests.support.postgres import TestPostgres
from tests.support.receiver import Received, Receiver, answers
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.ids import delivery_id_text, event_id_time, parse_event_id
from webhook_grpc.store.lists import pages as store_pages

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
HTTP_ERROR = delivery_pb2.ATTEMPT_OUTCOME_HTTP_ERROR
OK = delivery_pb2.ATTEMPT_OUTCOME_SUCCEEDED
NEWEST: LiteralString = "SELECT event_id, attempt_count FROM attempts WHERE webhook_id = %s ORDER BY seq DESC"


def moved(moment: Timestamp, **by: float) -> Timestamp:
    """A time, moved."""
    later = Timestamp()
    later.FromDatetime(moment.ToDatetime() + timedelta(**by))
    return later


async def events_page(service: Service, **request: Any) -> ListEventsResponse:
    values: dict[str, Any] = {"customer_id": CUSTOMER, **request}
    return await service.stub.ListEvents(ListEventsRequest(**values))


async def event_ids(service: Service, **request: Any) -> list[str]:
    return [event.event_id for event in (await events_page(service, **request)).events]


async def attempts_page(service: Service, **request: Any) -> ListDeliveryAttemptsResponse:
    values: dict[str, Any] = {"customer_id": CUSTOMER, **request}
    return await service.stub.ListDeliveryAttempts(ListDeliveryAttemptsRequest(**values))


async def attempts(service: Service, **request: Any) -> list[delivery_pb2.DeliveryAttempt]:
    return list((await attempts_page(service, **request)).attempts)


async def deliveries(service: Service, **request: Any) -> list[str]:
    values: dict[str, Any] = {"customer_id": CUSTOMER, **request}
    response = await service.stub.ListDeliveries(ListDeliveriesRequest(**values))
    return [delivery.delivery_id for delivery in response.deliveries]


# --- events ----------------------------------------------------------------------------------------------------------


async def test_events_are_listed_newest_first_as_get_shows_them(service: Service) -> None:
    published = [
        (await service.publish(f'{{"n":{number}}}', event_type=event_type)).event_id
        for number, event_type in enumerate(["job.completed", "job.failed", "alert.triggered"] * 2)
    ]
    theirs = (await service.publish(customer_id=OTHER_CUSTOMER)).event_id

    found = list((await events_page(service)).events)

    assert [event.event_id for event in found] == published[::-1]
    for event in found:
        assert await service.stub.GetEvent(_get_event(event.event_id)) == event
    assert await event_ids(service, event_types=["job.*"]) == [published[n] for n in (4, 3, 1, 0)]
    assert await event_ids(service, event_types=["never.seen"]) == []
    assert await event_ids(service, customer_id=OTHER_CUSTOMER) == [theirs]
    assert await event_ids(service, customer_id=0) == [theirs, *published[::-1]]


def _get_event(event_id: str) -> Any:
    return GetEventRequest(customer_id=CUSTOMER, event_id=event_id)


@pytest.mark.parametrize("size", [1, 7, 40])
async def test_the_pages_of_events_hold_every_event_once(service: Service, size: int) -> None:
    published = await service.publish_many(20)
    published += await service.publish_many(20)

    found = [
        event.event_id
        async for page in pages(
            lambda token: events_page(service, page_size=size, page_token=token), lambda response: response.events
        )
        for event in page
    ]

    assert found == sorted(published, reverse=True)


async def test_a_page_of_large_events_fits_what_clients_accept(service: Service) -> None:
    """A gRPC client takes 4 MiB by default; thirty events of 250 KiB are more."""
    data_json = '"' + "x" * 250_000 + '"'
    published = [(await service.publish(data_json)).event_id for _ in range(30)]

    sizes: list[int] = []
    found: list[str] = []
    async for page in pages(
        lambda token: events_page(service, page_size=1000, page_token=token), lambda response: response.events
    ):
        sizes.append(len(page))
        found += [event.event_id for event in page]

    assert found == published[::-1]
    assert max(sizes) <= 8
    assert len(sizes) >= 4


async def test_events_are_listed_by_the_time_at_which_they_were_stored(service: Service) -> None:
    published = [await service.publish() for _ in range(4)]
    ids = [event.event_id for event in published]
    second, third = published[1].create_time, published[2].create_time

    assert await event_ids(service, start_time=second) == ids[:0:-1]
    assert await event_ids(service, end_time=third) == ids[1::-1]
    assert await event_ids(service, start_time=second, end_time=third) == [ids[1]]
    assert await event_ids(service, start_time=moved(second, microseconds=1), end_time=third) == []
    assert await event_ids(service, start_time=moved(second, days=1)) == []
    assert await event_ids(service, end_time=moved(second, days=-1)) == []
    assert await event_ids(service, start_time=Timestamp(), end_time=moved(second, days=900)) == ids[::-1]


# --- deliveries ------------------------------------------------------------------------------------------------------


async def test_deliveries_are_listed_by_the_time_of_their_event(service: Service, receiver: Receiver) -> None:
    paused = await service.create_webhook("https://hooks.example.com/")
    await _pause(service, paused.webhook_id)
    good = await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        published = [await service.publish() for _ in range(4)]
        await watch.until_ended(4)

    def of(*numbers: int) -> list[str]:
        return [
            world_of(webhook_id, published[n].event_id).delivery_id
            for n in numbers
            for webhook_id in (good.webhook_id, paused.webhook_id)
        ]

    second, third = published[1].create_time, published[2].create_time
    assert await deliveries(service, start_time=second) == of(3, 2, 1)
    assert await deliveries(service, end_time=third) == of(1, 0)
    assert await deliveries(service, start_time=second, end_time=third) == of(1)
    assert await deliveries(service, start_time=second, end_time=third, statuses=[PENDING]) == [of(1)[1]]
    assert await deliveries(service, start_time=second, event_id=published[0].event_id) == []
    assert await deliveries(service, start_time=moved(second, days=1)) == []
    assert await deliveries(service, customer_id=0, end_time=moved(second, days=1)) == of(3, 2, 1, 0)


async def _pause(service: Service, webhook_id: int) -> None:
    await service.pause_webhook(webhook_id)


async def test_a_list_that_fits_few_says_where_it_goes_on(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pages, "ROWS_READ_MAX", 20)
    monkeypatch.setattr(store_pages, "STEP_ROWS_MAX", 10)
    service = await services.start()
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        rare = (await service.publish(event_type="quota.exceeded")).event_id
        await service.publish_many(100)
        last = max(delivery.update_time.ToDatetime(UTC) for delivery in await watch.until_ended(101))
    event_id = parse_event_id(rare)
    assert event_id
    for method, request_type, items in (
        ("ListDeliveries", ListDeliveriesRequest, "deliveries"),
        ("ListDeliveryAttempts", ListDeliveryAttemptsRequest, "attempts"),
        ("ListEvents", ListEventsRequest, "events"),
    ):
        responses = list[Any]()

        async def ask(token: str, m: str = method, t: Any = request_type, r: list[Any] = responses) -> Any:
            request = t(customer_id=CUSTOMER, page_size=5, page_token=token, event_types=["quota.*"])
            r.append(await getattr(service.stub, m)(request))
            return r[-1]

        found: list[list[Any]] = [page async for page in pages(ask, lambda response, i=items: getattr(response, i))]
        assert [item.event_id for page in found for item in page] == [rare]
        assert sum(not page for page in found) >= 3, method
        reached = [response.progress_time.ToDatetime(UTC) for response in responses[:-1]]
        assert reached == sorted(reached, reverse=True), method
        assert event_id_time(event_id) <= reached[-1] <= reached[0] <= last, method
        assert not responses[-1].HasField("progress_time"), "the last page has looked at everything"


# --- attempts --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """Failing deliveries end after a moment."""
    return {"retry_delays_seconds": (0.01,)}


async def _attempted(service: Service, receiver: Receiver) -> tuple[int, int, Sequence[str]]:
    """Three events to a webhook that takes them and to one that fails twice. Returns the webhooks and the events."""
    good = await service.create_webhook(receiver.url("/good"))
    dead = await service.create_webhook(receiver.on("/dead", answers(500)))
    async with service.watching() as watch:
        ids = [
            (await service.publish('{"n":1}', event_type=event_type)).event_id
            for event_type in ("job.completed", "job.failed", "alert.triggered")
        ]
        await watch.until_ended(6)
    return good.webhook_id, dead.webhook_id, ids


async def test_attempts_are_listed_newest_first_by_every_filter(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    good, dead, ids = await _attempted(service, receiver)

    found = await attempts(service)

    assert len(found) == 9
    listed = [(attempt.delivery_id, attempt.attempt_number) for attempt in await attempts(service, webhook_ids=[dead])]
    newest = postgres.rows(NEWEST, [dead])  # as they ended: what started first may end last
    assert listed == [(delivery_id_text(event_id, dead), number) for event_id, number in newest]

    async def count(**request: Any) -> int:
        return len(await attempts(service, **request))

    assert await count(webhook_ids=[good]) == 3
    assert await count(webhook_ids=[good, dead]) == 9
    assert await count(outcomes=[HTTP_ERROR]) == 6
    assert await count(outcomes=[HTTP_ERROR, OK]) == 9
    assert await count(outcomes=[delivery_pb2.ATTEMPT_OUTCOME_TIMEOUT]) == 0
    assert await count(statuses=[FAILED]) == 3
    assert await count(statuses=[PENDING]) == 3
    assert await count(statuses=[SUCCEEDED], outcomes=[HTTP_ERROR]) == 0
    assert await count(event_types=["job.*"]) == 6
    assert await count(event_id=ids[0]) == 3
    assert await count(event_id=ids[0], webhook_ids=[dead], statuses=[FAILED]) == 1
    assert await count(event_id=ABSENT_EVENT_ID) == 0
    assert await count(customer_id=OTHER_CUSTOMER) == 0
    assert await count(customer_id=OTHER_CUSTOMER, event_id=ids[0]) == 0
    assert await count(customer_id=0) == 9
    paged = [
        attempt
        async for page in pages(
            lambda token: attempts_page(service, page_size=2, page_token=token), lambda response: response.attempts
        )
        for attempt in page
    ]
    assert paged == found


async def test_an_attempt_shows_what_was_sent_and_what_came_back(service: Service, receiver: Receiver) -> None:
    async def odd(_: Received) -> web.StreamResponse:
        headers = {"Retry-After": "7", "Set-Cookie": "a=b"}
        return web.Response(status=500, body=b"no\xff\x00luck", headers=headers)

    url = receiver.on("/odd", odd)
    webhook = await service.create_webhook(url, headers={"Authorization": "Bearer geheim"})
    async with service.watching() as watch:
        published = await service.publish('{"n":1}')
        await watch.until_ended()

    last, first = await attempts(service)

    event = await service.stub.GetEvent(_get_event(published.event_id))
    assert last.request_bytes == len(receiver.requests[-1].body) > len(event.data_json)
    assert last.request_headers["Authorization"] == last.request_headers["webhook-signature"] == "…"
    assert "geheim" not in str(last)
    assert last.request_headers["webhook-id"] == published.event_id
    assert last.response_body == b"no\xff\x00luck"
    assert last.response_text == "no\\xff\\x00luck"
    assert last.response_headers["retry-after"] == "7"
    assert "set-cookie" not in last.response_headers
    assert (last.webhook_id, last.event_id) == (webhook.webhook_id, published.event_id)
    assert last.delivery_id == world_of(webhook.webhook_id, published.event_id).delivery_id
    assert (last.delivery_status, first.delivery_status) == (FAILED, PENDING)
    assert first.HasField("next_attempt_time")
    assert not last.HasField("next_attempt_time")


async def test_attempts_are_listed_by_the_time_of_their_end(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    ids: list[str] = []
    ends: list[Timestamp] = []
    async with service.watching() as watch:
        for number in range(1, 4):  # one after the other
            ids.append((await service.publish()).event_id)
            ends.append((await watch.until_ended(number))[-1].update_time)

    async def found(**request: Any) -> list[str]:
        return [attempt.event_id for attempt in await attempts(service, **request)]

    assert await found(start_time=ends[1]) == [ids[2], ids[1]]
    assert await found(end_time=ends[1]) == [ids[0]]
    assert await found(start_time=ends[1], end_time=moved(ends[1], microseconds=1)) == [ids[1]]
    assert await found(start_time=moved(ends[2], days=1)) == []


async def test_the_other_filters_hold_for_the_attempts_of_one_delivery_too(
    service: Service, receiver: Receiver
) -> None:
    good, dead, ids = await _attempted(service, receiver)
    delivery_id = world_of(dead, ids[0]).delivery_id

    async def numbers(**request: Any) -> list[int]:
        return [attempt.attempt_number for attempt in await attempts(service, delivery_id=delivery_id, **request)]

    assert await numbers() == [2, 1]
    assert await numbers(statuses=[FAILED]) == [2]
    assert await numbers(webhook_ids=[dead, good], event_id=ids[0]) == [2, 1]
    assert await numbers(webhook_ids=[good]) == []
    assert await numbers(event_id=ids[1]) == []
    assert await numbers(outcomes=[OK]) == []
    assert await numbers(customer_id=0) == [2, 1]
    refused = await refusal(attempts_page(service, delivery_id=ABSENT_DELIVERY_ID, outcomes=[OK]))
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_the_history_outlives_the_event(service: Service, receiver: Receiver, postgres: TestPostgres) -> None:
    good, dead, ids = await _attempted(service, receiver)
    before = await deliveries(service)
    postgres.rows("DELETE FROM events")

    assert await deliveries(service) == before
    for webhook_id, count in ((good, 1), (dead, 2)):
        delivery_id = world_of(webhook_id, ids[0]).delivery_id
        request = GetDeliveryRequest(customer_id=CUSTOMER, delivery_id=delivery_id)
        delivery = await service.stub.GetDelivery(request)
        assert delivery.attempt_count == count
        assert delivery.last_attempt.request_bytes == 0
        assert len(await attempts(service, delivery_id=delivery_id)) == count
    assert len(await attempts(service, event_id=ids[0])) == 3
    assert len(await deliveries(service, event_id=ids[0])) == 2
