"""New calls: all that have come are taken in one turn of the event loop, up to CALLS_ASKED.

grpc.aio asks gRPC for one call, and for the next one when it has that: one call in two turns of the loop, in the order
in which they came. While turns take long, a call then waits behind all that others have opened and perhaps left again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, cast

from grpc._cython import cygrpc  # pyright: ignore[reportMissingTypeStubs, reportAttributeAccessIssue] - it has none

CALLS_ASKED: Final = 32

_cygrpc: Any = cast("Any", cygrpc)


class Arrivals:
    """The calls that gRPC was asked for, and those that have come and that nobody has taken yet."""

    def __init__(self) -> None:
        self._request: Callable[[], Coroutine[Any, Any, Any]] | None = None
        # What waits for each call, by the future that it waits for, in the order in which they were asked for
        self._asked = dict[asyncio.Future[Any], Coroutine[Any, Any, Any]]()
        self._come = asyncio.Queue[Any]()  # calls, and exceptions; at most those that were asked for
        self._is_stopping = False

    async def next(self, request: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Returns the next call. Raises what `request` raises, which is asked for each call."""
        if self._request is None:
            self._request = request
            for _ in range(CALLS_ASKED):
                self._ask(request)
        come = await self._come.get()
        if isinstance(come, Exception):
            raise come
        return come

    def take(self) -> None:
        """Takes the calls that have come, without waiting for the turn in which the loop calls what waits for them."""
        while self._asked and (first := next(iter(self._asked))).done():
            self._end(first)

    def stop(self) -> None:
        """Drops the calls that have come, and those that come from now on."""
        self._is_stopping = True
        while not self._come.empty():
            self._come.get_nowait()

    def _ask(self, request: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        asking = request()
        try:
            coming = asking.send(None)  # gRPC is asked, and completes this future
        except Exception as error:  # noqa: BLE001 - whatever it is, grpc.aio gets it where it takes calls
            self._come.put_nowait(error)
            return
        self._asked[coming] = asking
        coming.add_done_callback(self._end)

    def _end(self, coming: asyncio.Future[Any]) -> None:
        asking = self._asked.pop(coming, None)
        if asking is None or self._request is None:
            return  # it was taken before
        try:
            asking.send(None)
        except StopIteration as ended:
            if not self._is_stopping:  # else the call ends, because nothing refers to it
                self._come.put_nowait(ended.value)
        except Exception as error:  # noqa: BLE001 - whatever it is, grpc.aio gets it where it takes calls
            self._come.put_nowait(error)
            return
        self._ask(self._request)


class AskingServer(_cygrpc.AioServer):
    """The server of grpc.aio, which has so many calls asked for at any time."""

    def __init__(self, arrivals: Arrivals, *arguments: Any) -> None:
        made: Any = super()
        made.__init__(*arguments)
        self._arrivals = arrivals

    async def shutdown(self, grace: float | None) -> None:
        """Stops. Calls that nobody has taken yet are dropped, which ends them: grpc.aio takes no more."""
        of_grpc: Any = super()
        stopping = asyncio.ensure_future(of_grpc.shutdown(grace))
        self._arrivals.stop()
        await stopping

    async def _request_call(self) -> Any:
        """Returns the next call: grpc.aio calls this for each. Raises when the server stops."""
        of_grpc: Any = super()
        return await self._arrivals.next(of_grpc._request_call)  # noqa: SLF001 - what grpc.aio itself calls


@contextlib.contextmanager
def asking(arrivals: Arrivals | None = None) -> Generator[None]:
    """Makes a server that grpc.aio makes within the block ask like that. `arrivals`: of this server alone."""

    def one(*arguments: Any) -> AskingServer:
        return AskingServer(arrivals or Arrivals(), *arguments)

    made = _cygrpc.AioServer
    _cygrpc.AioServer = one
    try:
        yield
    finally:
        _cygrpc.AioServer = made
