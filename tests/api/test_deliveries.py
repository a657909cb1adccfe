"""Deliveries over the wire: one, a list of them, the attempts of one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from webhook.v1 import delivery_pb2
from webhook.v1.service_pb2 import (
    GetDeliveryRequest,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ListDeliveryAttemptsRequest,
    PauseWebhookRequest,
)

from tests.api.asking import (
    ABSENT_DELIVERY_ID,
    ABSENT_EVENT_ID,
    INT64_MAX,
    OTHER_CUSTOMER,
    ask,
    furnish,
    pages,
    refusal,
    world_of,
)
from tests.support import slowness
from tests.support.receiver import Receiver, answer, answers
from tests.support.service import CUSTOMER, Service, ServiceFactory

pytestmark = pytest.mark.asyncio(loop_scope="module")

PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED
NEVER_AGAIN = (3600.0,)  # a retry schedule that leaves a delivery pending after its first attempt


def as_told(delivery: delivery_pb2.Delivery) -> delivery_pb2.Delivery:
    """The delivery without what the stream leaves out."""
    bare = delivery_pb2.Delivery()
    bare.CopyFrom(delivery)
    bare.last_attempt.ClearField("response_text")
    bare.last_attempt.ClearField("request_bytes")
    return bare


async def list_page(service: Service, **request: Any) -> ListDeliveriesResponse:
    values: dict[str, Any] = {"customer_id": CUSTOMER, **request}
    return await service.stub.ListDeliveries(ListDeliveriesRequest(**values))


async def list_ids(service: Service, **request: Any) -> list[str]:
    return [delivery.delivery_id for delivery in (await list_page(service, **request)).deliveries]


async def list_in_pages(service: Service, size: int, **request: Any) -> list[delivery_pb2.Delivery]:
    found: list[delivery_pb2.Delivery] = []
    async for page in pages(
        lambda token: list_page(service, page_size=size, page_token=token, **request),
        lambda response: response.deliveries,
    ):
        assert 0 < len(page) <= size
        found += page
    return found


async def attempts_of(service: Service, delivery_id: str) -> list[delivery_pb2.DeliveryAttempt]:
    response = await service.stub.ListDeliveryAttempts(
        ListDeliveryAttemptsRequest(customer_id=CUSTOMER, delivery_id=delivery_id)
    )
    return list(response.attempts)


# --- one -------------------------------------------------------------------------------------------------------------


async def test_a_delivery_before_its_first_attempt(service: Service) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    await service.pause_webhook(webhook.webhook_id)
    published = await service.publish(event_type="job.failed")
    delivery_id = world_of(webhook.webhook_id, published.event_id).delivery_id

    delivery = await service.delivery(delivery_id)

    assert delivery == delivery_pb2.Delivery(
        delivery_id=delivery_id,
        customer_id=CUSTOMER,
        webhook_id=webhook.webhook_id,
        event_id=published.event_id,
        event_type="job.failed",
        status=PENDING,
        attempt_count=0,
        next_attempt_time=published.create_time,
        create_time=published.create_time,
        update_time=published.create_time,
        trigger=delivery_pb2.ATTEMPT_TRIGGER_SCHEDULED,
    )
    assert not delivery.HasField("last_attempt")
    assert (await list_page(service)).deliveries == [delivery]
    assert await attempts_of(service, delivery_id) == []


async def test_a_delivery_between_two_attempts(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=NEVER_AGAIN)
    await service.create_webhook(receiver.on("/bad", answer(500, "no luck")))
    async with service.watching() as watch:
        published = await service.publish()
        [told] = await watch.until(lambda seen: len(seen) == 1)

    delivery = await service.delivery(told.delivery_id)

    assert as_told(delivery) == told
    assert delivery.status == PENDING
    assert delivery.attempt_count == 1
    assert delivery.create_time == published.create_time
    last = delivery.last_attempt
    assert last.attempt_number == 1
    assert last.outcome == delivery_pb2.ATTEMPT_OUTCOME_HTTP_ERROR
    assert last.response_status == 500
    assert last.response_body == b"no luck"
    assert last.response_text == "no luck"
    assert last.error_message
    assert last.trigger == delivery_pb2.ATTEMPT_TRIGGER_SCHEDULED
    assert last.HasField("latency")
    # the process carries the database's clock to within a round trip
    slack = timedelta(seconds=slowness.scaled(0.5))
    started_at = last.start_time.ToDatetime()
    assert published.create_time.ToDatetime() - slack <= started_at <= delivery.update_time.ToDatetime() + slack
    delay = (delivery.next_attempt_time.ToDatetime() - delivery.update_time.ToDatetime()).total_seconds()
    assert 0.8 * 3600 - 5 <= delay <= 1.2 * 3600 + 5
    assert (await list_page(service)).deliveries == [delivery]
    assert await attempts_of(service, delivery.delivery_id) == [last]


@pytest.mark.parametrize(
    ("statuses", "status", "attempt_count"),
    [((200,), SUCCEEDED, 1), ((500, 200), SUCCEEDED, 2), ((500,), FAILED, 3), ((410,), CANCELLED, 1)],
    ids=str,
)
async def test_a_delivery_after_its_end(
    services: ServiceFactory, receiver: Receiver, statuses: Sequence[int], status: int, attempt_count: int
) -> None:
    service = await services.start(retry_delays_seconds=(0.01, 0.01))
    await service.create_webhook(receiver.on("/hook", answers(*statuses)))
    async with service.watching() as watch:
        await service.publish()
        [told] = await watch.until_ended()

    delivery = await service.delivery(told.delivery_id)

    assert as_told(delivery) == told
    assert delivery.status == status
    assert delivery.attempt_count == attempt_count
    assert delivery.last_attempt.attempt_number == attempt_count
    assert delivery.last_attempt.response_status == statuses[-1]
    assert not delivery.HasField("next_attempt_time")
    assert delivery.update_time.ToDatetime() > delivery.create_time.ToDatetime()
    attempts = await attempts_of(service, delivery.delivery_id)
    assert [attempt.attempt_number for attempt in attempts] == list(range(attempt_count, 0, -1))
    assert attempts[0] == delivery.last_attempt


async def test_a_delivery_that_ended_without_an_attempt(service: Service) -> None:
    world = await furnish(service)
    async with service.watching() as watch:
        await service.delete_webhook(world.webhook_id)
        [told] = await watch.until_ended()

    delivery = await service.delivery(world.delivery_id)

    assert delivery == told
    assert delivery.status == CANCELLED
    assert delivery.attempt_count == 0
    assert not delivery.HasField("last_attempt")
    assert not delivery.HasField("next_attempt_time")
    assert await attempts_of(service, world.delivery_id) == []
    assert (await list_page(service, statuses=[CANCELLED])).deliveries == [delivery]


async def test_a_delivery_that_does_not_exist_or_is_somebody_elses_is_not_found(
    service: Service, receiver: Receiver
) -> None:
    world = await furnish(service)
    await service.create_webhook(receiver.url(), customer_id=OTHER_CUSTOMER)
    async with service.watching(customer_id=OTHER_CUSTOMER) as watch:
        await service.publish(customer_id=OTHER_CUSTOMER)
        [ended] = await watch.until_ended()
    rows = [
        (OTHER_CUSTOMER, world.delivery_id),
        (CUSTOMER, ended.delivery_id),
        (CUSTOMER, ABSENT_DELIVERY_ID),
        (CUSTOMER, world_of(world.webhook_id + 1, world.event_id).delivery_id),
        (CUSTOMER, world_of(ended.webhook_id, world.event_id).delivery_id),
        (CUSTOMER, world_of(world.webhook_id, ABSENT_EVENT_ID).delivery_id),
        (CUSTOMER, world_of(INT64_MAX, world.event_id).delivery_id),
        (INT64_MAX, world.delivery_id),
    ]

    for customer_id, delivery_id in rows:
        for request, method in (
            (GetDeliveryRequest(customer_id=customer_id, delivery_id=delivery_id), "GetDelivery"),
            (ListDeliveryAttemptsRequest(customer_id=customer_id, delivery_id=delivery_id), "ListDeliveryAttempts"),
        ):
            refused = await refusal(ask(service, method, request))
            assert refused.code is grpc.StatusCode.NOT_FOUND
            assert refused.reason == "DELIVERY_NOT_FOUND"
            assert refused.details["ResourceInfo"].resource_type == "delivery"
            assert refused.details["ResourceInfo"].resource_name == delivery_id


EVENT_PART = "01jzzzzzzzzzzzzzzzzzzzzzzz"
MALFORMED_IDS = [
    "",
    "1",
    EVENT_PART,
    f"evt_{EVENT_PART}",
    f"dlv_{EVENT_PART}",
    f"dlv_{EVENT_PART}_",
    f"dlv_{EVENT_PART}_0",
    f"dlv_{EVENT_PART}_01",
    f"dlv_{EVENT_PART}_-1",
    f"dlv_{EVENT_PART}_+1",
    f"dlv_{EVENT_PART}_{INT64_MAX + 1}",
    f"dlv_{EVENT_PART}_{'9' * 400}",
    f"dlv_{EVENT_PART}_1 ",
    f" dlv_{EVENT_PART}_1",
    f"dlv_{EVENT_PART}_1\n",
    f"dlv_{EVENT_PART}_1\0",
    f"dlv_{EVENT_PART}_\u0661",  # a digit of another script
    f"dlv_{EVENT_PART.upper()}_1",
    f"dlv_8{EVENT_PART[1:]}_1",  # more than 128 bits
    f"dlv_{EVENT_PART[:-1]}u_1",  # not in the alphabet
    f"dlv_{EVENT_PART[:-1]}_1",
    f"dlv_{EVENT_PART}z_1",
    "d" * 100_000,
]


async def test_a_malformed_delivery_id_is_refused(service: Service) -> None:
    for delivery_id in MALFORMED_IDS:
        for method, request in (
            ("GetDelivery", GetDeliveryRequest(customer_id=CUSTOMER, delivery_id=delivery_id)),
            ("ListDeliveryAttempts", ListDeliveryAttemptsRequest(customer_id=CUSTOMER, delivery_id=delivery_id)),
        ):
            if method == "ListDeliveryAttempts" and not delivery_id:
                continue  # of whatever delivery
            refused = await refusal(ask(service, method, request))
            assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, delivery_id
            assert refused.reason == "FIELD_INVALID"
            assert refused.fields == ["delivery_id"]


# --- many ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Deliveries of every kind: to a webhook that takes them, one that fails, one that is paused, one that retries."""

    good: int
    dead: int
    paused: int
    retrying: int
    event_ids: list[str]  # oldest first
    event_types: list[str]

    @property
    def webhook_ids(self) -> list[int]:
        """All four, oldest first."""
        return sorted((self.good, self.dead, self.paused, self.retrying))

    def ids(self, *webhook_ids: int) -> list[str]:
        """The ids of the deliveries to some webhooks in the order of a list: newest event first."""
        return [
            world_of(webhook_id, event_id).delivery_id
            for event_id in reversed(self.event_ids)
            for webhook_id in sorted(webhook_ids or self.webhook_ids, reverse=True)
        ]


