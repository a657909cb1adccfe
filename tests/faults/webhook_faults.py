"""Webhooks that are switched off and on by calls or by their receivers, and those with a limited rate."""

from __future__ import annotations

import asyncio
import time
from typing import LiteralString

from webhook.v1 import service_pb2, webhook_pb2

from tests.invariants.history import Switch
from tests.support import slowness

from .endpoints import EndpointPlan
from .harness import Round
from .scenario import Scenario

_REACTION_SECONDS = 1.0  # what the checker grants
_WATCHED_SECONDS = 0.6  # and how long it is looked at after that
_CALL_SECONDS = 5.0
_RATE = 8
_ENOUGH = 10

PENDING_OF: LiteralString = "SELECT count(*) FROM deliveries WHERE webhook_id = %s"
CANCELLED_OF: LiteralString = "SELECT count(*) FROM attempts WHERE webhook_id = %s AND status = 'cancelled'"
TIMED_OUT: LiteralString = "SELECT 1 FROM attempts WHERE reason = 'timeout' LIMIT 1"
ACTIVE: LiteralString = "SELECT count(*) FROM webhooks WHERE status = 'active'"


async def switch_off(round_: Round) -> None:
    """Pauses a webhook under load, resumes it, and deletes it while more is pending than it can take."""
    webhook_id = round_.registered[0].webhook_id
    await round_.until_received(0, _ENOUGH)
    with round_.fault("paused"):
        await _switch(round_, 0, "paused")
        await asyncio.sleep(slowness.lengthened(_REACTION_SECONDS + _WATCHED_SECONDS))
        await until_pending(round_, webhook_id, _ENOUGH)  # on a slow machine the load is slower, too
        resumed_at = time.time()
        await _switch(round_, 0, "resumed")
    kept = {
        publish.event_id
        for publisher in round_.publishers
        for publish in publisher.history
        if publish.customer_id == 1 and publish.event_id is not None and publish.answered_at < resumed_at
    }
    async with slowness.timeout(10):
        while not kept <= _succeeded(round_, webhook_id):
            await asyncio.sleep(0.1)
    # not only slow: on a slow machine the load may be slower
    await round_.endpoints.behave({round_.path(0): {"kind": "held"}})
    await until_pending(round_, webhook_id, 3 * _ENOUGH)
    with round_.fault("deleted"):
        await _switch(round_, 0, "deleted")
        await asyncio.sleep(slowness.lengthened(_REACTION_SECONDS + _WATCHED_SECONDS))
    await round_.endpoints.behave({round_.path(0): {}})  # what is pending takes a turn to be cancelled, too
    async with slowness.timeout(10):
        while _count(round_, CANCELLED_OF, webhook_id) <= _ENOUGH:
            await asyncio.sleep(0.05)


async def pause(round_: Round) -> None:
    """Pauses a webhook under load, and resumes it: not what becomes of what was pending meanwhile."""
    await round_.until_received(0, _ENOUGH)
    with round_.fault("paused"):
        await _switch(round_, 0, "paused")
        await asyncio.sleep(slowness.lengthened(_REACTION_SECONDS + _WATCHED_SECONDS))
        await _switch(round_, 0, "resumed")


async def gone(round_: Round) -> None:
    """A receiver answers 410 under load: its webhook is disabled; it is resumed when the receiver is back."""
    webhook_id = round_.registered[0].webhook_id
    await round_.until_received(0, _ENOUGH)
    slow = {"delay_seconds": min(4.0, slowness.scaled(1.0))}  # two a second, and less where the load is less
    await round_.endpoints.behave({round_.path(0): slow})
    await until_pending(round_, webhook_id, 2 * _ENOUGH)
    with round_.fault("receiver gone"):
        asked_at = time.time()
        await round_.endpoints.behave({round_.path(0): {"kind": "always", "status": 410}})
        async with slowness.timeout(10):
            while (webhook := await _webhook(round_, 0)).status != webhook_pb2.WEBHOOK_STATUS_DISABLED:
                await asyncio.sleep(0.02)
        round_.switches.append(Switch(webhook_id, "disabled", asked_at, time.time()))
        assert webhook.status_reason, "it is not said why"
        await asyncio.sleep(slowness.lengthened(_REACTION_SECONDS + _WATCHED_SECONDS))
        async with slowness.timeout(10):  # what is pending takes its turn behind requests that are still slow
            while _count(round_, PENDING_OF, webhook_id):
                await asyncio.sleep(0.05)
        assert _count(round_, CANCELLED_OF, webhook_id) > _ENOUGH, "hardly anything was pending"
        await round_.endpoints.behave({round_.path(0): {}})
    assert round_.ask(ACTIVE) == [(len(round_.registered) - 1,)], "others were switched off"
    received = len(_succeeded(round_, webhook_id))
    await _switch(round_, 0, "resumed")
    async with slowness.timeout(10):
        while len(_succeeded(round_, webhook_id)) < received + _ENOUGH:
            await asyncio.sleep(0.1)


