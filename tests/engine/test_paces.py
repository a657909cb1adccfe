"""What the engine makes of a receiver's answers: breaker, throttle, limits, switching off and on again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import pytest
from aiohttp import web
from webhook.v1 import delivery_pb2, webhook_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Received, Receiver, answer, answers
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import AttemptResult, Webhook
from webhook_grpc.domain.pace import Pace
from webhook_grpc.engine.http.resolver import ResolverDown
from webhook_grpc.engine.http.sender import Request, Sender
from webhook_grpc.engine.receivers import paces
from webhook_grpc.engine.receivers import webhooks as webhook_cache
from webhook_grpc.store.db import Queries
from webhook_grpc.store.registry import webhooks

CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED


def pace_of(service: Service, webhook: webhook_pb2.Webhook) -> Pace:
    found = service.app.engine.receivers.get(webhook.webhook_id)
    assert found is not None
    return found.pace


def breaker_is(service: Service, webhook: webhook_pb2.Webhook, state: BreakerState) -> bool:
    found = service.app.engine.receivers.get(webhook.webhook_id)
    return found is not None and found.pace.breaker.state is state


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Looks again and again: for states that give no signal."""
    async with slowness.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


# --- breaker ---------------------------------------------------------------------------------------------------------


@pytest.mark.symptom("breaker")
async def test_a_receiver_that_is_down_is_left_alone_and_costs_its_deliveries_no_attempts(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(breaker_failures=5, breaker_probe_seconds_min=3600, breaker_probe_seconds_max=3600)
    down = await service.create_webhook(receiver.on("/down", answer(500)), max_in_flight=1)
    await service.create_webhook(receiver.url("/up"))
    await service.publish_many(50)
    await receiver.wait_for(50, "/up")
    await until(lambda: breaker_is(service, down, BreakerState.OPEN))
    await service.publish_many(50)
    await receiver.wait_for(100, "/up")  # what may be sent is sent
    assert len(receiver.at("/down")) == 5
    await until(lambda: postgres.rows("SELECT count(*), sum(attempt) FROM deliveries") == [(100, 5)])


async def test_whoever_takes_the_shards_knows_all_breakers_however_many_have_changed(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paces, "SAVE_MAX", 2)
    monkeypatch.setattr(paces, "SAVE_SECONDS", 3600.0)  # nothing is saved before the service stops
    service = await services.start(breaker_failures=1, breaker_probe_seconds_min=3600, breaker_probe_seconds_max=3600)
    down = [await service.create_webhook(receiver.on("/down", answer(500))) for _ in range(5)]
    await service.publish()
    await until(lambda: all(breaker_is(service, webhook, BreakerState.OPEN) for webhook in down))
    await services.stop_one(service)
    assert postgres.rows("SELECT count(*) FROM webhook_health WHERE breaker = 'open'") == [(5,)]


async def test_a_probe_that_is_answered_lets_everything_through(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(breaker_failures=3, retry_delays_seconds=(0.1,) * 8)
    is_up = False

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=200 if is_up else 503)

    webhook = await service.create_webhook(receiver.on("/flaky", behave), max_in_flight=2)
    async with service.watching() as watch:
        await service.publish_many(40)
        await until(lambda: breaker_is(service, webhook, BreakerState.OPEN))
        requests_before = len(receiver.requests)
        await receiver.wait_for(requests_before + 2)  # two probes, one after the other
        is_up = True
        ended = await watch.until_ended(40)
    assert {delivery.status for delivery in ended} == {SUCCEEDED}
    assert max(delivery.attempt_count for delivery in ended) <= 8
    await until(lambda: breaker_is(service, webhook, BreakerState.CLOSED))


async def test_only_one_request_probes_however_much_waits(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(breaker_failures=1)
    gate = Gate()

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=500) if not received.number else await gate(received)

    await service.create_webhook(receiver.on("/down", behave), max_in_flight=1)
    await service.publish_many(20)
    await receiver.wait_for(2)
    await asyncio.sleep(0.3)  # more would come now
    assert len(receiver.requests) == 2
    gate.opened.set()
    await receiver.wait_for(21)


async def test_the_next_owner_knows_that_a_receiver_is_down(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    settings = {"breaker_failures": 2, "breaker_probe_seconds_min": 3600.0, "breaker_probe_seconds_max": 3600.0}
    first = await services.start(**settings)
    down = await first.create_webhook(receiver.on("/down", answer(500)), max_in_flight=1)
    await first.publish_many(10)
    await until(lambda: breaker_is(first, down, BreakerState.OPEN))
    await services.stop_one(first)
    [(breaker, in_an_hour)] = postgres.rows(
        "SELECT breaker, probe_at BETWEEN now() + interval '40 min' AND now() + interval '80 min' FROM webhook_health"
    )
    assert (breaker, in_an_hour) == ("open", True)

    second = await services.start(**settings)
    await second.create_webhook(receiver.url("/up"))
    await second.publish()
    await receiver.wait_for(1, "/up")
    await until(lambda: breaker_is(second, down, BreakerState.OPEN))
    assert len(receiver.at("/down")) == 2


async def test_a_webhook_that_is_well_again_is_forgotten(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(breaker_failures=2)
    is_up = asyncio.Event()

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=200 if is_up.is_set() else 500)

    await service.create_webhook(receiver.on("/flaky", behave), max_in_flight=1)
    await service.publish_many(10)
    await until(lambda: postgres.rows("SELECT breaker FROM webhook_health WHERE breaker = 'open'") == [("open",)])
    is_up.set()
    await until(lambda: postgres.rows("SELECT count(*) FROM webhook_health") == [(0,)])


# --- switched off and on ---------------------------------------------------------------------------------------------


async def test_nothing_but_failures_for_days_switches_a_webhook_off(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(
        disable_after_seconds=1.0, disable_failures_min=5, retry_delays_seconds=(0.2,) * 20, breaker_failures=1000
    )
    webhook = await service.create_webhook(receiver.on("/down", answer(404)), max_in_flight=1)
    async with service.watching() as watch:
        await service.publish_many(3)
        ended = await watch.until_ended(3)
    assert {delivery.status for delivery in ended} == {CANCELLED}
    found = await service.webhook(webhook.webhook_id)
    assert found.status == webhook_pb2.WEBHOOK_STATUS_DISABLED
    assert "without a single success" in found.status_reason


@pytest.mark.parametrize("ending", ["in order", "crash", "crash after a success"])
async def test_the_days_of_failures_go_on_in_the_next_process_unless_the_last_had_a_success(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, ending: str
) -> None:
    """A process that dies may not have saved its last success, but it stands in the log."""
    settings = {"disable_after_seconds": 3600.0, "disable_failures_min": 1, "retry_delays_seconds": (60.0,)}
    service = await services.start(**settings)
    webhook = await service.create_webhook(
        receiver.on("/down", answers(200 if ending == "crash after a success" else 404, 404))
    )
    async with service.watching() as watch:
        await service.publish()
        await watch.until(lambda seen: len(seen) >= 1)
    await services.stop_one(service)
    postgres.rows("DELETE FROM webhook_health")
    postgres.rows(
        "INSERT INTO webhook_health (webhook_id, breaker, failing_since, failure_count)"
        " VALUES (%s, 'closed', now() - interval '2 hours', 100)",
        [webhook.webhook_id],
    )
    if ending != "in order":
        postgres.rows("UPDATE shards SET owner = gen_random_uuid()")
    service = await services.start(**settings)
    async with service.watching() as watch:
        await service.publish()
        await watch.until(lambda seen: any(delivery.attempt_count for delivery in seen))
    is_active = (await service.webhook(webhook.webhook_id)).status == webhook_pb2.WEBHOOK_STATUS_ACTIVE
    assert is_active is (ending == "crash after a success")


@pytest.mark.symptom("disabled")
async def test_an_address_that_stays_blocked_switches_its_webhook_off(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start(blocked_disable_after=1, retry_delays_seconds=(60.0,))
    webhook = await service.create_webhook("http://127.0.0.1:9999/")
    postgres.rows("UPDATE webhooks SET url = 'http://10.0.0.1/'")
    async with service.watching() as watch:
        await service.publish()
        [ended] = await watch.until_ended(1)
    assert ended.status == CANCELLED
    found = await service.webhook(webhook.webhook_id)
    assert found.status == webhook_pb2.WEBHOOK_STATUS_DISABLED
    assert "may not be called" in found.status_reason


@pytest.mark.parametrize("in_another_process", [False, True])
async def test_a_webhook_that_is_switched_on_again_starts_with_one_request_at_a_time(
    services: ServiceFactory, receiver: Receiver, *, in_another_process: bool
) -> None:
    service = await services.start()
    gate = Gate()

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=410) if not received.number else await gate(received)

    webhook = await service.create_webhook(receiver.on("/gone", behave))
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended(1)
    if in_another_process:
        await services.stop_one(service)
        service = await services.start()
    await service.resume_webhook(webhook.webhook_id)
    await service.publish_many(20)
    await receiver.wait_for(2)
    await asyncio.sleep(0.3)  # more would come now
    assert len(receiver.requests) == 2
    gate.opened.set()
    await receiver.wait_for(21)


# --- how fast --------------------------------------------------------------------------------------------------------


def starts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns when each request is started, from now on: a busy machine brings them to the receiver late, in bursts."""
    started_at: list[float] = []
    started = Pace.started

    def recorded(pace: Pace, now: float) -> None:
        started_at.append(now)
        started(pace, now)

    monkeypatch.setattr(Pace, "started", recorded)
    return started_at


@pytest.mark.slow
async def test_a_rate_limit_is_kept_also_while_the_webhook_changes_hands(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, count = 40, 100
    started_at = starts(monkeypatch)
    first = await services.start()
    await first.create_webhook(receiver.url(), rate_limit_per_second=rate, max_in_flight=100)
    await first.publish_many(count)
    await receiver.wait_for(60)
    await services.start()
    await services.stop_one(first)
    await receiver.wait_for(count)
    for index, begin in enumerate(started_at):
        within = sum(1 for at in started_at[index:] if at < begin + 1.0)
        assert within <= 2 * rate + 1, "a burst of one second, and one second's worth"
    assert started_at[-1] - started_at[0] >= (count - rate) / rate * 0.99


@pytest.mark.slow(4)
async def test_429_slows_the_webhook_and_its_retry_after_holds_for_all_its_deliveries(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_at = starts(monkeypatch)
    service = await services.start(retry_delays_seconds=(0.1,) * 5)

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "1"}) if not received.number else web.Response()

    webhook = await service.create_webhook(receiver.on("/busy", behave), max_in_flight=1)
    await service.publish_many(3)
    await receiver.wait_for(4)
    assert started_at[1] - started_at[0] >= 1.0
    assert started_at[2] - started_at[1] >= 0.9, "without a limit it had one request a second, and has half of that"
    assert pace_of(service, webhook).breaker.state is BreakerState.CLOSED


async def until_held(postgres: TestPostgres) -> None:
    """Until the hold stands in the table, a second after it began at the latest."""
    await until(
        lambda: (
            postgres.rows("SELECT count(*) FROM webhook_health WHERE hold_until > now() + interval '50 min'") == [(1,)]
        )
    )


@pytest.mark.slow(3)
async def test_the_next_owner_honours_what_retry_after_asked_for(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    first = await services.start()
    busy = await first.create_webhook(receiver.on("/busy", answer(503, Retry_After="3600")), max_in_flight=1)
    await first.publish_many(5)
    await until_held(postgres)
    await services.stop_one(first)

    second = await services.start()
    await second.create_webhook(receiver.url("/up"))
    await second.publish()
    await receiver.wait_for(1, "/up")
    await until(lambda: second.app.engine.receivers.get(busy.webhook_id) is not None)
    assert pace_of(second, busy).wait_seconds(0, time.monotonic()) > 3000
    assert len(receiver.at("/busy")) == 1


async def test_the_row_of_a_hold_goes_when_it_is_over_though_nothing_more_is_sent(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paces, "SWEEP_SECONDS", 0.0)
    service = await services.start(retry_delays_seconds=(86_400.0,))
    await service.create_webhook(receiver.on("/busy", answer(429, Retry_After="3600")))
    await service.publish()
    await until_held(postgres)
    await asyncio.sleep(2.5)  # it would go now
    assert postgres.rows("SELECT count(*) FROM webhook_health") == [(1,)]
    postgres.rows("UPDATE webhook_health SET hold_until = now(), throttled_until = now()")
    await until(lambda: postgres.rows("SELECT count(*) FROM webhook_health") == [(0,)])


async def test_a_fault_of_ours_is_not_taken_for_what_the_receiver_asked_for(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())
    send, is_faulty = Sender.send, asyncio.Event()

    async def faulty(sender: Sender, request: Request) -> AttemptResult:
        if not is_faulty.is_set():
            is_faulty.set()
            raise ResolverDown("no answer")
        return await send(sender, request)

    monkeypatch.setattr(Sender, "send", faulty)
    await service.publish()
    await is_faulty.wait()
    await until(lambda: pace_of(service, webhook).wait_seconds(0, time.monotonic()) > 0)
    assert pace_of(service, webhook).save(time.monotonic()).hold_seconds == 0
    await receiver.wait_for(1)


async def test_no_more_requests_are_in_flight_to_one_host_than_allowed_whoever_s_they_are(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(host_in_flight_max=3)
    gate = Gate()
    for number in range(4):
        await service.create_webhook(receiver.on(f"/{number}", gate), customer_id=CUSTOMER + number % 2)
    await service.publish_many(5)
    await service.publish_many(5, customer_id=CUSTOMER + 1)
    await receiver.wait_for(3)
    await asyncio.sleep(0.2)  # more would come now
    assert len(receiver.requests) == 3
    gate.opened.set()
    await receiver.wait_for(20)


async def test_nothing_is_started_while_changes_of_webhooks_cannot_be_followed(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might be for a webhook that was deleted meanwhile."""
    monkeypatch.setattr(webhook_cache, "STALE_SECONDS", 1.0)
    service = await services.start()
    await service.create_webhook(receiver.url())
    await service.publish()
    await receiver.wait_for(1)
    changed_lately, is_away = webhooks.changed_lately, True

    async def away(database: Queries) -> dict[int, int]:
        if is_away:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        return await changed_lately(database)

    monkeypatch.setattr(webhooks, "changed_lately", away)
    await until(lambda: not service.app.engine.receivers.is_current)
    await service.publish_many(5)
    await asyncio.sleep(0.3)  # they would come now
    assert len(receiver.requests) == 1
    is_away = False
    await receiver.wait_for(6)


async def test_all_webhooks_are_read_again_when_the_clock_steps_while_changes_are_read(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed just before a step ahead is not among the changes of the last seconds any more."""
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())
    await service.publish()
    await receiver.wait_for(1)
    changed_lately, by_ids = webhooks.changed_lately, webhooks.by_ids
    has_stepped, read_again = asyncio.Event(), asyncio.Event()

    async def interrupted(database: Queries) -> dict[int, int]:
        if not has_stepped.is_set():
            has_stepped.set()
            service.app.engine.receivers.clock_stepped()
        return await changed_lately(database)

    async def noted(database: Queries, webhook_ids: Collection[int]) -> list[Webhook]:
        if has_stepped.is_set() and webhook.webhook_id in webhook_ids:
            read_again.set()
        return await by_ids(database, webhook_ids)

    monkeypatch.setattr(webhooks, "by_ids", noted)
    monkeypatch.setattr(webhooks, "changed_lately", interrupted)
    async with slowness.timeout(10):
        await read_again.wait()
