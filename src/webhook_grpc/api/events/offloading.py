"""Work on what is large, in a thread beside the loop, so that no call holds up the others.

One piece at a time in a process: threads share the interpreter, so more at once would not be faster. Each customer has
one piece in the queue; further ones wait behind it, so a flood of one customer costs others one piece at most.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, ParamSpec, TypeVar

LARGE_BYTES: Final = 16 * 1024  # what is smaller is read within some milliseconds, whatever it holds

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class LargeWork:
    """Carries out functions in a thread, in turns of customers."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._of_customer = dict[Hashable, asyncio.Lock]()  # of those that have work here
        self._pieces = Counter[Hashable]()  # of each of them; a lock that is handed on is free for a moment

    async def run(
        self,
        key: Hashable,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Returns what the function returns, and raises what it raises. `key`: whose turn it takes."""
        own = self._of_customer.setdefault(key, asyncio.Lock())
        self._pieces[key] += 1
        try:
            async with own, self._turn:
                # A thread can't be cancelled: the turn is kept until it has ended.
                return await _uninterrupted(asyncio.to_thread(function, *args, **kwargs))
        finally:
            self._pieces[key] -= 1
            if not self._pieces[key]:
                del self._pieces[key], self._of_customer[key]


async def _uninterrupted(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Returns what the work returns. If it is cancelled, it ends first."""
    task = asyncio.create_task(work, name="large work")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody is there to hear of it
        raise
