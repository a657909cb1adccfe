"""Runs the catalogue once and prints a table: `python -m tests.engine.hostile [--loop asyncio] [words of names]`."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop

from .catalogue import CATALOGUE, Ending, Hostile
from .farm import Farm, running_farm
from .measure import measure, trusting


async def rows(farm: Farm, chosen: list[Hostile]) -> None:
    """One row for each receiver, as soon as it is through."""
    context = trusting(farm)
    for hostile in chosen:
        try:
            measured = await measure(farm, hostile, context)
        except Exception as error:  # noqa: BLE001 - the finding that this is for
            sys.stdout.write(f"| {hostile.name} | **{error!r}** | | | | |\n")
            continue
        result = measured.result
        ending = Ending(result.outcome, result.reason, result.response_status)
        status = "" if ending.status is None else f" {ending.status}"
        sys.stdout.write(
            f"| {hostile.name} | {ending.outcome} {ending.reason.name.lower()}{status}"
            f"{'' if ending in hostile.ends else ' **unexpected**'}"
            f"{f' **{measured.sockets_left} sockets left**' if measured.sockets_left else ''}"
            f" | {measured.seconds:.2f} | {measured.cpu_seconds:.3f} | {measured.memory_bytes / 2**20:+.1f}"
            f" | {measured.longest_stall_seconds * 1000:.0f} |\n"
        )
        sys.stdout.flush()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.hostile", description=__doc__)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop", help="the service's is uvloop")
    parser.add_argument("words", nargs="*", help="only receivers whose name contains one of these")
    arguments = parser.parse_args()
    chosen = [
        hostile for hostile in CATALOGUE if not arguments.words or any(word in hostile.name for word in arguments.words)
    ]
    loop_factory = uvloop.new_event_loop if arguments.loop == "uvloop" else asyncio.new_event_loop
    sys.stdout.write("| receiver | outcome | s | CPU s | memory MB | loop stalled ms |\n|---|---|---|---|---|---|\n")
    with running_farm() as farm, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(rows(farm, chosen))


if __name__ == "__main__":
    main()
