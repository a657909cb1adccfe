"""A delivery that kills the process that sends it, whichever that is: a supervisor starts another one each time."""

from __future__ import annotations

import asyncio
from typing import LiteralString

from tests.invariants.history import Poison
from tests.support import slowness

from .endpoints import EndpointPlan
from .faulty import KILLED
from .harness import Round
from .scenario import Scenario

_REQUEST_ID = "1-0-4"  # the fourth event of the first publisher
_POISON = {"WEBHOOK_TEST_POISON": f"/0 {_REQUEST_ID}"}
_SECONDS_MAX = 60.0

HAS_FAILED: LiteralString = "SELECT 1 FROM attempts WHERE webhook_id = %s AND status = 'failed'"


async def poison(round_: Round) -> None:
    """Until the delivery has failed, or more processes have died of it than may."""
    endpoint = round_.registered[0]
    deaths, deaths_max = 0, len(endpoint.delays_seconds) + 4
    try:
        async with slowness.timeout(_SECONDS_MAX):
            while deaths <= deaths_max and not round_.ask(HAS_FAILED, [endpoint.webhook_id]):
                deaths += await _replace_dead(round_)
                await asyncio.sleep(0.02)
    finally:
        round_.poison = Poison(endpoint.webhook_id, _REQUEST_ID, deaths)
    if deaths > deaths_max:  # no longer: the rest of the histories is worth comparing as well
        for name in list(round_.cluster.running):
            with round_.fault("kill -9", may_duplicate=True):
                await round_.cluster.kill(name)
        await round_.cluster.start()
    assert deaths > 1, "nobody died of it again"


async def _replace_dead(round_: Round) -> int:
    """Starts another process for each that has died. Returns how many had."""
    dead = [name for name, process in round_.cluster.running.items() if process.process.returncode is not None]
    for name in dead:
        status = round_.cluster.running[name].process.returncode
        await round_.cluster.until_dead(name, 1)
        round_.died("poison")
        assert status == KILLED, f"{name} ended with status {status}"
    await asyncio.gather(*(round_.cluster.start(**round_.scenario.others) for _ in dead))
    return len(dead)


# Only the poison fails: those that are answered with 500 now and then have more attempts.
_PATIENT = (1.0,) * 5
_PLAN = (
    EndpointPlan(1),
    EndpointPlan(1, address="127.0.0.2"),
    EndpointPlan(
        2, {"kind": "fails", "status": 500, "one_in": 5}, "127.0.0.3", in_flight_max=4, own_delays_seconds=_PATIENT
    ),
)

SCENARIOS = (
    Scenario(
        "poison",
        poison,
        plan=_PLAN,
        settings={"WEBHOOK_LEASE_SECONDS": "1"},
        first=_POISON,
        others=_POISON,
        gap_seconds=0.2,
        delays_seconds=(0.3, 0.3),
    ),
)
