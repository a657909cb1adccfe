"""The shards in which something became due. Any part adds a shard; the fetcher looks at the shard at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from .lanes import Lanes


class DueHints:
    """The shards to look at. Any part adds to them; only the fetcher takes them out and waits."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._shards = set[int]()
        self._looked_at = set[int]()  # taken out, and what a look at them finds is not known yet
        self._wake = asyncio.Event()

    def wake(self, shards: Iterable[int] = ()) -> None:
        """Lets the fetcher look now. Something became due, probably in these shards."""
        hinted = set(shards)
        for lane in self._lanes:
            if lane.shard in hinted:
                lane.reading.note_due()
        self.discover(hinted)

    def discover(self, shards: Iterable[int] = ()) -> None:
        """Lets the fetcher look now for webhooks of these shards that have no lane."""
        self._shards.update(shards)
        self._wake.set()

    def take(self, more: Iterable[int]) -> set[int]:
        """Takes out all hints and returns them with more shards: some may belong to other processes by now."""
        self._looked_at, self._shards = self._shards | set(more), set[int]()
        return self._looked_at

    def give_back(self) -> None:
        """Keeps the hints that were taken out for the next look: this one failed."""
        self._shards |= self._looked_at

    def end_look(self) -> None:
        """Notes that what the table had in the shards that were taken out is known."""
        self._looked_at = set[int]()

    def names(self, shard: int) -> bool:
        """Returns whether something may be due in the shard that no look has seen yet."""
        return shard in self._shards or shard in self._looked_at

    async def wait(self, seconds: float) -> None:
        """Waits for a hint, but not longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def begin_look(self) -> None:
        """Notes that a look begins, which covers every hint until now."""
        self._wake.clear()
