"""Who hears what happens to shards, results and commands: each class hands on to each part what concerns the part."""

from __future__ import annotations

import time
from collections.abc import Sequence

from webhook_grpc.domain.command import Command
from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.duties.rescheduling import Rescheduling
from webhook_grpc.engine.queue.fetcher import Fetcher
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.receivers.paces import Paces
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.outbox.execution import Executed

from .dispatcher import Dispatcher
from .poison import PoisonGuard
from .unsettled import EndedTurn


class OfShards:
    """The listener of `Ownership`."""

    def __init__(
        self,
        lanes: Lanes,
        paces: Paces,
        poison: PoisonGuard,
        fetcher: Fetcher,
        dispatcher: Dispatcher,
        commands: Commands,
        rescheduling: Rescheduling,
    ) -> None:
        self._lanes = lanes
        self._paces = paces
        self._poison = poison
        self._fetcher = fetcher
        self._dispatcher = dispatcher
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


class OfResults:
    """The listener of `Settler` for results."""

    def __init__(self, dispatcher: Dispatcher, hints: Hints) -> None:
        self._dispatcher = dispatcher
        self._hints = hints

    def note_settled(self, batch: Sequence[EndedTurn]) -> None:
        """Frees what waited for these results, and reports that the log grew."""
        self._dispatcher.note_settled(batch)
        self._hints.logged()

    def put_back(self, batch: Sequence[EndedTurn]) -> None:
        """Frees the deliveries of these results, whose shards are another process's."""
        self._dispatcher.put_back(batch)


class OfCommands:
    """The listener of `Settler` for commands."""

    def __init__(self, commands: Commands, hints: Hints) -> None:
        self._commands = commands
        self._hints = hints

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        """Frees these commands, and reports that the log grew if they changed something."""
        self._commands.executed(batch, executed)
        if executed:
            self._hints.logged()

    def dropped(self, batch: Sequence[Command]) -> None:
        """Frees these commands, whose shards are another process's."""
        self._commands.dropped(batch)
