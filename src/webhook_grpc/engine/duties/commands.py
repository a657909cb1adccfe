"""Carries out what callers ask of deliveries in our shards: restart, cancel, test.

A command is a row. It is looked for at a hint at once, by polling at the latest, and goes with its effect in one
statement of the settler, so that whatever ends in between, it is carried out by whoever owns the shard then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog

from webhook_grpc.domain.command import Command, Kind
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import delivery_id_text, shard_of
from webhook_grpc.domain.model import Danger, DeliveryStatus, PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.domain.progress import Service
from webhook_grpc.engine.attempt import Deliverer
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.ownership import Ownership
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.engine.unsettled import FencedQueue
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import DatabaseOptions, LoopConnection
from webhook_grpc.store.outbox import commands, due
from webhook_grpc.store.outbox.due import FoundRow
from webhook_grpc.store.outbox.execution import Executed
from webhook_grpc.store.registry import webhooks

log = structlog.get_logger(__name__)

TEST_TIMEOUT_SECONDS_MAX: Final = 20.0  # so that its caller, who waits for it, hears of it in time
TEST_AGE_SECONDS_MAX: Final = 60.0  # nobody waits for one that is older
_TESTS_MAX: Final = 50  # at once
_TESTS_PER_CUSTOMER_MAX: Final = 10  # of these: a receiver may take 20 s, and others test theirs too
_FAULT_PAUSE_SECONDS: Final = 1.0
_COMMANDS_PER_LOOK: Final = 2500
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)

Key = tuple[Kind, int, UUID]


class Commands:
    """Knows which commands are being carried out. `on_restarted` is told the shards in which something became due."""

    def __init__(
        self,
        options: DatabaseOptions,
        poll_seconds: float,
        ownership: Ownership,
        lanes: Lanes,
        deliverer: Deliverer,
        unsettled: FencedQueue[Command],
    ) -> None:
        self._connection = LoopConnection(options, "commands")
        self._looking = options.progress.work("look for commands", Service.DELIVERY)
        self._poll_seconds = poll_seconds
        self._ownership = ownership
        self._lanes = lanes
        self._deliverer = deliverer
        self._unsettled = unsettled
        self._taken: set[Key] = set()
        self._stale_rows = StaleRows()
        self._tests: dict[int, asyncio.Task[None]] = {}  # one at a time for each webhook
        self._testing = Counter[int]()  # how many of these each customer has
        self._wake = asyncio.Event()
        self._stopping = False
        self.on_restarted: Callable[[set[int]], None] = _ignore
        self.on_cancelled: Callable[[int, UUID], None] = _ignore
        self.on_logged: Callable[[], None] = _ignore

    def wake(self, _: Iterable[int] = ()) -> None:
        """There may be commands: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Looks for commands until it is cancelled."""
        try:
            while True:
                with contextlib.suppress(Unavailable), watched(self._looking):
                    await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._tests.values():
                task.cancel()

    async def drain(self, seconds: float) -> None:
        """Takes up nothing more and lets tests in progress end, but not longer than this."""
        self._stopping = True
        if self._tests:
            await asyncio.wait(self._tests.values(), timeout=seconds)

    def is_idle(self, shard: int) -> bool:
        """Whether no command of the shard is being carried out: a test would be made again by the next owner."""
        return all(shard_of(webhook_id) != shard for _, webhook_id, _ in self._taken)

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    def forget_shards(self, shards: Iterable[int]) -> None:
        """The shards are somebody else's, who finds their commands."""
        lost = set(shards)
        for kind, webhook_id, event_id in [key for key in self._taken if shard_of(key[1]) in lost]:
            self._let_go(kind, webhook_id, event_id)

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        """The database has answered for these commands."""
        for command in batch:
            if command.kind is Kind.CANCEL:
                self.on_cancelled(command.webhook_id, command.event_id)
            self._stale_rows.add(command.key)
            self._let_go(*command.key)
        for change in executed:
            log.info(
                "command carried out",
                delivery_id=delivery_id_text(change.event_id, change.webhook_id),
                status=change.status.value,
            )
        restarted = {change.shard for change in executed if change.status is DeliveryStatus.PENDING}
        if restarted:
            self.on_restarted(restarted)
        if executed:
            self.on_logged()
        self._wake.set()

    def dropped(self, batch: Sequence[Command]) -> None:
        """These can't be carried out here: their shards are somebody else's."""
        for command in batch:
            self._let_go(*command.key)

    async def _look(self) -> None:
        shards = self._ownership.sendable
        if not shards or self._stopping:
            return
        epochs, mark = self._ownership.epochs(), self._stale_rows.begin()
        try:
            for command in await commands.waiting(self._connection, shards, _COMMANDS_PER_LOOK):
                if self._is_new(command, epochs, mark):
                    self._take_up(command)
        finally:
            self._stale_rows.end(mark)

    def _is_new(self, command: Command, epochs: Mapping[int, int], mark: int) -> bool:
        """Whether it is ours, and was not carried out while its row was on the way: a test would be sent once more."""
        is_settled = self._stale_rows.settled_since(command.key, mark)
        return self._is_ours(command, epochs) and command.key not in self._taken and not is_settled

    def _is_ours(self, command: Command, epochs: Mapping[int, int]) -> bool:
        """Whether its shard is ours, and was so without a break since the epochs were those."""
        ownership = self._ownership
        return command.shard in ownership.sendable and ownership.owned[command.shard].epoch == epochs.get(command.shard)

    def _take_up(self, command: Command) -> None:
        if command.kind is Kind.TEST:
            self._start_test(command)
        elif command.kind is not Kind.CANCEL or self._lanes.bar(command.webhook_id, command.event_id):
            self._taken.add(command.key)
            self._unsettled.add(command)

    def _let_go(self, kind: Kind, webhook_id: int, event_id: UUID) -> None:
        self._taken.discard((kind, webhook_id, event_id))
        if kind is Kind.CANCEL:
            self._lanes.unbar(webhook_id, event_id)

    # --- tests -----------------------------------------------------------------------------------------------------

    def _start_test(self, command: Command) -> None:
        if command.webhook_id in self._tests or len(self._tests) >= _TESTS_MAX:
            return  # it waits for its turn in the table
        if self._testing[command.customer_id] >= _TESTS_PER_CUSTOMER_MAX:
            return
        self._testing[command.customer_id] += 1
        self._taken.add(command.key)
        task = asyncio.create_task(self._test(command), name=f"test {command.webhook_id}")
        self._tests[command.webhook_id] = task
        task.add_done_callback(lambda _: self._test_ended(command))

    def _test_ended(self, command: Command) -> None:
        self._tests.pop(command.webhook_id, None)
        self._testing[command.customer_id] -= 1
        if not self._testing[command.customer_id]:
            del self._testing[command.customer_id]
        self._wake.set()

    async def _test(self, command: Command) -> None:
        """Makes the one attempt of a test. If that is not possible here and now, its row stays for another look."""
        try:
            tested = await self._tested(command)
            if tested is None:
                self._taken.discard(command.key)
            else:
                self._unsettled.add(tested)
        except (SenderFault, Unavailable) as error:
            log.warning("test not made", webhook_id=command.webhook_id, text=cause_of(error).text)
            try:
                await asyncio.sleep(_FAULT_PAUSE_SECONDS)  # else it is tried as fast as the database answers
            finally:
                self._taken.discard(command.key)
        except asyncio.CancelledError:
            self._taken.discard(command.key)
            raise
        except Exception:  # a bug must not leave the caller without an answer, nor try for ever
            log.exception("test failed", webhook_id=command.webhook_id)
            self._unsettled.add(replace(command, status=DeliveryStatus.FAILED))

    async def _tested(self, command: Command) -> Command | None:
        """The command with what came of it; None if it is not ours any more. Raises SenderFault, Unavailable."""
        epochs = self._ownership.epochs()
        [webhook] = await webhooks.by_ids(self._connection, [command.webhook_id]) or [None]
        if webhook is None or webhook.status is WebhookStatus.DELETED:
            return replace(command, status=DeliveryStatus.CANCELLED)
        delivery = await self._delivery(command)
        if command.age_seconds > TEST_AGE_SECONDS_MAX or not delivery.body:
            return replace(command, status=DeliveryStatus.EXPIRED)
        if not self._is_ours(command, epochs):
            return None  # lost while this was read
        timeout_seconds = min(webhook.timeout_seconds or TEST_TIMEOUT_SECONDS_MAX, TEST_TIMEOUT_SECONDS_MAX)
        settled = await self._deliverer.attempt(delivery, replace(webhook, timeout_seconds=timeout_seconds))
        has_succeeded = settled.decision.status is DeliveryStatus.SUCCEEDED
        status = DeliveryStatus.SUCCEEDED if has_succeeded else DeliveryStatus.FAILED  # also after 410: it is a test
        return replace(command, status=status, result=settled.result, own_headers=settled.own_headers)

    async def _delivery(self, command: Command) -> PendingDelivery:
        row = FoundRow(
            request=0,
            webhook_id=command.webhook_id,
            event_id=command.event_id,
            due_at=_LONG_AGO,
            customer_id=command.customer_id,
            attempt=0,
            danger=Danger.NONE,
            is_fresh=False,
            trigger=Trigger.TEST,
            replay_id=None,
        )
        [delivery] = await due.with_bodies(self._connection, [row])
        return delivery


def _ignore(*_: object) -> None:
    pass
