"""Every fault once, for a few seconds. `python -m tests.faults` runs them for as long as one likes."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from tests.support.full import in_full

from .combined import in_short
from .database import DatabaseServer
from .groups import STEPPED, group
from .harness import run_round
from .replicated import ReplicatedServer
from .scenario import Scenario
from .scenarios import SCENARIOS
from .stepped import SteppedServer

pytestmark = [pytest.mark.slow(8), pytest.mark.timeout(120)]
_ALL = in_full(SCENARIOS, short=tuple(in_short()))
_USUAL = [one for one in _ALL if not (one.is_on_stepped_server or one.replicated)]
_REPLICATED = [one for one in _ALL if one.replicated]
_STEPPED = [one for one in _ALL if one.is_on_stepped_server]


@pytest.mark.parametrize(
    "scenario", [pytest.param(one, id=one.name, marks=group(number)) for number, one in enumerate(_USUAL)]
)
async def test_the_service_keeps_its_promises_under(scenario: Scenario, server: DatabaseServer) -> None:
    await keeps_its_promises(scenario, server)


@group(1)
@pytest.mark.parametrize("scenario", _REPLICATED, ids=lambda scenario: scenario.name)
async def test_the_service_keeps_its_promises_with(scenario: Scenario, replicated_server: ReplicatedServer) -> None:
    await keeps_its_promises(scenario, replicated_server)


@STEPPED
@pytest.mark.parametrize("scenario", _STEPPED, ids=lambda scenario: scenario.name)
async def test_the_service_keeps_its_promises_when(scenario: Scenario, stepped_server: SteppedServer) -> None:
    await keeps_its_promises(scenario, stepped_server)


async def keeps_its_promises(scenario: Scenario, server: DatabaseServer) -> None:
    """Runs a round with a seed that a failure reports."""
    seed = secrets.randbelow(2**32)
    if not scenario.needs_load:
        scenario = replace(scenario, gap_seconds=2 * scenario.gap_seconds)
    report = await run_round(scenario, server, seed, scenario.short_seconds)
    shown = "\n".join(map(str, report.violations[:20]))
    assert not report.violations, f"--scenario {scenario.name!r} --seed {seed}:\n{shown}"
