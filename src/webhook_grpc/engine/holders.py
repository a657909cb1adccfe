"""Which parts of the engine hold something of a shard, and in which order they hear what happens to it."""

from __future__ import annotations

import time

from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.duties.rescheduling import Rescheduling
from webhook_grpc.engine.queue.fetcher import Fetcher
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.receivers.paces import Paces

from .dispatcher import Dispatcher
from .poison import PoisonGuard


class Holders:
    """The one listener of `Ownership`: hands on to each part what concerns it."""

    def __init__(
        self,
        lanes: Lanes,
        paces: Paces,
        poison: PoisonGuard,
        dispatcher: Dispatcher,
        fetcher: Fetcher,
        commands: Commands,
        rescheduling: Rescheduling,
    ) -> None:
        self._lanes = lanes
        self._paces = paces
        self._poison = poison
        self._dispatcher = dispatcher
        self._fetcher = fetcher
        self._commands = commands
        self._rescheduling = rescheduling

    def gained(self, shards: set[int]) -> None:
        """Begins work for these shards: paces first, because rate limits count from now."""
        self._paces.gained(shards, time.monotonic())
        self._dispatcher.gained(shards)
        self._fetcher.gained(shards)
        self._commands.wake()
        self._rescheduling.look_through(shards)

    def leaving(self, shards: set[int]) -> None:
        """Starts no more attempts for these shards."""
        self._lanes.close_shards(shards)

    def lost(self, shards: set[int]) -> None:
        """Forgets everything about these shards."""
        self._lanes.forget_shards(shards)
        self._paces.forget_shards(shards)
        self._poison.forget_shards(shards)
        self._commands.forget_shards(shards)

    def is_idle(self, shard: int) -> bool:
        """Returns whether nothing that was started for the shard is unsettled."""
        return self._lanes.is_idle(shard) and self._commands.is_idle(shard)

    async def before_release(self) -> None:
        """Saves the health of webhooks for the next owner."""
        await self._paces.save()
