"""Who hears what happens to shards and commands: each class hands on to each part what concerns the part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from webhook_grpc.domain.command import Command, Kind
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.duties.rescheduling import Rescheduling
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.intake import Intake
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.receivers.receivers import Receivers
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.outbox.execution import Executed

from .attempt_tally import AttemptTally
from .dispatcher import Dispatcher
from .poison import PoisonGuard

STUCK_SECONDS: Final = 1.0  # an attempt that runs for longer counts as stuck: most receivers answer sooner


class ShardHandover:
    """Begins and ends work for shards: the listener of `Ownership`."""

    def __init__(
        self,
        lanes: Lanes,
        receivers: Receivers,
        poison: PoisonGuard,
        due_hints: DueHints,
        dispatcher: Dispatcher,
        commands: Commands,
        rescheduling: Rescheduling,
    ) -> None:
        self._lanes = lanes
        self._receivers = receivers
        self._poison = poison
        self._due_hints = due_hints
        self._dispatcher = dispatcher
        self._commands = commands
        self._rescheduling = rescheduling

    def gained(self, shards: set[int]) -> None:
        """Begins work for these shards: paces first, because rate limits count from now."""
        self._receivers.gained(shards)
        self._dispatcher.gained(shards)
        self._due_hints.discover(shards)
        self._commands.wake()
        self._rescheduling.look_through(shards)

    def leaving(self, shards: set[int]) -> None:
        """Starts no more attempts for these shards."""
        self._lanes.close_shards(shards)

    def lost(self, shards: set[int]) -> None:
        """Forgets everything about these shards."""
        self._lanes.forget_shards(shards)
        self._receivers.forget_shards(shards)
        self._poison.forget_shards(shards)

    def is_idle(self, shard: int) -> bool:
        """Returns whether nothing that was started for the shard is unsettled."""
        return self._lanes.is_idle(shard) and self._commands.is_idle(shard)

    def is_stuck(self, shard: int, now: float) -> bool:
        """Returns whether an attempt of the shard has taken long."""
        return now - self._lanes.busy_since(shard) > STUCK_SECONDS

    async def before_release(self, shards: Collection[int]) -> None:
        """Saves the health of webhooks for the next owner, and takes back the marks on deliveries."""
        await self._receivers.save(shards)
        await self._poison.take_back(shards)


class ExecutedCommands:
    """Frees commands: the listener of `Settler` for commands."""

    def __init__(
        self,
        commands: Commands,
        intake: Intake,
        poison: PoisonGuard,
        due_hints: DueHints,
        hints: Hints,
        tally: AttemptTally,
    ) -> None:
        self._commands = commands
        self._intake = intake
        self._poison = poison
        self._due_hints = due_hints
        self._hints = hints
        self._tally = tally

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        """Frees these commands, lets the fetcher look for what they restarted, and reports that the log grew."""
        for command in batch:
            if command.kind is Kind.CANCEL:  # before the delivery may be read again
                self._intake.note_cancelled(command.webhook_id, command.event_id)
                self._poison.forget_cancelled(command.webhook_id, command.event_id)
        self._commands.executed(batch, executed)
        self._tally.executed(batch, executed)
        restarted = {change.shard for change in executed if change.status is DeliveryStatus.PENDING}
        if restarted:
            self._due_hints.wake(restarted)
        if executed:
            self._hints.logged()

    def dropped(self, batch: Sequence[Command]) -> None:
        """Frees commands that are not carried out: their shards are lost, or the database has refused them."""
        self._commands.dropped(batch)
