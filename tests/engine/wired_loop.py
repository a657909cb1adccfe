"""A simulated loop whose connections are wires: what arrives on each, and when, is a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation.loop import SimulatedLoop

END: Final = "end of the receiver's bytes"
LOST: Final = "connection lost"
RESET: Final = "connection reset"


@dataclass(frozen=True)
class Happening:
    """What arrives: bytes, or one of the ends; so many seconds after the one before."""

    what: bytes | str
    after_seconds: float = 0.0


@dataclass(frozen=True)
class Script:
    """What happens on a connection, from its beginning or from its first request on. None: it is refused."""

    happenings: Sequence[Happening] = ()
    waits_for_request: bool = True
    is_refused: bool = False


class Wire(asyncio.Transport):
    """One end of a connection. It delivers nothing any more once it was aborted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any, script: Script) -> None:
        super().__init__({"peername": ("127.0.0.1", 80)})
        self._loop = loop
        self._protocol = protocol
        self._script = script
        self.requests: list[bytes] = []
        self.is_open = True
        self.delivered = b""

    def begin(self) -> None:
        """Begins the script, unless it waits for a request."""
        if not self._script.waits_for_request:
            self._play(0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes a whole request."""
        assert self.is_open, "written to after it was aborted"
        self.requests.append(bytes(data))
        if self._script.waits_for_request and len(self.requests) == 1:
            self._play(0)

    def _play(self, number: int) -> None:
        if number < len(self._script.happenings):
            self._loop.call_later(self._script.happenings[number].after_seconds, self._happen, number)

    def _happen(self, number: int) -> None:
        if not self.is_open:
            return
        what = self._script.happenings[number].what
        if isinstance(what, bytes):
            self.delivered += what
            self._protocol.data_received(what)
        elif what == END:
            self._protocol.eof_received()
        else:
            self._lose(ConnectionResetError() if what == RESET else None)
        self._play(number + 1)

    def _lose(self, error: Exception | None) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.call_soon(self._protocol.connection_lost, error)

    def abort(self) -> None:
        """Ends the connection."""
        self._lose(None)

    def is_closing(self) -> bool:
        """Returns whether nothing may be written any more."""
        return not self.is_open

    def get_write_buffer_size(self) -> int:
        """Returns 0: all is taken at once."""
        return 0


class WiredLoop(SimulatedLoop):
    """Makes wires. Each connection has the next script, and the last one serves all that follow."""

    def __init__(self, seed: int, scripts: Sequence[Script]) -> None:
        super().__init__(seed)
        self._scripts = list(scripts)
        self.wires: list[Wire] = []
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    async def create_connection(self, protocol_factory: Callable[[], Any], *_: Any, **__: Any) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride, reportIncompatibleMethodOverride]
        """Makes a wire, in a moment or two."""
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        await asyncio.sleep(0)
        if script.is_refused:
            raise ConnectionRefusedError
        protocol = protocol_factory()
        wire = Wire(self, protocol, script)
        self.wires.append(wire)
        protocol.connection_made(wire)
        wire.begin()
        await asyncio.sleep(0)
        return wire, protocol
