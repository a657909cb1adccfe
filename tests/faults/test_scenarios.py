"""Every fault once, for a few seconds. `python -m tests.faults` runs them for as long as one likes."""

from __future__ import annotations

import secrets

import pytest

from tests.support import slowness

from .database import DatabaseServer
from .harness import run_round
from .scenario import Scenario
from .scenarios import SCENARIOS
from .stepped import SteppedServer

# One xdist worker runs all of them: they share a Postgres, and each takes the machine for itself.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.xdist_group("faults")]


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.stepped], ids=lambda scenario: scenario.name)
async def test_the_service_keeps_its_promises_under(scenario: Scenario, server: DatabaseServer) -> None:
    await keeps_its_promises(scenario, server)


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.stepped], ids=lambda scenario: scenario.name)
async def test_the_service_keeps_its_promises_when(scenario: Scenario, stepped_server: SteppedServer) -> None:
    await keeps_its_promises(scenario, stepped_server)


async def keeps_its_promises(scenario: Scenario, server: DatabaseServer) -> None:
    """Runs a round with a seed that a failure reports."""
    seed = secrets.randbelow(2**32)
    report = await run_round(scenario, server, seed, scenario.short_seconds)
    shown = "\n".join(map(str, report.violations[:20]))
    assert not report.violations, f"--scenario {scenario.name!r} --seed {seed}:\n{shown}"
    assert report.events > 20 / slowness.ratio(), f"hardly any load: {report}"