async def stand_still(round_: Round) -> None:
    """A receiver stands still until requests have timed out, and then answers 200 to those, which have left.

    Its history says 200, the log says that nobody heard it: the next attempt is no duplicate that needs an excuse.
    """
    await round_.until_received(0, _ENOUGH)
    round_.endpoints.stand_still()
    try:
        async with slowness.timeout(10):
            while not round_.ask(TIMED_OUT):
                await asyncio.sleep(0.05)
    finally:
        round_.endpoints.go_on()


async def kill_limited(round_: Round) -> None:
    """The process that keeps a webhook to its rate is killed, and another started, while more comes than it takes."""
    await asyncio.sleep(round_.seconds / 2)
    victim = await round_.owner_of(0)
    with round_.fault("kill -9", may_duplicate=True):
        await round_.cluster.kill(victim)
    await round_.cluster.start()
    await asyncio.sleep(round_.seconds / 2)
    limited = round_.registered[0]
    assert limited.rate_limit is not None
    await until_pending(round_, limited.webhook_id, limited.rate_limit + 1)  # or it was not at its limit


async def _switch(round_: Round, number: int, kind: str) -> None:
    endpoint = round_.registered[number]
    stub = round_.cluster.running[round_.one_running()].stub
    asked_at = time.time()
    whose, which = endpoint.customer_id, endpoint.webhook_id
    match kind:
        case "paused":
            request = service_pb2.PauseWebhookRequest(customer_id=whose, webhook_id=which)
            await stub.PauseWebhook(request, timeout=slowness.scaled(_CALL_SECONDS))
        case "resumed":
            request = service_pb2.ResumeWebhookRequest(customer_id=whose, webhook_id=which)
            await stub.ResumeWebhook(request, timeout=slowness.scaled(_CALL_SECONDS))
        case _:
            request = service_pb2.DeleteWebhookRequest(customer_id=whose, webhook_id=which)
            await stub.DeleteWebhook(request, timeout=slowness.scaled(_CALL_SECONDS))
    round_.switches.append(Switch(which, kind, asked_at, time.time()))


async def until_pending(round_: Round, webhook_id: int, count: int) -> None:
    """Waits until so many deliveries to a webhook have not ended."""
    async with slowness.timeout(10):
        while _count(round_, PENDING_OF, webhook_id) < count:
            await asyncio.sleep(0.05)


async def _webhook(round_: Round, number: int) -> webhook_pb2.Webhook:
    endpoint = round_.registered[number]
    request = service_pb2.GetWebhookRequest(customer_id=endpoint.customer_id, webhook_id=endpoint.webhook_id)
    return await round_.cluster.any(round_.random).stub.GetWebhook(request, timeout=slowness.scaled(_CALL_SECONDS))


def _count(round_: Round, statement: LiteralString, webhook_id: int) -> int:
    [(count,)] = round_.ask(statement, [webhook_id])
    return count


def _succeeded(round_: Round, webhook_id: int) -> set[str]:
    requests = round_.endpoints.requests()
    return {request.event_id for request in requests if request.webhook_id == webhook_id and request.status == 200}


# What customer 1 publishes is about as much as the first of its webhooks can take; the others are none of its business.
_SWITCHED_PLAN = (
    EndpointPlan(1, {"delay_seconds": 0.1}, "127.0.0.2"),
    EndpointPlan(1, prompt=True),
    EndpointPlan(2, {"kind": "fails", "status": 500, "one_in": 5}, "127.0.0.3", prompt=True),
)
_GONE_PLAN = (EndpointPlan(1, {"delay_seconds": 0.2}, "127.0.0.2", in_flight_max=2), *_SWITCHED_PLAN[1:])
_STILL_PLAN = (
    EndpointPlan(1, timeout_seconds=1),
    EndpointPlan(2, {"delay_seconds": 0.05}, "127.0.0.2", timeout_seconds=1),
)
_LIMITED_PLAN = (EndpointPlan(1, address="127.0.0.2", rate_limit=_RATE), EndpointPlan(1), EndpointPlan(2))

SCENARIOS = (
    Scenario("webhook switched off", switch_off, plan=_SWITCHED_PLAN, gap_seconds=0.04, needs_load=True),
    Scenario("receiver gone", gone, plan=_GONE_PLAN, needs_load=True),
    Scenario("receiver stands still", stand_still, plan=_STILL_PLAN),
    Scenario(
        "rate limit",
        kill_limited,
        plan=_LIMITED_PLAN,
        settings={"WEBHOOK_LEASE_SECONDS": "1"},
        gap_seconds=0.06,
        needs_load=True,
        drain_seconds_max=25.0,
        short_seconds=2.0,
    ),
)
