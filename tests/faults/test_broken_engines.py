"""The checker against engines that are wrong on purpose: what it does not find there, it would not find anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.support import slowness
from tests.support.full import in_full

from .broken import ENGINES
from .database import DatabaseServer
from .endpoints import EndpointPlan
from .environment_faults import UNHEARD_PLAN, unheard
from .groups import group
from .harness import run_round
from .scenario import Scenario
from .scenarios import BY_NAME
from .webhook_faults import pause

pytestmark = [pytest.mark.slow(8), pytest.mark.timeout(120)]

_SLOW_PLAN = (
    EndpointPlan(1, {"delay_seconds": 0.2}, "127.0.0.2", in_flight_max=2),
    EndpointPlan(1, {"kind": "fails", "status": 500, "one_in": 3}, "127.0.0.3"),
)
_QUIET = replace(BY_NAME["no fault"], plan=_SLOW_PLAN, publishers_per_customer=2, drain_seconds_max=15.0)
# A rate that even a busy machine's load is beyond.
_LIMITED = replace(_QUIET, plan=(EndpointPlan(1, address="127.0.0.2", rate_limit=2), EndpointPlan(1)))


class Case(NamedTuple):
    """A broken engine, what it is found by, and a scenario."""

    name: str
    invariant: str
    scenario: Scenario


# Each with a scenario in which its mistake shows, whatever the timing.
CASES = [
    Case(*case)
    for case in (
        ("acknowledge_before_commit", "I1", BY_NAME["kill -9"]),
        ("settle_before_send", "I2", _QUIET),
        ("impatient", "I5", _QUIET),
        ("no_limit", "I6", _QUIET),
        ("reformats", "I9", _QUIET),
        ("no_stale_rows", "I3", BY_NAME["slow reads"]),
        ("careless", "I4", BY_NAME["poison"]),
        ("no_rate", "I6", _LIMITED),
        ("deaf", "I8", replace(BY_NAME["webhook switched off"], inject=pause)),
        ("no_fence", "I10", BY_NAME["SIGSTOP"]),
        ("skip_catch_up", "I13", BY_NAME["watchers resume"]),
        ("blames_receivers", "I18", BY_NAME["DNS failing"]),
        # nothing more ends in that time: a right engine gives up a request after a second, and repeats it after one
        ("waits_for_ever", "I12", replace(BY_NAME["endpoint hangs"], drain_seconds_max=5.0)),
    )
]


# Of one round. None of these makes what another one of them is found by, nor keeps the other from making it.
_KILLED = replace(BY_NAME["kill -9"], reconnect_seconds=0.4, away_seconds=0.3)
_PAUSED_PLAN = (*BY_NAME["webhook switched off"].plan, EndpointPlan(1, address="127.0.0.2", rate_limit=2))
_PAUSED = replace(BY_NAME["slow reads"], inject=pause, plan=_PAUSED_PLAN)
_UNHEARD = replace(BY_NAME["DNS failing"], inject=unheard, plan=UNHEARD_PLAN, drain_seconds_max=5.0)
_TOGETHER = {
    ("impatient", "no_limit", "reformats"): _QUIET,
    ("acknowledge_before_commit", "skip_catch_up", "settle_before_send"): _KILLED,
    ("no_stale_rows", "no_rate", "deaf"): _PAUSED,
    ("blames_receivers", "waits_for_ever"): _UNHEARD,
    ("no_fence",): BY_NAME["SIGSTOP"],
    ("careless",): BY_NAME["poison"],
}
_APART = [[case] for case in CASES]
_SOME_TOGETHER = [
    [case._replace(scenario=scenario) for case in CASES if case.name in names] for names, scenario in _TOGETHER.items()
]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(cases, id=" ".join(name for name, _, _ in cases), marks=group(number))
        for number, cases in enumerate(in_full(_APART, short=_SOME_TOGETHER))
    ],
)
async def test_the_checker_finds(cases: Sequence[Case], server: DatabaseServer) -> None:
    scenario = cases[0].scenario
    broken = {"WEBHOOK_TEST_BROKEN": " ".join(case.name for case in cases)}
    scenario = replace(scenario, first={**scenario.first, **broken}, others={**scenario.others, **broken})
    scenario = replace(scenario, told_seconds_max=1.0)  # who is told nothing need not be waited for
    found: set[str] = set()
    for seed in range(round(slowness.scaled(3))):  # on a slow machine a short round may not get far enough
        report = await run_round(scenario, server, seed=seed, seconds=1.5, keeps_folder=False)
        found |= {violation.invariant for violation in report.violations}
        if found >= {case.invariant for case in cases}:
            return
    pytest.fail(f"found only {sorted(found)}")


def test_every_broken_engine_is_tried() -> None:
    assert {name for name, _, _ in CASES} == ENGINES.keys()
    assert sorted(name for names in _TOGETHER for name in names) == sorted(ENGINES)
    for names in _TOGETHER:
        found_by = [case.invariant for case in CASES if case.name in names]
        assert len(set(found_by)) == len(names), f"what finds one of {names} finds another"
