"""GetWebhookStats: the numbers of what the engine did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2
from webhook.v1.service_pb2 import GetWebhookStatsRequest, GetWebhookStatsResponse

from tests.api.asking import NOBODY_LISTENS, OTHER_CUSTOMER, refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver, answer, answers
from tests.support.service import CUSTOMER, Service, ServiceFactory

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY_SECONDS = 86_400
HOUR = 3600.0
MAX_SECONDS = 253_370_764_799
LEFT_ALONE = {"breaker_failures": 2, "breaker_probe_seconds_min": HOUR, "breaker_probe_seconds_max": HOUR}
SUCCEEDED = delivery_pb2.ATTEMPT_OUTCOME_SUCCEEDED
HTTP_ERROR = delivery_pb2.ATTEMPT_OUTCOME_HTTP_ERROR


async def stats(service: Service, webhook: webhook_pb2.Webhook, **request: Any) -> GetWebhookStatsResponse:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "webhook_id": webhook.webhook_id, **request}
    return await service.stub.GetWebhookStats(GetWebhookStatsRequest(**values))


async def stats_once(
    service: Service, webhook: webhook_pb2.Webhook, enough: Callable[[GetWebhookStatsResponse], bool]
) -> GetWebhookStatsResponse:
    """The numbers once they are that: health is saved a second behind."""
    async with slowness.timeout(20):
        while not enough(seen := await stats(service, webhook)):
            await asyncio.sleep(0.02)
    return seen


def one_webhook(webhook: webhook_pb2.Webhook) -> dict[str, Any]:
    return {"customer_id": webhook.customer_id, "webhook_id": webhook.webhook_id}


def outcomes(found: GetWebhookStatsResponse) -> dict[int, int]:
    return {item.outcome: item.count for item in found.outcomes}


def endings(found: GetWebhookStatsResponse) -> dict[int, int]:
    return {item.status: item.count for item in found.endings}


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


async def test_attempts_are_counted_by_outcome_and_deliveries_by_ending(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=(0.1, 0.1))
    webhook = await service.create_webhook(receiver.on("/flaky", answers(500, 500, 200)), max_in_flight=1)
    other = await service.create_webhook(receiver.url(), events=["alert.*"])
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended(1)
        await service.publish()
        await watch.until_ended(2)
    await service.stub.TestWebhook(service_pb2.TestWebhookRequest(**one_webhook(webhook)))

    found = await stats(service, webhook)

    assert found.attempt_count == 4
    assert outcomes(found) == {SUCCEEDED: 2, HTTP_ERROR: 2}
    assert found.success_rate == 0.5
    assert endings(found) == {delivery_pb2.DELIVERY_STATUS_SUCCEEDED: 2}
    percentiles = [found.latency_p50, found.latency_p95, found.latency_p99]
    latencies = [latency.ToTimedelta().total_seconds() for latency in percentiles]
    assert latencies == sorted(latencies)
    assert 0 <= latencies[-1] < 20
    assert not found.truncated
    assert (found.pending_count, found.due_count) == (0, 0)
    assert not found.HasField("oldest_due_age")
    assert (await stats(service, other)).attempt_count == 0


async def test_a_webhook_to_which_nothing_was_sent_has_no_rates(service: Service, receiver: Receiver) -> None:
    found = await stats(service, await service.create_webhook(receiver.url()))
    assert (found.attempt_count, found.success_rate) == (0, 0)
    assert (outcomes(found), endings(found)) == ({}, {})
    set_fields = {field.name for field, _ in found.ListFields()}
    assert set_fields == {"start_time", "end_time", "breaker_state"}
    assert found.breaker_state == service_pb2.BREAKER_STATE_CLOSED


async def test_what_was_not_answered_has_an_outcome_and_no_latency(services: ServiceFactory) -> None:
    service = await services.start(retry_delays_seconds=(HOUR,))
    webhook = await service.create_webhook(NOBODY_LISTENS)
    await service.publish()
    found = await stats_once(service, webhook, lambda seen: seen.attempt_count > 0 and seen.due_count == 0)
    assert outcomes(found) == {delivery_pb2.ATTEMPT_OUTCOME_CONNECTION_ERROR: 1}
    assert not found.HasField("latency_p50")
    assert endings(found) == {}, "it is pending"
    assert found.pending_count == 1


async def test_the_backlog_of_a_paused_webhook_is_counted(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    await service.stub.PauseWebhook(service_pb2.PauseWebhookRequest(**one_webhook(webhook)))
    await service.publish_many(3)
    first = await stats(service, webhook)
    second = await stats(service, webhook)
    assert (first.pending_count, first.due_count) == (3, 3)
    assert first.HasField("oldest_due_age")
    ages = [found.oldest_due_age.ToTimedelta() for found in (first, second)]
    assert ages[0] < ages[1]


# --- how the receiver is treated -------------------------------------------------------------------------------------


async def test_a_breaker_that_is_open_is_told_with_its_probe_until_the_owner_says_otherwise(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(**LEFT_ALONE)
    webhook = await service.create_webhook(receiver.on("/down", answer(500)), max_in_flight=1)
    await service.publish_many(5)
    opened = service_pb2.BREAKER_STATE_OPEN
    found = await stats_once(service, webhook, lambda seen: seen.breaker_state == opened)
    ahead = found.breaker_probe_time.ToDatetime() - found.end_time.ToDatetime()
    assert 0.7 * HOUR <= ahead.total_seconds() <= 1.2 * HOUR
    assert found.HasField("failing_since_time")
    assert not found.HasField("hold_until_time")
    postgres.rows("UPDATE webhook_health SET probe_at = now() - interval '1 min'")
    found = await stats(service, webhook)
    assert found.breaker_state == opened
    assert found.breaker_probe_time.ToDatetime() < found.end_time.ToDatetime()
    postgres.rows("UPDATE webhook_health SET breaker = 'half_open'")
    found = await stats(service, webhook)
    assert found.breaker_state == service_pb2.BREAKER_STATE_HALF_OPEN
    assert not found.HasField("breaker_probe_time")


async def test_what_retry_after_asked_for_is_told_until_it_is_over(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(retry_delays_seconds=(HOUR,))
    webhook = await service.create_webhook(receiver.on("/busy", answer(429, Retry_After="1800")))
    await service.publish()
    found = await stats_once(service, webhook, lambda seen: seen.HasField("hold_until_time"))
    ahead = found.hold_until_time.ToDatetime() - found.end_time.ToDatetime()
    assert 1800 - 30 <= ahead.total_seconds() <= 1800
    assert found.breaker_state == service_pb2.BREAKER_STATE_CLOSED
    assert not found.HasField("failing_since_time"), "it was reached, and is not failing"
    postgres.rows("UPDATE webhook_health SET hold_until = now()")
    assert not (await stats(service, webhook)).HasField("hold_until_time")


# --- the window ------------------------------------------------------------------------------------------------------


async def test_the_window_is_the_last_day_if_none_is_asked_for(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended(1)
    found = await stats(service, webhook)
    start, end = found.start_time.seconds, found.end_time.seconds
    assert end - start == DAY_SECONDS
    assert found.attempt_count == 1

    windows: list[tuple[dict[str, Any], int, int, int]] = [
        ({"end_time": at(end - 60)}, end - 60 - DAY_SECONDS, end - 60, 0),
        ({"start_time": at(end - 60), "end_time": at(end + 60)}, end - 60, end + 60, 1),
        ({"end_time": at(end + 31 * DAY_SECONDS)}, end + 30 * DAY_SECONDS, end + 31 * DAY_SECONDS, 0),
        ({"start_time": at(end), "end_time": at(end + 31 * DAY_SECONDS)}, end, end + 31 * DAY_SECONDS, 1),
        ({"end_time": at(0)}, -DAY_SECONDS, 0, 0),
        ({"end_time": at(MAX_SECONDS)}, MAX_SECONDS - DAY_SECONDS, MAX_SECONDS, 0),
    ]
    for request, expected_start, expected_end, count in windows:
        found = await stats(service, webhook, **request)
        assert (found.start_time.seconds, found.end_time.seconds) == (expected_start, expected_end), request
        if expected_start != end:  # the attempt may have ended just before that second
            assert found.attempt_count == count, request

    found = await stats(service, webhook, start_time=at(end - 60))
    assert found.start_time == at(end - 60)
    assert found.end_time.seconds >= end
    assert found.attempt_count == 1


async def test_a_window_is_counted_in_bins_for_a_chart(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended(1)
    whole = await stats(service, webhook)
    end = whole.end_time.seconds + 60
    found = await stats(service, webhook, start_time=at(end - 3600), end_time=at(end), bin_width=Duration(seconds=1000))
    assert [one.start_time.seconds - (end - 3600) for one in found.bins] == [0, 1000, 2000, 3000]
    assert [sum(item.count for item in one.outcomes) for one in found.bins] == [0, 0, 0, 1]
    assert found.bins[3].latency_p50 == found.latency_p50
    assert not found.bins[0].HasField("latency_p50")
    assert len((await stats(service, webhook, bin_width=Duration(seconds=3600))).bins) == 24
    assert not whole.bins


NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        ({"start_time": at(NOW), "end_time": at(NOW)}, ["start_time"]),
        ({"start_time": at(NOW), "end_time": at(NOW - 1)}, ["start_time"]),
        ({"start_time": at(NOW), "end_time": at(NOW + 31 * DAY_SECONDS + 1)}, ["start_time"]),
        ({"start_time": at(NOW)}, ["start_time"]),  # long ago
        ({"start_time": at(MAX_SECONDS)}, ["start_time"]),  # in the future
        ({"start_time": at(-1)}, ["start_time"]),
        ({"bin_width": Duration(nanos=999_999_999)}, ["bin_width"]),
        ({"bin_width": Duration(seconds=32 * DAY_SECONDS)}, ["bin_width"]),
        ({"bin_width": Duration(seconds=1, nanos=-1)}, ["bin_width"]),
        ({"bin_width": Duration(seconds=431)}, ["bin_width"]),  # 201 bins of a day
        ({"start_time": at(NOW), "end_time": at(NOW + 1000), "bin_width": Duration(seconds=4)}, ["bin_width"]),
        ({"end_time": at(MAX_SECONDS + 1)}, ["end_time"]),
        ({"start_time": at(-1), "end_time": Timestamp(nanos=-1)}, ["end_time", "start_time"]),
        (
            {"customer_id": -1, "webhook_id": 0, "start_time": at(NOW), "end_time": at(NOW - 1)},
            ["customer_id", "start_time", "webhook_id"],
        ),
    ],
)
async def test_all_that_is_wrong_is_told_at_once(service: Service, request_: dict[str, Any], fields: list[str]) -> None:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "webhook_id": 1, **request_}
    refused = await refusal(service.stub.GetWebhookStats(GetWebhookStatsRequest(**values)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_INVALID"
    assert refused.fields == fields


async def test_a_webhook_that_is_not_there_or_another_customers_has_no_numbers(
    service: Service, receiver: Receiver
) -> None:
    deleted = await service.create_webhook(receiver.url())
    await service.stub.DeleteWebhook(service_pb2.DeleteWebhookRequest(**one_webhook(deleted)))
    theirs = await service.create_webhook(receiver.url(), customer_id=OTHER_CUSTOMER)
    for webhook in (deleted, theirs, webhook_pb2.Webhook(webhook_id=2**62)):
        refused = await refusal(stats(service, webhook))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "WEBHOOK_NOT_FOUND"
