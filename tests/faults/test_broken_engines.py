"""The checker against engines that are wrong on purpose: what it does not find there, it would not find anywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import slowness

from .broken import ENGINES
from .database import DatabaseServer
from .endpoints import EndpointPlan
from .groups import group
from .harness import run_round
from .scenario import Scenario
from .scenarios import BY_NAME

pytestmark = [pytest.mark.slow(8), pytest.mark.timeout(120)]

_SLOW_PLAN = (
    EndpointPlan(1, {"delay_seconds": 0.2}, "127.0.0.2", in_flight_max=2),
    EndpointPlan(1, {"kind": "fails", "status": 500, "one_in": 3}, "127.0.0.3"),
)
_QUIET = replace(BY_NAME["no fault"], plan=_SLOW_PLAN, publishers_per_customer=2, drain_seconds_max=15.0)
# A rate that even a busy machine's load is beyond.
_LIMITED = replace(_QUIET, plan=(EndpointPlan(1, address="127.0.0.2", rate_limit=2), EndpointPlan(1)))

# Each with a scenario in which its mistake shows, whatever the timing.
CASES = (
    ("acknowledge_before_commit", "I1", BY_NAME["kill -9"]),
    ("settle_before_send", "I2", _QUIET),
    ("no_stale_rows", "I3", BY_NAME["slow reads"]),
    ("careless", "I4", BY_NAME["poison"]),
    ("impatient", "I5", _QUIET),
    ("no_limit", "I6", _QUIET),
    ("no_rate", "I6", _LIMITED),
    ("deaf", "I8", BY_NAME["webhook switched off"]),
    ("reformats", "I9", _QUIET),
    ("no_fence", "I10", BY_NAME["SIGSTOP"]),
    ("skip_catch_up", "I13", BY_NAME["watchers resume"]),
)


@pytest.mark.parametrize(
    ("name", "invariant", "scenario"),
    [pytest.param(*case, id=case[0], marks=group(number)) for number, case in enumerate(CASES)],
)
async def test_the_checker_finds(name: str, invariant: str, scenario: Scenario, server: DatabaseServer) -> None:
    broken = {"WEBHOOK_TEST_BROKEN": name}
    scenario = replace(scenario, first={**scenario.first, **broken}, others={**scenario.others, **broken})
    scenario = replace(scenario, told_seconds_max=1.0)  # who is told nothing need not be waited for
    found: set[str] = set()
    for seed in range(round(slowness.scaled(3))):  # on a slow machine a short round may not get far enough
        report = await run_round(scenario, server, seed=seed, seconds=1.5)
        found |= {violation.invariant for violation in report.violations}
        if invariant in found:
            return
    pytest.fail(f"found only {sorted(found)}")


def test_every_broken_engine_is_tried() -> None:
    assert {name for name, _, _ in CASES} == ENGINES.keys()
