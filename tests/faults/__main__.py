"""`python -m tests.faults`: rounds outside pytest, for as long as one likes, with a table at the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .checker import Report
from .combined import COMBINED
from .database import DatabaseServer
from .harness import run_round
from .scenario import Scenario
from .scenarios import SCENARIOS
from .stepped import SteppedServer

_VIOLATIONS_SHOWN = 10
BY_NAME = {scenario.name: scenario for scenario in (*SCENARIOS, *COMBINED)}
_HEAD = (
    "fault", "rounds", "events", "deliveries", "requests", "lost", "duplicated (in flight at the fault)",
    "gaps in the stream", "drained after, at most", "late (99 %)", "attempts lost to careful mode", "violations",
)  # fmt: skip


def main() -> int:
    """Returns 1 if any invariant was violated."""
    arguments = _arguments()
    chosen = [BY_NAME[name] for name in arguments.scenario] or SCENARIOS
    reports: dict[str, list[Report]] = {}
    servers: dict[bool, DatabaseServer] = {}
    try:
        for number in range(arguments.rounds):
            for scenario in chosen:
                seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed + number
                seconds = arguments.seconds or scenario.short_seconds
                if scenario.stepped not in servers:
                    servers[scenario.stepped] = SteppedServer() if scenario.stepped else DatabaseServer()
                    servers[scenario.stepped].start()
                report = _round(scenario, servers[scenario.stepped], seed, seconds)
                reports.setdefault(scenario.name, []).append(report)
    finally:
        for server in servers.values():
            server.stop()
    say("\n" + table(reports))
    if arguments.json is not None:
        plain = {name: [asdict(report) for report in rows] for name, rows in reports.items()}
        arguments.json.write_text(json.dumps(plain, indent=1))
    return int(any(report.violations for rows in reports.values() for report in rows))


def table(reports: dict[str, list[Report]]) -> str:
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
        str(sum(len(report.violations) for report in rows)),
    ]


if __name__ == "__main__":
    sys.exit(main())
