"""Carries out what callers want done with deliveries in our shards: restart, cancel, test.

A command is a row. It is found at a hint at once, by polling at the latest, and deleted in the
settler's statement that carries it out. So a command is never lost when a process ends: the next owner finds its row.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog

from webhook_grpc.domain.command import Command, CommandKey, Kind
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import delivery_id_text, shard_of
from webhook_grpc.domain.progress import Service
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.engine.shards import Shards
from webhook_grpc.engine.unsettled import FencedQueue
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import commands
from webhook_grpc.store.outbox.execution import Executed

from .webhook_tests import WebhookTests

log = structlog.get_logger(__name__)

_COMMANDS_PER_LOOK: Final = 2500


class Commands:
    """Knows which commands are being carried out."""

    def __init__(
        self,
        connection: LoopConnection,
        poll_seconds: float,
        shards: Shards,
        lanes: Lanes,
        tests: WebhookTests,
        unsettled: FencedQueue[Command],
    ) -> None:
        self._connection = connection
        self._looking = connection.progress.work("look for commands", Service.DELIVERY)
        self._poll_seconds = poll_seconds
        self._shards = shards
        self._lanes = lanes
        self._tests = tests
        self._unsettled = unsettled
        # Kept until the database has answered, even if the shard is lost: if it comes back, no test is made twice.
        self._taken: set[CommandKey] = set()
        self._stale_rows = StaleRows()
        self._testing: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Looks for commands now rather than at the next poll."""
        self._wake.set()

    def commanded(self, shards: Collection[int]) -> None:
        """Looks for commands now, if one of these shards is ours."""
        if not self._shards.owned.keys().isdisjoint(shards):
            self.wake()

    async def run(self) -> None:
        """Looks for commands until the task is cancelled, which cancels the tests in progress too."""
        async with asyncio.TaskGroup() as tests:
            while True:
                if self._shards.sendable:  # else nothing is tried, which says nothing of the database
                    with contextlib.suppress(Unavailable), watched(self._looking):
                        await self._look(tests)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._wake.wait()
                self._wake.clear()

    async def drain(self, seconds: float) -> None:
        """Takes up no more commands and waits for the tests in progress, but not longer than this."""
        self._stopping = True
        if self._testing:
            await asyncio.wait(self._testing, timeout=seconds)

    def is_idle(self, shard: int) -> bool:
        """Returns whether no command of the shard is being carried out: the next owner would make a test again."""
        return all(shard_of(webhook_id) != shard for _, webhook_id, _ in self._taken)

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        """Takes in that the database has answered for these commands, and which of them changed something."""
        for command in batch:
            self._stale_rows.add(command.key)
            self._release(*command.key)
        for change in executed:
            log.info(
                "command carried out",
                delivery_id=delivery_id_text(change.event_id, change.webhook_id),
                status=change.status.value,
            )
        self.wake()

    def dropped(self, batch: Sequence[Command]) -> None:
        """Takes in that these commands are not carried out: their shards are lost, or the database has refused them."""
        for command in batch:
            self._release(*command.key)

    async def _look(self, tests: asyncio.TaskGroup) -> None:
        shards = self._shards.sendable
        if not shards or self._stopping:
            return
        epochs, read = self._shards.epochs(), self._stale_rows.begin()
        try:
            for command in await commands.waiting(self._connection, shards, _COMMANDS_PER_LOOK):
                if self._is_new(command, epochs, read):
                    self._take_up(command, tests)
        finally:
            self._stale_rows.end(read)

    def _is_new(self, command: Command, epochs: Mapping[int, int], read: int) -> bool:
        """Returns whether the command is ours and was not carried out while its row was on the way.

        Else a test would be sent once more.
        """
        is_ours = self._shards.is_sendable_since(command.shard, epochs)
        is_settled = self._stale_rows.settled_since(command.key, read)
        return is_ours and command.key not in self._taken and not is_settled

    def _take_up(self, command: Command, tests: asyncio.TaskGroup) -> None:
        if command.kind is Kind.TEST:
            if self._tests.admit(command):
                self._taken.add(command.key)
                task = tests.create_task(self._test(command), name=f"test {command.webhook_id}")
                self._testing.add(task)
                task.add_done_callback(self._testing.discard)
        elif command.kind is not Kind.CANCEL or self._lanes.bar(command.webhook_id, command.event_id):
            self._taken.add(command.key)
            self._unsettled.add(command)

    async def _test(self, command: Command) -> None:
        tested = None
        try:
            tested = await self._tests.make(command)
        finally:
            if tested is None:  # the next owner makes it, or the next look does
                self._taken.discard(command.key)
            else:
                self._unsettled.add(tested)
            self.wake()

    def _release(self, kind: Kind, webhook_id: int, event_id: UUID) -> None:
        self._taken.discard((kind, webhook_id, event_id))
        if kind is Kind.CANCEL:
            self._lanes.unbar(webhook_id, event_id)
