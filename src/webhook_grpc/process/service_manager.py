"""Says to a service manager (systemd, `Type=notify`) that the service is ready, stops, and still moves.

The words go as datagrams to the socket that NOTIFY_SOCKET names; what does not get through is said again. The beat that
its watchdog waits for is sent by the event loop itself, so none is sent while that stands still. Without a manager
nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final, Self

import structlog

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0  # between two looks whether there is something to say again, where no beat is wanted
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_BEAT: Final = "WATCHDOG=1"


@dataclass(slots=True)
class ServiceManager:
    """Where the manager listens, and how often it wants to hear that the process moves."""

    address: str = ""
    beat_seconds: float | None = None
    _unsent: list[str] = field(default_factory=list[str], init=False)  # at most one of each kind, in order
    _is_away: bool = field(default=False, init=False)
    _is_stopping: bool = field(default=False, init=False)

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> Self:
        """Takes what is for this process out of an environment: its children, and Postgres, are not to answer."""
        path, every_us, pid = (environment.pop(name, "") for name in _VARIABLES)
        is_watched = every_us.isascii() and every_us.isdigit() and int(every_us) > 0 and pid in {"", str(os.getpid())}
        return cls(path, int(every_us) / 2_000_000 if is_watched else None)  # twice as often as it has to be

    def ready(self) -> None:
        """Says that the service serves, for the first time or after a reload."""
        if not self._is_stopping:
            self._say("READY=1")

    def reloading(self) -> None:
        """Says that files are read again, until `ready` is said."""
        if not self._is_stopping:
            self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Says that the service drains. It is neither ready nor reloading after that."""
        self._is_stopping = True
        self._say("STOPPING=1")

    async def run(self) -> None:
        """Says again and again that the event loop moves, and what could not be said before, until it is cancelled."""
        while self.address:
            self._say(*([] if self.beat_seconds is None else [_BEAT]))
            await asyncio.sleep(self.beat_seconds or _PAUSE_SECONDS)  # the beat that the manager waits for

    def _say(self, *words: str) -> None:
        """Sends what was not sent, then these. Neither waits nor raises: a service whose manager is away goes on."""
        if not self.address:
            return
        kept = [each for each in self._unsent if each.partition("=")[0] not in {new.partition("=")[0] for new in words}]
        self._unsent = [*kept, *words]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.setblocking(False)
                while self._unsent:
                    end.sendto(self._unsent[0].encode(), f"\0{self.address[1:]}" if self._is_abstract else self.address)
                    del self._unsent[0]
        except (OSError, ValueError) as error:  # BlockingIOError: it does not read fast enough
            self._note_away(str(error))
        else:
            self._is_away = False

    @property
    def _is_abstract(self) -> bool:
        return self.address.startswith("@")

    def _note_away(self, problem: str) -> None:
        if not self._is_away:
            log.warning("the service manager can't be reached", unsaid=len(self._unsent), problem=problem)
        self._is_away = True