async def set_scene(service: Service, receiver: Receiver, count: int = 6) -> Scene:
    """Publishes so many events for everybody, and waits until nothing changes any more."""
    one_hour = [3600.0]
    retrying = await service.create_webhook(
        receiver.on("/retrying", answer(500)), retry_policy={"delays": [_seconds(delay) for delay in one_hour]}
    )
    dead = await service.create_webhook(receiver.on("/dead", answer(500)))
    paused = await service.create_webhook("https://hooks.example.com/")
    await service.pause_webhook(paused.webhook_id)
    good = await service.create_webhook(receiver.url("/good"))
    types = ["job.completed", "job.failed", "alert.triggered"]
    event_types = [types[number % len(types)] for number in range(count)]
    async with service.watching() as watch:
        event_ids = [(await service.publish(event_type=event_type)).event_id for event_type in event_types]
        await watch.until_ended(2 * count)  # good and dead
        await watch.until(lambda seen: sum(d.webhook_id == retrying.webhook_id for d in seen) == count)
    return Scene(good.webhook_id, dead.webhook_id, paused.webhook_id, retrying.webhook_id, event_ids, event_types)


def _seconds(value: float) -> dict[str, int]:
    return {"seconds": int(value)}


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """Failing deliveries end after a moment."""
    return {"retry_delays_seconds": (0.01,)}


