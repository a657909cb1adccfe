"""The protocol of the workers: a line of JSON in, a line of JSON out, one command at a time."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop

Command = Callable[..., Awaitable[Any]]


async def serve(commands: Mapping[str, Command], ready: Any = None) -> None:
    """Answers commands until the standard input ends, which it does with the process that measures."""
    lines = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _say({"answer": ready})
    while line := await lines.readline():
        asked: dict[str, Any] = json.loads(line)
        try:
            _say({"answer": await commands[asked.pop("do")](**asked)})
        except Exception as error:  # noqa: BLE001 - the row that asked reports whatever it was
            _say({"error": f"{type(error).__name__}: {error}"[:2000]})


def _say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def run(main: Awaitable[None]) -> None:
    """Runs a worker on uvloop."""
    uvloop.run(_awaited(main))


async def _awaited(main: Awaitable[None]) -> None:
    await main
