"""New calls: all that have come are taken in one turn of the event loop, up to CALLS_ASKED.

grpc.aio asks gRPC for one call, and for the next one when it has that: one call in two turns of the loop, in the order
in which they came. While turns take long, a call then waits behind all that others have opened and perhaps left again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any, Final, cast

from grpc._cython import cygrpc  # pyright: ignore[reportMissingTypeStubs, reportAttributeAccessIssue] - it has none

CALLS_ASKED: Final = 32

_cygrpc: Any = cast("Any", cygrpc)


class AskingServer(_cygrpc.AioServer):
    """The server of grpc.aio, which has so many calls asked for at any time."""

    def __init__(self, *arguments: Any) -> None:
        made: Any = super()
        made.__init__(*arguments)
        self._come = asyncio.Queue[Any]()  # calls, and exceptions; at most those that were asked for
        self._asking = list[asyncio.Task[None]]()
        self._is_stopping = False

    async def shutdown(self, grace: float | None) -> None:
        """Stops. Calls that nobody has taken yet are dropped, which ends them: grpc.aio takes no more."""
        of_grpc: Any = super()
        stopping = asyncio.ensure_future(of_grpc.shutdown(grace))
        self._is_stopping = True
        while not self._come.empty():
            self._come.get_nowait()
        await stopping

    async def _request_call(self) -> Any:
        """Returns the next call: grpc.aio calls this for each. Raises when the server stops."""
        if not self._asking:
            names = [f"ask for calls {number}" for number in range(CALLS_ASKED)]
            self._asking = [asyncio.create_task(self._ask(), name=name) for name in names]
        come = await self._come.get()
        if isinstance(come, Exception):
            raise come
        return come

    async def _ask(self) -> None:
        of_grpc: Any = super()
        try:
            while True:
                come = await of_grpc._request_call()  # noqa: SLF001 - what grpc.aio itself calls
                if not self._is_stopping:
                    self._come.put_nowait(come)
                del come  # a call that nobody takes ends when nothing refers to it
        except Exception as error:  # noqa: BLE001 - raised where calls are taken
            self._come.put_nowait(error)


@contextlib.contextmanager
def asking() -> Generator[None]:
    """Makes servers that grpc.aio makes within the block ask like that."""
    made = _cygrpc.AioServer
    _cygrpc.AioServer = AskingServer
    try:
        yield
    finally:
        _cygrpc.AioServer = made