async def test_deliveries_are_listed_newest_event_first_as_get_shows_them(service: Service, receiver: Receiver) -> None:
    scene = await set_scene(service, receiver)

    response = await list_page(service)

    assert [delivery.delivery_id for delivery in response.deliveries] == scene.ids()
    assert response.next_page_token == ""
    for delivery in response.deliveries:
        assert await service.delivery(delivery.delivery_id) == delivery
    statuses = {delivery.webhook_id: delivery.status for delivery in response.deliveries}
    assert statuses == {scene.good: SUCCEEDED, scene.dead: FAILED, scene.paused: PENDING, scene.retrying: PENDING}


async def test_deliveries_are_filtered_by_webhook(service: Service, receiver: Receiver) -> None:
    scene = await set_scene(service, receiver)

    assert await list_ids(service, webhook_ids=[scene.good]) == scene.ids(scene.good)
    assert await list_ids(service, webhook_ids=[scene.paused, scene.dead]) == scene.ids(scene.paused, scene.dead)
    assert await list_ids(service, webhook_ids=[scene.good, INT64_MAX]) == scene.ids(scene.good)
    assert await list_ids(service, webhook_ids=[scene.good] * 100) == scene.ids(scene.good)
    assert await list_ids(service, webhook_ids=[INT64_MAX]) == []


