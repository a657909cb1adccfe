"""Counts turns of the event loop between steps of a call: a figure that does not depend on how busy the machine is."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


class LoopTurns:
    """The turns of the running loop, and in which of them the steps that are marked came."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.now = 0
        """The number of this turn."""
        self._at: dict[str, list[int]] = defaultdict(list)
        loop: Any = asyncio.get_running_loop()
        turn = loop._run_once

        def counted() -> None:
            self.now += 1
            turn()

        monkeypatch.setattr(loop, "_run_once", counted, raising=False)

    def mark(self, step: str) -> None:
        """Notes that a step has come, in this turn."""
        self._at[step].append(self.now)

    def between(self, step: str, later: str) -> int:
        """Returns how many turns pass from a step to a later one, the least of all times: it may meet other work."""
        pairs = zip(self._at[step], self._at[later], strict=True)
        return min(second - first for first, second in pairs)

    def forget(self) -> None:
        """Forgets the steps that have come."""
        self._at.clear()

    def watch(
        self,
        owner: Any,
        name: str,
        *,
        begin: str = "",
        end: str = "",
        wanted: Callable[..., bool] = lambda *_, **__: True,
    ) -> None:
        """Marks when a coroutine function of a class or a module is called, and when it has returned.

        `wanted`: of which calls, by their arguments.
        """
        function: Callable[..., Awaitable[Any]] = getattr(owner, name)

        @functools.wraps(function)
        async def marked(*arguments: Any, **options: Any) -> Any:
            is_wanted = wanted(*arguments, **options)
            if is_wanted and begin:
                self.mark(begin)
            answer = await function(*arguments, **options)
            if is_wanted and end:
                self.mark(end)
            return answer

        self._monkeypatch.setattr(owner, name, marked)
