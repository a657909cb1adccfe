"""CreateReplay, GetReplay, ListReplays, CancelReplay: what is asked for, refused and shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2

from tests.api.asking import OTHER_CUSTOMER, full_replay, pages, refusal
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service
from webhook_grpc.api.deliveries import replays as api
from webhook_grpc.store.replays import selection

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
DAY = 86_400


@pytest.fixture(scope="module")
def shared_settings() -> Mapping[str, Any]:
    """Replays stay as they are made."""
    return {"replay_poll_seconds": 60.0, "replays_per_customer_max": 5}


async def create(service: Service, request_id: str = "", *, dry_run: bool = False, **fields: Any) -> replay_pb2.Replay:
    """A replay of the last day, of all webhooks."""
    values: dict[str, Any] = {"customer_id": CUSTOMER, "start_time": at(-DAY), **fields}
    request = service_pb2.CreateReplayRequest(
        replay=replay_pb2.Replay(**values), request_id=request_id, dry_run=dry_run
    )
    return await service.stub.CreateReplay(request)


def at(seconds_from_now: float) -> Timestamp:
    return Timestamp(seconds=int(time.time() + seconds_from_now))


async def test_a_replay_is_shown_as_it_was_asked_for(service: Service) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    wanted = full_replay(webhook.webhook_id)
    created = await service.stub.CreateReplay(service_pb2.CreateReplayRequest(replay=wanted))
    assert created.replay_id > 0
    assert created.status == replay_pb2.REPLAY_STATUS_RUNNING
    assert created.HasField("create_time")
    assert not created.HasField("finish_time")
    assert created.progress_time == created.start_time
    for field in api._CHOSEN:  # pyright: ignore[reportPrivateUsage]
        assert getattr(created, field) == getattr(wanted, field), field
    assert await service.replay(created.replay_id) == created


async def test_what_the_service_sets_is_ignored_when_it_is_sent(service: Service) -> None:
    sent: dict[str, Any] = {
        "replay_id": 2**60,
        "delivery_count": 7,
        "finish_time": at(0),
        "status": replay_pb2.REPLAY_STATUS_CANCELLED,
    }
    created = await create(service, "same", **sent)
    assert created.replay_id < 2**60
    assert (created.delivery_count, created.status) == (0, replay_pb2.REPLAY_STATUS_RUNNING)
    assert not created.HasField("finish_time")


async def test_what_is_left_out_has_its_default(service: Service) -> None:
    usual = await create(service)
    undelivered = await create(service, include_undelivered=True)
    assert [delivery_pb2.DeliveryStatus.Name(status) for status in usual.statuses] == [
        "DELIVERY_STATUS_FAILED",
        "DELIVERY_STATUS_CANCELLED",
        "DELIVERY_STATUS_EXPIRED",
    ]
    assert list(undelivered.statuses) == []
    assert abs(usual.end_time.ToMilliseconds() - usual.create_time.ToMilliseconds()) < 5000


async def test_a_window_that_reaches_into_the_future_ends_with_the_call(service: Service) -> None:
    created = await create(service, end_time=at(30 * DAY))
    assert created.end_time.ToNanoseconds() <= created.create_time.ToNanoseconds()
    assert created.end_time.seconds >= time.time() - 60


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"start_time": None}, ["replay.start_time"]),
    ({"start_time": at(DAY)}, ["replay.start_time"]),
    ({"start_time": at(-DAY), "end_time": at(-DAY)}, ["replay.start_time"]),
    ({"start_time": at(-32 * DAY)}, ["replay.start_time"]),
    ({"start_time": at(-40 * DAY), "end_time": at(-40 * DAY + 31 * DAY + 1)}, ["replay.start_time"]),
    ({"start_time": Timestamp(seconds=-1)}, ["replay.start_time"]),
    ({"end_time": Timestamp(seconds=-1)}, ["replay.end_time"]),
    ({"statuses": [delivery_pb2.DELIVERY_STATUS_PENDING]}, ["replay.statuses"]),
    ({"statuses": [delivery_pb2.DELIVERY_STATUS_UNSPECIFIED]}, ["replay.statuses"]),
    ({"statuses": [99]}, ["replay.statuses"]),
    ({"event_types": ["job.completed", "Job!"]}, ["replay.event_types[1]"]),
    ({"event_types": ["job.completed"] * 101}, ["replay.event_types"]),
    ({"webhook_ids": [1, 0, -5]}, ["replay.webhook_ids[1]", "replay.webhook_ids[2]"]),
    ({"webhook_ids": list(range(1, 102))}, ["replay.webhook_ids"]),
    ({"customer_id": 0}, ["replay.customer_id"]),
    (
        {"customer_id": -1, "webhook_ids": [0], "event_types": [""], "statuses": [1], "start_time": None},
        [
            "replay.customer_id",
            "replay.event_types[0]",
            "replay.start_time",
            "replay.statuses",
            "replay.webhook_ids[0]",
        ],
    ),
]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_everything_that_is_wrong_is_told_at_once(
    service: Service, postgres: TestPostgres, *, dry_run: bool
) -> None:
    for fields, paths in REFUSED:
        refused = await refusal(create(service, dry_run=dry_run, **fields))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, fields
        assert refused.reason == "FIELD_INVALID"
        assert refused.fields == paths, fields
    assert postgres.rows("SELECT count(*) FROM replays") == [(0,)]


async def test_a_window_of_31_days_is_served(service: Service) -> None:
    start = at(-40 * DAY)
    await create(service, start_time=start, end_time=Timestamp(seconds=start.seconds + 31 * DAY))


@pytest.mark.parametrize("dry_run", [False, True])
async def test_the_webhooks_must_be_the_customers_own_and_switched_on(
    service: Service, postgres: TestPostgres, *, dry_run: bool
) -> None:
    own, deleted, disabled = [await service.create_webhook("https://hooks.example.com/") for _ in range(3)]
    others = await service.create_webhook("https://hooks.example.com/", customer_id=OTHER_CUSTOMER)
    postgres.rows("UPDATE webhooks SET status = 'deleted' WHERE id = %s", [deleted.webhook_id])
    postgres.rows("UPDATE webhooks SET status = 'disabled' WHERE id = %s", [disabled.webhook_id])
    for webhook_id in (deleted.webhook_id, others.webhook_id, 2**62):
        refused = await refusal(create(service, webhook_ids=[own.webhook_id, webhook_id], dry_run=dry_run))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "WEBHOOK_NOT_FOUND"
        assert refused.details["ResourceInfo"].resource_name == str(webhook_id)
    refused = await refusal(create(service, webhook_ids=[own.webhook_id, disabled.webhook_id], dry_run=dry_run))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "WEBHOOK_STATUS"
    assert refused.details["PreconditionFailure"].violations[0].subject == f"webhook:{disabled.webhook_id}"
    assert await create(service, webhook_ids=[own.webhook_id], dry_run=dry_run)


# --- dry run ---------------------------------------------------------------------------------------------------------


async def test_a_dry_run_counts_what_a_replay_would_choose_and_stores_nothing(
    service: Service, postgres: TestPostgres
) -> None:
    await service.publish_many(7)
    await service.publish(event_type="job.failed")
    await service.create_webhook("https://hooks.example.com/", events=["job.completed"])
    counted = await create(service, "an id", dry_run=True, include_undelivered=True)
    assert counted.delivery_count == 7
    assert counted.progress_time == counted.end_time
    assert (counted.replay_id, counted.status) == (0, replay_pb2.REPLAY_STATUS_UNSPECIFIED)
    assert not counted.HasField("create_time")
    assert (await create(service, dry_run=True)).delivery_count == 0
    for table in ("replays", "commands"):
        assert postgres.rows(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608  # pyright: ignore[reportArgumentType]
    await create(service, "an id")


async def test_a_dry_run_whose_time_is_up_shows_how_far_it_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_grpc.store.replays.selection.PAIRS_MAX", 5)
    monkeypatch.setattr(api, "DRY_RUN_SECONDS_MAX", 0.0)
    await service.publish_many(20)
    await service.create_webhook("https://hooks.example.com/")
    counted = await create(service, dry_run=True, include_undelivered=True)
    assert counted.delivery_count == 5
    assert counted.progress_time.ToNanoseconds() < counted.end_time.ToNanoseconds()


# --- repeated, too many ----------------------------------------------------------------------------------------------


async def test_a_repeated_request_gives_the_first_replay_and_another_is_refused(
    service: Service, postgres: TestPostgres
) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    fields: dict[str, Any] = {"webhook_ids": [webhook.webhook_id], "start_time": at(-DAY)}
    first = await create(service, "again", **fields)
    assert await create(service, "again", **fields) == first
    refused = await refusal(create(service, "again", **fields, include_undelivered=True))
    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "REQUEST_ID_REUSED"
    postgres.rows("UPDATE webhooks SET status = 'deleted'")
    assert await create(service, "again", **fields) == first, "whatever has become of its webhook"
    assert postgres.rows("SELECT count(*) FROM replays") == [(1,)]


async def test_a_customer_has_only_so_many_running(service: Service) -> None:
    running = [await create(service, str(number), start_time=at(-60)) for number in range(5)]
    refused = await refusal(create(service))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "REPLAY_QUOTA"
    assert refused.details["QuotaFailure"].violations[0].subject == f"customer:{CUSTOMER}"
    await service.cancel_replay(running[0].replay_id)
    await create(service)


# --- look, list, cancel ----------------------------------------------------------------------------------------------


async def test_what_is_absent_or_anothers_is_not_found(service: Service) -> None:
    replay = await create(service)
    for replay_id, customer_id in ((replay.replay_id, OTHER_CUSTOMER), (replay.replay_id + 1, CUSTOMER)):
        for call in (service.replay, service.cancel_replay):
            refused = await refusal(call(replay_id, customer_id))
            assert refused.code is grpc.StatusCode.NOT_FOUND
            assert refused.reason == "REPLAY_NOT_FOUND"
    for call in (service.replay, service.cancel_replay):
        assert (await refusal(call(0, 0))).fields == ["customer_id", "replay_id"]
    assert (await service.replay(replay.replay_id)).status == replay_pb2.REPLAY_STATUS_RUNNING


async def test_only_a_running_replay_can_be_cancelled(service: Service) -> None:
    replay = await create(service)
    cancelled = await service.cancel_replay(replay.replay_id)
    assert cancelled.status == replay_pb2.REPLAY_STATUS_CANCELLED
    assert cancelled.HasField("finish_time")
    assert await service.replay(replay.replay_id) == cancelled
    refused = await refusal(service.cancel_replay(replay.replay_id))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "REPLAY_STATUS"
    assert refused.metadata["status"] == "cancelled"
    assert refused.details["PreconditionFailure"].violations[0].subject == f"replay:{replay.replay_id}"


async def test_replays_are_listed_newest_first_by_status(service: Service) -> None:
    made = [await create(service) for _ in range(5)]
    await create(service, customer_id=OTHER_CUSTOMER)
    await service.cancel_replay(made[1].replay_id)

    def page_of(**fields: Any) -> Any:
        request = service_pb2.ListReplaysRequest(customer_id=CUSTOMER, page_size=2, **fields)
        return service.stub.ListReplays(request)

    found = [
        replay.replay_id
        async for page in pages(lambda token: page_of(page_token=token), lambda response: response.replays)
        for replay in page
    ]
    assert found == [replay.replay_id for replay in reversed(made)]
    cancelled = await page_of(statuses=[replay_pb2.REPLAY_STATUS_CANCELLED])
    assert [replay.replay_id for replay in cancelled.replays] == [made[1].replay_id]
    everybodys = await service.stub.ListReplays(service_pb2.ListReplaysRequest())
    assert len(everybodys.replays) == 6
    first = await page_of()
    refused = await refusal(page_of(page_token=first.next_page_token, statuses=[replay_pb2.REPLAY_STATUS_RUNNING]))
    assert refused.reason == "PAGE_TOKEN_INVALID"
    assert (await refusal(page_of(statuses=[0]))).fields == ["statuses"]


async def test_dry_runs_leave_the_database_to_others(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may go through 31 days for ten seconds; with as many at once as there are calls nobody else gets through."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def count(*_: Any) -> selection.Count:
        begun.set()
        await end.wait()
        return selection.Count(7, None)

    monkeypatch.setattr(selection, "count", count)
    first = asyncio.create_task(create(service, dry_run=True))
    await begun.wait()

    refused = await refusal(create(service, dry_run=True))

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_DRY_RUNS")
    end.set()
    assert (await first).delivery_count == 7
    assert (await create(service, dry_run=True)).delivery_count == 7
