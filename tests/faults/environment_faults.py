"""Names that do not resolve, descriptors that run out, endpoints that hang, watchers that do not read.

Each concerns some; all others must not notice: their endpoints are planned as `prompt`.
"""

from __future__ import annotations

import asyncio
from typing import LiteralString

from tests.support import slowness

from .dns import ZONE, Rcode
from .endpoints import DEFAULT_PLAN, EndpointPlan
from .harness import Round
from .scenario import Scenario

_PROMPT_PLAN = tuple(plan.but_prompt() for plan in DEFAULT_PLAN)
_NAME = f"hooks.{ZONE}"
# Few events and long delays: ten failures in a row would be a reason to leave the endpoint alone for long.
_NAMED = 3
_NAMED_PLAN = (
    *_PROMPT_PLAN,
    EndpointPlan(_NAMED, address="127.0.0.3", host=_NAME, in_flight_max=2, own_delays_seconds=(1.0,) * 5),
)
_ALWAYS_ASKED = {"WEBHOOK_IDLE_CONNECTIONS_PER_WEBHOOK_MAX": "0"}  # on a kept connection no name is looked up
_HANGING_PLAN = (
    *_PROMPT_PLAN,
    EndpointPlan(3, address="127.0.0.3", in_flight_max=2, own_delays_seconds=(1.0,) * 5, timeout_seconds=1),
)
UNHEARD_PLAN = (*_HANGING_PLAN, _NAMED_PLAN[-1])
_GREEDY_PLAN = tuple(EndpointPlan(1, address=f"127.0.0.{number}", in_flight_max=20) for number in (1, 2, 3, 4))
_WRITE_SECONDS = 0.5
_ENOUGH_TOLD = 350  # of 16 kB each: more than what lies between two ends of a stream
_TALKATIVE_PLAN = tuple(EndpointPlan(1, {"body_bytes": 16_000}, f"127.0.0.{number}") for number in (1, 2, 3))


# How many processes own shards, and by how many shards more than one their shares differ.
SHARES: LiteralString = """
SELECT count(*), greatest(max(count) - min(count) - 1, 0)
FROM (SELECT count(*) FROM shards GROUP BY owner) AS shares(count)
"""


async def slow_names(round_: Round) -> None:
    """The name server takes almost as long as it may."""
    round_.names.addresses[_NAME] = "127.0.0.3"
    before = round_.names.queries
    with round_.fault("DNS slow"):
        round_.names.delay_seconds = 0.8
        await asyncio.sleep(round_.seconds)
        async with slowness.timeout(10):
            while round_.names.queries == before:
                await asyncio.sleep(0.05)
        round_.names.delay_seconds = 0.0


async def failing_names(round_: Round) -> None:
    """The name server fails, then is silent, then knows nothing, then is well again.

    Only while it knows nothing do attempts count: before that it is our resolver that fails, whatever the name.
    """
    round_.names.addresses[_NAME] = "127.0.0.3"
    before = round_.names.queries
    with round_.fault("DNS failing", rules_out="name_not_resolved"):
        round_.names.rcode = Rcode.SERVFAIL
        async with slowness.timeout(10):  # on a slow machine little is published
            while round_.names.queries == before:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        round_.names.silent = True
        await asyncio.sleep(1.0)
    with round_.fault("DNS knows nothing"):
        round_.names.silent, round_.names.rcode = False, Rcode.NXDOMAIN
        await asyncio.sleep(0.5)
        round_.names.rcode = Rcode.NO_ERROR
    await asyncio.sleep(0.5)


