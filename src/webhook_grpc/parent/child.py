"""One child: starts it by exec, hears what it says, and knows how it does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from webhook_grpc.domain.restarts import Restarts
from webhook_grpc.process.family.line_channel import LineChannel, Message

COMMAND: Final = (sys.executable, "-P", "-m", "webhook_grpc", "serve", "--as-child-of")


class Child:
    """The process with one number: another one after each restart."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.restarts = Restarts()
        self.unwell = set[str]()
        """Its services that do not serve."""
        self.ready_at: float | None = None
        """Since when it serves, by the monotonic clock."""
        self._process: asyncio.subprocess.Process | None = None
        self._channel: LineChannel | None = None

    @property
    def name(self) -> str:
        """Returns its number as others show it."""
        return str(self.number)

    @property
    def pid(self) -> int | None:
        """Returns its process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def run(self, assignment: Message, hear: Callable[[Child, Message], None]) -> int:
        """Runs it once, and returns its exit status, 128 and the signal if one ended it. `hear` gets what it says."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            self._process = await asyncio.create_subprocess_exec(*COMMAND, str(descriptor), pass_fds=(descriptor,))
        self._channel = channel = await LineChannel.open(ours)
        channel.send(assignment)
        try:
            async for message in channel.messages():
                if message["kind"] == "ready":
                    self.ready_at = time.monotonic()
                hear(self, message)
            status = await self._process.wait()
        finally:
            channel.close()
            self._channel = self._process = None
        return status if status >= 0 else 128 - status

    def note_end(self) -> None:
        """Forgets how it did, and notes how long it has served."""
        served_seconds = None if self.ready_at is None else time.monotonic() - self.ready_at
        self.restarts.note_end(served_seconds)
        self.ready_at = None
        self.unwell.clear()

    def send(self, message: Message) -> None:
        """Sends it a message, if it runs."""
        if self._channel is not None:
            self._channel.send(message)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal, if it runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
