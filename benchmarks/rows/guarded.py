"""What an event costs more where callers need tokens and have rates, beside a service that anybody may call."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import Delivered, in_turns

RATIO_MAX: Final = 1.05
RATE: Final = "1000000"  # that nobody reaches
GUARDED: Final = {
    "WEBHOOK_ALLOW_ANONYMOUS": "false",
    "WEBHOOK_PUBLISH_RATE_PER_CUSTOMER": RATE,
    "WEBHOOK_PUBLISH_RATE_PER_TOKEN": RATE,
    "WEBHOOK_CALLS_RATE_PER_CUSTOMER": RATE,
    "WEBHOOK_CALLS_RATE_PER_TOKEN": RATE,
}
WAYS: Final = {"batches": "in batches", "singly": "one a call"}


async def measure(bench: Bench) -> Sequence[Figure]:
    sink, tokens = await bench.sink(), list[str]()
    open_one = await Delivered.start(bench, sink)
    service = await bench.service(settings=GUARDED, prepare=_with_token(bench.program, tokens))
    guarded = await Delivered.on(bench, sink, service, token=tokens[0])
    both = (open_one, guarded)
    await in_turns(bench, *(one.batches for one in both), *(one.singly for one in both))
    return [
        Figure(
            f"{said}: CPU an event, service",
            guarded.cpu_ms(way, "service"),
            "ms",
            open_one.cpu_ms(way, "service"),
            at_most=RATIO_MAX,
        )
        for way, said in WAYS.items()
    ]


def _with_token(program: Path, made: list[str]) -> Callable[[str], None]:
    """Returns what makes a token of the database for admins, and appends it."""
    create = (program, "tokens", "create", "--role", "admin", "--all-customers", "--database")

    def prepare(url: str) -> None:
        environment = {**os.environ, "WEBHOOK_DATABASE_URL": url}
        made.append(subprocess.run(create, env=environment, capture_output=True, text=True, check=True).stdout.strip())

    return prepare


ROW: Final = Row(
    name="guarded",
    what="CPU time for each delivered event, where a token of the database is needed and token and customer have rates",
    limit="the same on a service that anybody may call, without rates",
    target="at most 1.05, in batches and one a call",
    seconds=135,
    measure=measure,
    is_apart=True,
)
