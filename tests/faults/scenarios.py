"""What is broken, one function each: it runs while the load does, and returns when the fault is over.

Sleeps here are the fault's own time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from functools import partial
from typing import LiteralString

from tests.support import slowness
from tests.support.postgres import query
from webhook_grpc.store.ownership.neighbours import END_LEASES

from . import (
    chaos_faults,
    clock_faults,
    command_faults,
    database_faults,
    disk_faults,
    environment_faults,
    failover_faults,
    jam_faults,
    poison_faults,
    restore_faults,
    upgrade_faults,
    webhook_faults,
)
from .cluster import lease_seconds
from .endpoints import DEFAULT_PLAN, FLAKY_PLAN, EndpointPlan
from .faulty import POINTS, SLOWED
from .harness import Round
from .poison import LEASE_RAN_OUT
from .scenario import Scenario
from .webhook_faults import until_pending


async def nothing(round_: Round) -> None:
    """The control."""
    await asyncio.sleep(round_.seconds)


async def slowed(round_: Round, functions: Sequence[str]) -> None:
    """Nothing but what is slow in the processes by themselves: see faulty.py."""
    await asyncio.sleep(round_.seconds)
    for function in functions:
        async with slowness.timeout(10):
            while not any(round_.logged(name, f"{SLOWED} {function}") for name in round_.cluster.running):
                await asyncio.sleep(0.05)


async def kill_at_random(round_: Round) -> None:
    """kill -9, again and again; another process is started each time."""
    for pause in round_.pauses(0.5, 1.5):
        await asyncio.sleep(pause)
        victim = round_.one_running()
        with round_.fault("kill -9", may_duplicate=True):
            await round_.cluster.kill(victim)
        await round_.cluster.start()


async def kill_at_points(round_: Round) -> None:
    """A process dies at each named point, in random order and at a random passage, beside one that lives."""
    points = sorted(POINTS)
    round_.random.shuffle(points)
    for point in points:
        # shards are taken at the start and then once a beat, on a slow machine all at once; the other points are passed
        # all the time: with each statement, of which a slow machine makes fewer and larger ones
        passages = {"after_take": 2, "before_release": 1}.get(point, round_.random.randint(2, 12))
        name = await round_.cluster.start(WEBHOOK_TEST_FAULT=f"{point}:{passages}")
        if point == "before_release":
            round_.cluster.running[name].process.send_signal(signal.SIGTERM)
        died = await round_.cluster.until_dead(name, 2)
        if died:
            round_.died(point)
            continue
        await _leave_all_work_to(round_, name)
        died = await round_.cluster.until_dead(name, 60)
        round_.died(point)
        await round_.cluster.start()
        assert died, f"{name} lives; it should have died {point} for the {passages}th time"


async def _leave_all_work_to(round_: Round, name: str) -> None:
    """Ends the other process: on a slow machine it keeps the busy shards, and a newcomer gets only idle ones.

    None is started in its place before this one has died: it would be a newcomer that may get the busy ones.
    """
    others = [other for other in round_.cluster.running if other != name]
    with round_.fault("SIGTERM"):
        for other in others:
            await round_.cluster.terminate(other)


async def terminate(round_: Round) -> None:
    """SIGTERM under load. Nothing may be lost, sent twice or left hanging: this is what a deployment does."""
    for pause in round_.pauses(0.8, 1.6):
        await asyncio.sleep(pause)
        victim = round_.one_running()
        await round_.cluster.start()
        with round_.fault("SIGTERM"):
            await round_.cluster.terminate(victim)


async def pause_beyond_lease(round_: Round) -> None:
    """SIGSTOP for longer than the lease, then SIGCONT: its old results may not be settled any more.

    Some requests are held while it stands still, and answered so that the returning process learns of it at once.
    """
    await asyncio.sleep(round_.seconds / 3)
    await until_pending(round_, round_.registered[HELD].webhook_id, HELD_MIN)
    victim = await round_.owner_of(HELD)
    lost_before = round_.count_logged(victim, LEASE_RAN_OUT)
    with round_.fault("SIGSTOP", may_duplicate=True, may_overlap=True):
        round_.cluster.stop(victim)
        # what the victim sent before is answered now; what the new owner sends is held on
        await round_.endpoints.behave({round_.path(HELD): HELD_BEHAVIOUR})
        await asyncio.sleep(lease_seconds() + slowness.lengthened(1.0))
        round_.cluster.go_on(victim)
        await round_.until_logged(victim, LEASE_RAN_OUT, lost_before + 1)
        await asyncio.sleep(slowness.lengthened(0.5))
    await round_.endpoints.behave({round_.path(HELD): {}})


async def end_lease_of_the_living(round_: Round) -> None:
    """The lease of a process that lives is ended, as if it were dead, and others take its shards at once.

    Nobody does that. But then whatever a dead one may have left on its way is harmless, too: its results may not be
    settled any more, and nothing is lost.
    """
    for pause in round_.pauses(0.8, 1.6):
        await asyncio.sleep(pause)
        pid = round_.cluster.running[round_.one_running()].process.pid
        with round_.fault("lease ended", may_duplicate=True, may_overlap=True):
            [found] = await asyncio.to_thread(query, round_.database_url, WORKER_OF, {"pid": pid})
            worker, machine, namespaces = found
            parameters = {"workers": [worker], "machine": machine, "namespaces": namespaces}
            ended = await asyncio.to_thread(query, round_.database_url, END_LEASES, parameters)
            assert ended == [(worker,)]
            await asyncio.sleep(lease_seconds())  # until it has noticed, and others have beaten


WORKER_OF: LiteralString = """
SELECT worker_id, machine, namespaces FROM workers WHERE pid = %(pid)s AND lease_until > now()
"""
HELD = len(DEFAULT_PLAN)
HELD_MIN = 4  # what is held remains pending, everything else ends soon
HELD_BEHAVIOUR = {"kind": "held", "one_in": 3}
HELD_PLAN = (*DEFAULT_PLAN, EndpointPlan(1, HELD_BEHAVIOUR, "127.0.0.4", in_flight_max=100, timeout_seconds=20))


SLOW_LOOK = {"WEBHOOK_TEST_SLOW_LOOK": "1.5"}
SLOW_READS = {"WEBHOOK_TEST_SLOW_READS": "0.2"}

SCENARIOS: Sequence[Scenario] = (
    Scenario("no fault", nothing, settings={"WEBHOOK_LEASE_SECONDS": "4"}),
    Scenario("slow reads", partial(slowed, functions=("with_bodies", "publish")), first=SLOW_READS, others=SLOW_READS),
    # a look that took long once must not make later ones late
    Scenario(
        "slow look",
        partial(slowed, functions=("discover",)),
        plan=FLAKY_PLAN,
        first=SLOW_LOOK,
        others=SLOW_LOOK,
        short_seconds=3,
    ),
    Scenario("kill -9", kill_at_random, short_seconds=3),
    # so many webhooks that whoever is to die surely has some of them
    # after deaths in a row what was in flight is sent one at a time, so the last deliveries may take a while
    Scenario(
        "death at points",
        kill_at_points,
        plan=(*DEFAULT_PLAN, *FLAKY_PLAN),
        gap_seconds=0.25,
        processes=1,
        drain_seconds_max=30.0,
    ),
    Scenario("SIGTERM", terminate),
    Scenario("lease ended", end_lease_of_the_living),
    Scenario("SIGSTOP", pause_beyond_lease, plan=HELD_PLAN),
    *database_faults.SCENARIOS,
    *jam_faults.SCENARIOS,
    *disk_faults.SCENARIOS,
    *environment_faults.SCENARIOS,
    *webhook_faults.SCENARIOS,
    *poison_faults.SCENARIOS,
    *command_faults.SCENARIOS,
    *clock_faults.SCENARIOS,
    *chaos_faults.SCENARIOS,
    *failover_faults.SCENARIOS,
    *restore_faults.SCENARIOS,
    *upgrade_faults.SCENARIOS,
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
