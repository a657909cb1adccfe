"""A value that is looked up again before it is too old, by one look-up at a time for all callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from webhook_grpc.domain.errors import Unavailable

Value = TypeVar("Value")

_WAIT_SECONDS: Final = 1.0  # for a newer value, when the known one will do
_AHEAD_SHARE: Final = 0.6  # of the time for which a value counts: then the next look-up begins, and nobody waits for it


class Fresh(Generic[Value]):
    """Remembers what a look-up returned. `known` is the value of the last one, however old.

    Callers that come while a look-up runs wait for it together, or for the next one if this one began too early to
    count for them. While look-ups fail, the known value stays in use.
    """

    def __init__(
        self, name: str, first: Value, look_up: Callable[[Value], Awaitable[Value]], fresh_seconds: float
    ) -> None:
        """`look_up` is called with the known value, `first` at the beginning, which counts as too old."""
        self.known = first
        self._name = name
        self._look_up = look_up
        self._fresh_seconds = fresh_seconds
        self._looked_at = float("-inf")  # when the look-up began that returned the known value
        self._failed_at = float("-inf")  # when one last failed, or took too long
        self._changed_at = float("-inf")
        self._looked_ahead_of = float("-inf")  # the value for which that was done: it is tried once
        self._look: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Lets the known value count as too old."""
        self._changed_at = time.monotonic()

    async def get(self) -> Value:
        """Returns a value that is at most `fresh_seconds` old and younger than the last call of `changed`.

        If there is none within a second, returns the known value, and does not try again for `fresh_seconds`. A value
        that will soon be too old is returned at once, and looked up again meanwhile.
        """
        now = time.monotonic()
        oldest = max(now - self._fresh_seconds, self._changed_at)
        if self._looked_at >= oldest:
            self._look_ahead(now)
        elif self._failed_at < oldest:
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._look_since(oldest)
            except (Unavailable, TimeoutError):
                self._failed_at = time.monotonic()
        return self.known

    async def since(self, moment: float) -> Value:
        """Returns a value that was looked up at that moment, in monotonic seconds, or later. Raises Unavailable."""
        await self._look_since(moment)
        return self.known

    def _look_ahead(self, now: float) -> None:
        """Begins to look up the next value, if the known one will soon be too old."""
        if now - self._looked_at >= _AHEAD_SHARE * self._fresh_seconds and self._looked_ahead_of != self._looked_at:
            self._looked_ahead_of = self._looked_at
            self._begin_look()

    async def _look_since(self, moment: float) -> None:
        while self._looked_at < moment:
            look = self._begin_look()
            await asyncio.shield(look)  # a caller that gives up must not take the answer from the others

    def _begin_look(self) -> asyncio.Task[None]:
        """Returns the look-up that runs, a new one if none does."""
        # A task that has ended counts as none: to wait for it yields to nobody, and its callbacks would never run.
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_once(), name=self._name)
            self._look.add_done_callback(_take_exception)
        return self._look

    async def _look_once(self) -> None:
        began_at = time.monotonic()
        self.known = await self._look_up(self.known)
        self._looked_at = began_at


def _take_exception(look: asyncio.Task[None]) -> None:
    """Marks the exception of a look-up as seen: the callers have it, if there are any left."""
    if not look.cancelled():
        look.exception()