async def descriptors(round_: Round) -> None:
    """One process may open no file more than it has: it pauses and counts no attempt; the other one goes on.

    Endpoints become slower at the same time, so that the connections which are open are not enough.
    """
    async with slowness.timeout(10):
        while round_.ask(SHARES) != [(len(round_.cluster.running), 0)]:
            await asyncio.sleep(0.05)
    for number in range(len(_GREEDY_PLAN)):  # whoever sends has its connections to Postgres
        await round_.until_received(number, len(round_.endpoints.requests()) // len(_GREEDY_PLAN) + 5)
    victim = await round_.owner_of(0)
    with round_.fault("few descriptors"):
        round_.cluster.limit_descriptors(victim, spare=0)
        slow = {"delay_seconds": 0.5}
        await round_.endpoints.behave({round_.path(number): slow for number in range(len(_GREEDY_PLAN))})
        await asyncio.sleep(round_.seconds)
        async with slowness.timeout(10):  # or it had enough of them
            while not round_.logged(victim, "attempts paused"):
                await asyncio.sleep(0.05)
        round_.cluster.limit_descriptors(victim, spare=None)
    await round_.endpoints.behave({round_.path(number): {} for number in range(len(_GREEDY_PLAN))})


async def hang(round_: Round) -> None:
    """An endpoint stops answering until whoever waits for it has left, and comes back."""
    number = len(_HANGING_PLAN) - 1
    path, hanging = round_.path(number), round_.registered[number].webhook_id
    await asyncio.sleep(0.3)
    with round_.fault("endpoint hangs"):
        await round_.endpoints.behave({path: {"kind": "hangs"}})
        await asyncio.sleep(2.5)
        async with slowness.timeout(10):
            while not any(
                request.webhook_id == hanging and not request.status for request in round_.endpoints.requests()
            ):
                await asyncio.sleep(0.05)
        await round_.endpoints.behave({path: {}})
    await asyncio.sleep(0.5)


async def unheard(round_: Round) -> None:
    """The name of an endpoint is not found, and then another one stops answering: see `UNHEARD_PLAN`."""
    await failing_names(round_)
    await hang(round_)


async def slow_watcher(round_: Round) -> None:
    """A watcher stops reading until it is let go, and resumes; another of the same customer does not notice."""
    slow, quick = round_.watchers
    quick.prompt = True
    with round_.fault("slow watcher"):
        slow.reading.clear()
        async with slowness.timeout(30):
            while len(quick.told) < _ENOUGH_TOLD:
                await asyncio.sleep(0.05)
        await asyncio.sleep(slowness.lengthened(2 * _WRITE_SECONDS))
        slow.reading.set()
        async with slowness.timeout(10):
            while not slow.refusals:
                await asyncio.sleep(0.05)
    assert slow.refusals[0] == "WATCHER_TOO_SLOW", slow.refusals


async def coming_and_going(round_: Round) -> None:
    """Watchers leave and resume all the time, with either process."""
    before = [watcher.streams for watcher in round_.watchers]
    with round_.fault("watchers resume"):
        await asyncio.sleep(round_.seconds)
        async with slowness.timeout(10):
            while any(watcher.streams <= count for watcher, count in zip(round_.watchers, before, strict=True)):
                await asyncio.sleep(0.05)


SCENARIOS = (
    Scenario("DNS slow", slow_names, plan=_NAMED_PLAN, quiet_customer=_NAMED, settings=_ALWAYS_ASKED),
    Scenario("DNS failing", failing_names, plan=_NAMED_PLAN, quiet_customer=_NAMED, settings=_ALWAYS_ASKED),
    Scenario("few descriptors", descriptors, plan=_GREEDY_PLAN, needs_load=True, drain_seconds_max=20.0),
    Scenario("endpoint hangs", hang, plan=_HANGING_PLAN, quiet_customer=3),
    Scenario(
        "slow watcher",
        slow_watcher,
        plan=_TALKATIVE_PLAN,
        needs_load=True,
        settings={"WEBHOOK_STREAM_WRITE_SECONDS_MAX": str(_WRITE_SECONDS), "WEBHOOK_STREAM_BUFFER_MAX": "100"},
        watchers_per_customer=2,
    ),
    Scenario("watchers resume", coming_and_going, reconnect_seconds=0.4, away_seconds=0.3),
)
