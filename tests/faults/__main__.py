"""`python -m tests.faults`: rounds outside pytest, for as long as one likes, with a table at the end."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.long import commit
from tests.support import small_disk
from tests.support.earlier import previous

from .checker import Report
from .combined import COMBINED
from .database import DatabaseServer
from .distribution import DistributionServer
from .finished import FinishedRounds, Reports, write
from .harness import run_round
from .replicated import ReplicatedServer
from .scenario import Scenario
from .scenarios import SCENARIOS
from .stepped import SteppedServer

_VIOLATIONS_SHOWN = 10
BY_NAME = {scenario.name: scenario for scenario in (*SCENARIOS, *COMBINED)}
_HEAD = (
    "fault", "rounds", "events", "deliveries", "requests", "lost", "duplicated (in flight at the fault)",
    "gaps in the stream", "drained after, at most", "late (99 %)", "attempts lost to careful mode", "result",
)  # fmt: skip


def main() -> int:
    """Returns 1 if any invariant was violated."""
    arguments = _arguments()
    usual = DistributionServer if arguments.distribution else DatabaseServer
    chosen = list(possible([BY_NAME[name] for name in arguments.scenario] or SCENARIOS, usual))
    run = (
        f"{commit()}, {arguments.rounds} rounds of {arguments.seconds or 'a few'} s, seed {arguments.seed}, "
        f"{usual.__name__}: " + ", ".join(scenario.name for scenario in chosen)
    )
    finished = FinishedRounds(arguments.resume, run, arguments.rounds * len(chosen))
    if finished.reports:
        say(f"goes on after {sum(map(len, finished.reports.values()))} rounds that have ended")
    servers: dict[type[DatabaseServer], DatabaseServer] = {}
    try:
        for number in range(arguments.rounds):
            for scenario in chosen:
                if len(finished.reports.get(scenario.name, ())) > number:
                    continue
                seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed + number
                seconds = arguments.seconds or scenario.short_seconds
                kind = _kind_of_server(scenario, usual)
                if kind not in servers:
                    servers[kind] = kind()
                    servers[kind].start()
                finished.add(scenario.name, _round(scenario, servers[kind], seed, seconds))
    finally:
        for server in servers.values():
            server.stop()
    say("\n" + table(finished.reports))
    if arguments.json is not None:
        write(arguments.json, finished.reports, run)
    return int(any(report.violations for rows in finished.reports.values() for report in rows))


def possible(scenarios: Sequence[Scenario], usual: type[DatabaseServer]) -> Iterator[Scenario]:
    """Returns those for which everything is installed here. Says of each other one what is missing."""
    for scenario in scenarios:
        try:
            _kind_of_server(scenario, usual).need()
            if scenario.small_disk:
                small_disk.need()
            if scenario.begins_before:
                previous()
        except pytest.skip.Exception as missing:
            say(f"{scenario.name}: skipped, {missing.msg}")
        else:
            yield scenario


def _kind_of_server(scenario: Scenario, usual: type[DatabaseServer]) -> type[DatabaseServer]:
    if scenario.replicated:
        return ReplicatedServer
    return SteppedServer if scenario.is_on_stepped_server else usual


def table(reports: Reports) -> str:
    """Markdown, a line for each fault."""
    lines = [_HEAD, ["---"] * len(_HEAD)]
    lines += [_line(name, rows) for name, rows in reports.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str) -> None:
    """Prints at once: a run takes long."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--scenario", nargs="+", default=[], choices=sorted(BY_NAME), metavar="NAME", help="default all"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of each scenario")
    parser.add_argument("--seconds", type=float, help="of load in a round; default a few")
    parser.add_argument("--seed", type=int, help="replays the schedule of faults of a round that had it")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep reports in it, and go on where a call stopped"
    )
    parser.add_argument(
        "--distribution", action="store_true", help="on the Postgres of the distribution instead of the embedded one"
    )
    parser.add_argument("--json", type=Path, help="write all reports to this file")
    return parser.parse_args()


def _round(scenario: Scenario, server: DatabaseServer, seed: int, seconds: float) -> Report:
    started_at = time.monotonic()
    report = asyncio.run(run_round(scenario, server, seed, seconds))
    took_seconds = time.monotonic() - started_at
    result = f"{len(report.violations)} VIOLATIONS" if report.violations else "ok"
    say(
        f"{scenario.name}: seed {seed}, {took_seconds:.1f} s, {report.events} events, {report.deliveries} deliveries, "
        f"{report.requests} requests, {report.duplicated} duplicated of {report.in_flight} in flight, "
        f"{report.lost_to_careful_mode} attempts lost to careful mode: {result}"
    )
    for violation in report.violations[:_VIOLATIONS_SHOWN]:
        say(f"    {violation}")
    return report


def _result(rows: Sequence[Report]) -> str:
    found = [violation.invariant for report in rows for violation in report.violations]
    return f"FAILED: {len(found)} violations of {', '.join(sorted(set(found)))}" if found else "passed"


def _line(name: str, rows: Sequence[Report]) -> list[str]:
    drained = [report.drained_seconds for report in rows]
    return [
        name,
        str(len(rows)),
        str(sum(report.events for report in rows)),
        str(sum(report.deliveries for report in rows)),
        str(sum(report.requests for report in rows)),
        str(sum(report.lost for report in rows)),
        f"{sum(report.duplicated for report in rows)} ({sum(report.in_flight for report in rows)})",
        str(sum(report.gaps for report in rows)),
        "never" if None in drained else f"{max(filter(None, drained), default=0.0):.1f} s",
        f"{max(report.lateness_seconds for report in rows):.2f} s",
        str(sum(report.lost_to_careful_mode for report in rows)),
        _result(rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
