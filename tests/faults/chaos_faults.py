"""Everything at once: processes are killed again and again, others stopped, connections end and Postgres crashes."""

from __future__ import annotations

import asyncio

from tests.support import slowness
from tests.support.postgres import query

from .database_faults import TERMINATE_SOME
from .endpoints import DEFAULT_PLAN, EndpointPlan
from .harness import Round
from .scenario import Scenario

_LEASE_SECONDS = 1.0
_KILL_SECONDS = 8.0
_KILLS_MIN = 3  # in a round that is shorter than that


async def chaos(round_: Round) -> None:
    """Kills one of two processes every 8 s, in a short round more often, and does something else between two kills."""
    interval_seconds = min(_KILL_SECONDS, round_.seconds / _KILLS_MIN)
    others = (_terminate_backends, _stop_beyond_lease, _crash)
    for number, pause in enumerate(round_.pauses(0.9 * interval_seconds, 1.1 * interval_seconds)):
        before_seconds = round_.random.uniform(0, pause / 2)
        await asyncio.sleep(before_seconds)
        began_at = asyncio.get_running_loop().time()
        await others[number % len(others)](round_)
        took_seconds = asyncio.get_running_loop().time() - began_at
        await asyncio.sleep(max(0.0, pause - before_seconds - took_seconds))
        with round_.fault("kill -9", may_duplicate=True):
            await round_.cluster.kill(round_.one_running())
        await round_.cluster.start()


async def _terminate_backends(round_: Round) -> None:
    with round_.fault("backends terminated"):
        parameters = {"database": round_.database_name, "tenths": round_.random.randint(3, 8)}
        await asyncio.to_thread(query, round_.server.url, TERMINATE_SOME, parameters)


async def _stop_beyond_lease(round_: Round) -> None:
    victim = round_.one_running()
    with round_.fault("SIGSTOP", may_duplicate=True, may_overlap=True):
        round_.cluster.stop(victim)
        await asyncio.sleep(slowness.lengthened(_LEASE_SECONDS + 0.5))
        round_.cluster.go_on(victim)


async def _crash(round_: Round) -> None:
    with round_.outage("Postgres crash"):
        await asyncio.to_thread(round_.server.crash)
        await asyncio.to_thread(round_.server.start_again)


# A slow receiver always has requests in flight, so that each kill finds some of what is innocent.
_PLAN = (*DEFAULT_PLAN, EndpointPlan(3, {"delay_seconds": 0.25}, "127.0.0.4", in_flight_max=20))

SCENARIOS = (
    Scenario(
        "chaos",
        chaos,
        plan=_PLAN,
        settings={"WEBHOOK_LEASE_SECONDS": str(_LEASE_SECONDS)},
        drain_seconds_max=30.0,
        told_seconds_max=10.0,
        short_seconds=3.0,
    ),
)