async def test_deliveries_are_filtered_by_status(service: Service, receiver: Receiver) -> None:
    scene = await set_scene(service, receiver)

    assert await list_ids(service, statuses=[PENDING]) == scene.ids(scene.paused, scene.retrying)
    assert await list_ids(service, statuses=[SUCCEEDED]) == scene.ids(scene.good)
    assert await list_ids(service, statuses=[FAILED]) == scene.ids(scene.dead)
    assert await list_ids(service, statuses=[SUCCEEDED, FAILED]) == scene.ids(scene.good, scene.dead)
    assert await list_ids(service, statuses=[CANCELLED]) == []


@pytest.mark.parametrize(
    ("patterns", "matching"),
    [
        (["job.completed"], {"job.completed"}),
        (["job.*"], {"job.completed", "job.failed"}),
        (["job.failed", "alert.*"], {"job.failed", "alert.triggered"}),
        (["*"], {"job.completed", "job.failed", "alert.triggered"}),
        (["job"], set[str]()),
        (["job.completed.*"], set[str]()),
        (["never.seen"], set[str]()),
        (["jobscompleted"], set[str]()),
    ],
    ids=lambda value: str(sorted(value)),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
)
async def test_deliveries_are_filtered_by_patterns_of_the_event_type(
    service: Service, receiver: Receiver, patterns: list[str], matching: set[str]
) -> None:
    scene = await set_scene(service, receiver)
    type_of = dict(zip(scene.event_ids, scene.event_types, strict=True))

    found = (await list_page(service, event_types=patterns)).deliveries

    expected = [event_id for event_id in reversed(scene.event_ids) if type_of[event_id] in matching]
    assert [delivery.event_id for delivery in found] == [event_id for event_id in expected for _ in range(4)]
    assert {delivery.event_type for delivery in found} == matching


async def test_deliveries_are_filtered_by_event(service: Service, receiver: Receiver) -> None:
    scene = await set_scene(service, receiver)
    event_id = scene.event_ids[2]
    of_event = [delivery_id for delivery_id in scene.ids() if event_id.removeprefix("evt_") in delivery_id]

    assert await list_ids(service, event_id=event_id) == of_event
    assert len(of_event) == 4
    assert [d.delivery_id for d in await list_in_pages(service, 1, event_id=event_id)] == of_event
    assert await list_ids(service, event_id=event_id, customer_id=0) == of_event
    assert await list_ids(service, event_id=ABSENT_EVENT_ID) == []
    assert await list_ids(service, event_id=event_id, customer_id=OTHER_CUSTOMER) == []


async def test_all_filters_hold_together(service: Service, receiver: Receiver) -> None:
    scene = await set_scene(service, receiver)
    event_id = scene.event_ids[1]

    def filtered(**other: Any) -> Any:
        values: dict[str, Any] = {
            "webhook_ids": [scene.good, scene.paused],
            "event_types": ["job.*"],
            "statuses": [SUCCEEDED],
            "event_id": event_id,
        }
        return list_ids(service, **{**values, **other})

    assert await filtered() == [world_of(scene.good, event_id).delivery_id]
    assert await filtered(webhook_ids=[scene.paused]) == []
    assert await filtered(event_types=["alert.*"]) == []
    assert await filtered(statuses=[FAILED]) == []
    assert await filtered(event_id=scene.event_ids[2]) == []


@pytest.mark.parametrize("size", [1, 3, 5, 24, 1000])
async def test_the_pages_of_a_list_hold_every_delivery_once(service: Service, receiver: Receiver, size: int) -> None:
    scene = await set_scene(service, receiver)

    found = await list_in_pages(service, size)

    assert [delivery.delivery_id for delivery in found] == scene.ids()


