"""What a child of `serve --processes` knows of its parent and of the other children.

All of them share their addresses, so no answer may depend on which of them was met: health checks speak for all, and
whoever is met shows the figures of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
import structlog

from webhook_grpc.domain.record import record
from webhook_grpc.process.stopping import Reload, Stop

from .line_channel import LineChannel, Message

log = structlog.get_logger(__name__)

FIGURES_SECONDS_MAX: Final = 5.0  # for the parent to ask all children, each of which has less time
_ASSIGNMENT_BYTES_MAX: Final = 16_000_000


class ParentGone(Exception):
    """The parent ended before it has said what is to be done."""


@record
class Assignment:
    """What a child is to be: `number` of all, from 1, and the settings that its parent has decided for all."""

    number: int
    settings: Mapping[str, Any]


@record
class AllFigures:
    """The text of each process that has answered, by number, and how often each was restarted."""

    texts: Mapping[str, str]
    restarts: Mapping[str, int]


class Siblings:
    """The end of a child. `run` has to run; what comes is given to whoever `run` was called with."""

    def __init__(self, end: socket.socket, stop: Stop, reload: Reload) -> None:
        """Waits for the assignment. Raises ParentGone."""
        self._end = end
        self._stop = stop
        self._reload = reload
        self.assignment = _read_assignment(end)
        self._channel: LineChannel | None = None
        self._asked: dict[int, asyncio.Future[AllFigures]] = {}
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Begins to send. Before that, nothing is sent."""
        self._channel = await LineChannel.open(self._end)

    async def run(
        self,
        hurry: Callable[[], None],
        figures: Callable[[], bytes],
        set_unwell: Callable[[Mapping[str, list[str]]], Awaitable[None]],
    ) -> None:
        """Hears the parent until it is gone, then asks this process to stop, and waits to be cancelled.

        `hurry`: another process came or died. `figures`: returns those of this process. `set_unwell` takes in which
        services of which others do not serve.
        """
        assert self._channel is not None
        async for message in self._channel.messages():
            match message["kind"]:
                case "hurry":
                    hurry()
                case "reload":
                    self._reload.request()
                case "figures":
                    self._send({"kind": "figures", "id": message["id"], "text": figures().decode()})
                case "all figures":
                    self._take_in(message)
                case _:
                    await set_unwell(message["services"])
        log.warning("the parent is gone: this process stops")
        self._stop.request()
        await asyncio.Event().wait()

    def report_schema(self, schema: str | None) -> None:
        """Reports the schema of our tables: all that are started from now on work there, whatever is made meanwhile."""
        self._send({"kind": "schema", "schema": schema})

    def report_ready(self, grpc_port: int, http_port: int | None) -> None:
        """Reports that this process serves."""
        self._send({"kind": "ready", "grpc": grpc_port, "http": http_port})

    async def report_serving(self, service: str, serving: bool) -> None:
        """Reports whether a service of this process serves."""
        self._send({"kind": "serving", "service": service, "serving": serving})

    async def all_figures(self) -> AllFigures:
        """Returns the figures of all processes. Raises TimeoutError."""
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"kind": "all figures", "id": number})
        try:
            async with asyncio.timeout(FIGURES_SECONDS_MAX):
                return await future
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Closes this end."""
        if self._channel is not None:
            self._channel.close()

    def _take_in(self, message: Message) -> None:
        future = self._asked.get(message["id"])
        if future is not None and not future.done():
            future.set_result(AllFigures(message["texts"], message["restarts"]))

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)


def _read_assignment(end: socket.socket) -> Assignment:
    """Reads the first line, and nothing of what follows it."""
    line = bytearray()
    with contextlib.suppress(ConnectionError):
        while not line.endswith(b"\n") and len(line) < _ASSIGNMENT_BYTES_MAX and (byte := end.recv(1)):
            line += byte
    if not line.endswith(b"\n"):
        raise ParentGone
    return Assignment(**orjson.loads(line))