@pytest.mark.parametrize("filters", [{"statuses": [PENDING]}, {"event_types": ["job.*"]}, {"statuses": [FAILED]}])
async def test_the_pages_of_a_filtered_list_hold_every_delivery_once(
    service: Service, receiver: Receiver, filters: dict[str, Any]
) -> None:
    await set_scene(service, receiver)

    whole = list((await list_page(service, page_size=1000, **filters)).deliveries)

    assert len(whole) >= 6
    assert await list_in_pages(service, 2, **filters) == whole


async def test_what_a_batch_made_at_one_moment_is_paged_without_gap_or_double(
    service: Service, receiver: Receiver
) -> None:
    """All events of a statement have the same create_time."""
    webhook = await service.create_webhook(receiver.url("/good"))
    paused = await service.create_webhook("https://hooks.example.com/")
    await service.pause_webhook(paused.webhook_id)
    async with service.watching() as watch:
        event_ids = await service.publish_many(40)
        await watch.until_ended(40)

    found = await list_in_pages(service, 7)

    assert len({delivery.create_time.ToNanoseconds() for delivery in found}) == 1
    assert [delivery.delivery_id for delivery in found] == [
        world_of(webhook_id, event_id).delivery_id
        for event_id in sorted(event_ids, reverse=True)
        for webhook_id in (paused.webhook_id, webhook.webhook_id)
    ]


async def test_what_happens_while_paging_makes_neither_gap_nor_double(service: Service, receiver: Receiver) -> None:
    """Between two pages the pending ones end, and new ones come."""
    scene = await set_scene(service, receiver)
    later = await service.create_webhook(receiver.url("/later"))
    await service.pause_webhook(later.webhook_id)
    held = [(await service.publish()).event_id for _ in range(6)]
    before = await list_ids(service, page_size=1000)
    first = await list_page(service, page_size=3)
    async with service.watching(webhook_ids=[later.webhook_id]) as watch:
        await service.resume_webhook(later.webhook_id)
        await watch.until_ended(len(held))
    await service.publish()

    found = [delivery.delivery_id for delivery in first.deliveries]
    token = first.next_page_token
    while token:
        page = await list_page(service, page_size=3, page_token=token)
        found += [delivery.delivery_id for delivery in page.deliveries]
        token = page.next_page_token

    assert len(before) == 6 * 4 + 6 * 5
    assert found == before
    assert set(scene.ids()) <= set(found)


async def test_a_page_holds_50_by_default_and_1000_at_the_most(service: Service) -> None:
    world = await furnish(service)
    await service.publish_many(500)
    await service.publish_many(500)

    assert len(await list_ids(service)) == 50
    assert len(await list_ids(service, page_size=2000)) == 1000
    page = await list_page(service, page_size=1000)
    rest = await list_page(service, page_size=1000, page_token=page.next_page_token)
    assert [delivery.delivery_id for delivery in rest.deliveries] == [world.delivery_id]
    assert rest.next_page_token == ""


async def test_a_page_of_long_answers_fits_what_clients_accept(service: Service, receiver: Receiver) -> None:
    """A gRPC client takes 4 MiB by default; 300 answers of 16 KiB are more."""
    await service.create_webhook(receiver.on("/long", answer(200, "x" * 16_384)), max_in_flight=100)
    async with service.watching() as watch:
        await service.publish_many(300)
        await watch.until_ended(300)

    found = await list_in_pages(service, 1000)

    assert len({delivery.delivery_id for delivery in found}) == 300
    assert len(found) == 300


async def test_a_page_token_serves_the_same_list_only(service: Service, receiver: Receiver) -> None:
    scene = await set_scene(service, receiver)
    token = (await list_page(service, page_size=1, statuses=[PENDING])).next_page_token

    assert len(await list_ids(service, page_size=4, statuses=[PENDING], page_token=token)) == 4
    for other in (
        {},
        {"statuses": [FAILED]},
        {"statuses": [PENDING], "webhook_ids": [scene.paused]},
        {"statuses": [PENDING], "event_types": ["*"]},
        {"statuses": [PENDING], "event_id": scene.event_ids[0]},
        {"statuses": [PENDING], "customer_id": 0},
        {"statuses": [PENDING], "customer_id": OTHER_CUSTOMER},
    ):
        refused = await refusal(list_page(service, page_token=token, **other))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "PAGE_TOKEN_INVALID"
        assert refused.fields == ["page_token"]


async def test_deliveries_of_another_customer_are_in_no_list(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url("/theirs"), customer_id=OTHER_CUSTOMER)
    theirs_paused = await service.create_webhook("https://hooks.example.com/", customer_id=OTHER_CUSTOMER)
    await service.stub.PauseWebhook(
        PauseWebhookRequest(customer_id=OTHER_CUSTOMER, webhook_id=theirs_paused.webhook_id)
    )
    async with service.watching(customer_id=0) as watch:
        theirs = await service.publish(customer_id=OTHER_CUSTOMER)
        await watch.until_ended()
    scene = await set_scene(service, receiver, count=2)

    assert await list_ids(service) == scene.ids()
    assert await list_ids(service, webhook_ids=[theirs_paused.webhook_id]) == []
    assert len(await list_ids(service, customer_id=OTHER_CUSTOMER)) == 2
    everybodys = await list_ids(service, customer_id=0)
    assert everybodys[: len(scene.ids())] == scene.ids()
    assert len(everybodys) == len(scene.ids()) + 2
    assert len(await list_ids(service, customer_id=0, event_id=theirs.event_id)) == 2


# --- attempts --------------------------------------------------------------------------------------------------------


async def test_the_pages_of_attempts_hold_every_attempt_once(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(0.01,) * 7)
    await service.create_webhook(receiver.on("/dead", answers(500, 501, 502, 503, 504, 505, 506, 507)))
    async with service.watching() as watch:
        await service.publish_many(2)
        first, _ = await watch.until_ended(2)

    for size in (1, 3, 8, 9):
        found = [
            page
            async for page in pages(
                lambda token, size=size: service.stub.ListDeliveryAttempts(
                    ListDeliveryAttemptsRequest(
                        customer_id=CUSTOMER, delivery_id=first.delivery_id, page_size=size, page_token=token
                    )
                ),
                lambda response: response.attempts,
            )
        ]
        attempts = [attempt for page in found for attempt in page]
        assert [attempt.attempt_number for attempt in attempts] == [8, 7, 6, 5, 4, 3, 2, 1], size
        assert all(len(page) == size for page in found[:-1])
        assert found[-1]
        attempts[0].ClearField("request_bytes")  # the stream leaves it out
        assert attempts[0] == first.last_attempt
    starts = [attempt.start_time.ToDatetime() for attempt in attempts]
    assert starts == sorted(starts, reverse=True)


async def test_a_token_of_attempts_serves_its_delivery_only(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(0.01,))
    await service.create_webhook(receiver.on("/dead", answer(500)))
    async with service.watching() as watch:
        await service.publish_many(2)
        first, second = await watch.until_ended(2)

    def attempts(delivery_id: str, token: str = "") -> Any:
        return service.stub.ListDeliveryAttempts(
            ListDeliveryAttemptsRequest(customer_id=CUSTOMER, delivery_id=delivery_id, page_size=1, page_token=token)
        )

    token = (await attempts(first.delivery_id)).next_page_token
    refused = await refusal(attempts(second.delivery_id, token))

    assert refused.reason == "PAGE_TOKEN_INVALID"
    assert [attempt.attempt_number for attempt in (await attempts(first.delivery_id, token)).attempts] == [1]


async def test_attempts_that_come_while_paging_make_neither_gap_nor_double(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=(0.01, 0.01, 0.2))
    await service.create_webhook(receiver.on("/dead", answer(500)))
    async with service.watching() as watch:
        await service.publish()
        seen = await watch.until(lambda deliveries: len(deliveries) == 3)
        delivery_id = seen[-1].delivery_id
        first = await service.stub.ListDeliveryAttempts(
            ListDeliveryAttemptsRequest(customer_id=CUSTOMER, delivery_id=delivery_id, page_size=2)
        )
        await watch.until_ended()

    second = await service.stub.ListDeliveryAttempts(
        ListDeliveryAttemptsRequest(
            customer_id=CUSTOMER, delivery_id=delivery_id, page_size=2, page_token=first.next_page_token
        )
    )

    numbers = [attempt.attempt_number for page in (first, second) for attempt in page.attempts]
    assert numbers == list(range(numbers[0], 0, -1))
    assert second.next_page_token == ""


async def test_many_may_read_at_once_while_deliveries_are_made(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        await service.publish_many(200)
        lists = await asyncio.gather(*(list_ids(service, page_size=1000) for _ in range(30)))
        await watch.until_ended(200)

    expected = await list_ids(service, page_size=1000)
    assert len(set(expected)) == 200
    assert all(found == expected for found in lists), "a delivery that ends is neither missed nor shown twice"
