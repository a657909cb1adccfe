"""Careful mode: a delivery that kills its sending process must be found, and must cost no other delivery an attempt.

Normally nothing is written before a request is sent. But after a process has died without releasing its shards, each
delivery that was due in them by then is written down before it is sent: its row gets the danger SUSPECT, until its
result is settled. A row that is found with SUSPECT is of a delivery that was in flight, with others, when the second
process in a row died. Which of them was the cause is not known, so nothing is counted: each is sent again alone, one at
a time in a process, and its row gets the danger MARKED. A row that is found
MARKED means: a process has died after it began to send this delivery, and it began no other suspect after that. One
such death may be chance. After two, the attempt counts as interrupted, so the delivery backs off, and fails in the end.
From then on it is sent alone, and each death counts. A process whose lease ran out and that lives on has not died.

Who may be sent alone, and when: `Lanes`. After a second without an answer the next suspect may begin beside it; a death
is then put down to the one that had begun last. A delivery that kills only after more than a second
is found after more deaths: each time fewer suspects are left that could begin after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from enum import Enum, auto
from typing import Final
from uuid import UUID

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Danger, PendingDelivery, PendingKey
from webhook_grpc.domain.progress import Service
from webhook_grpc.engine.queue.lane import Turn
from webhook_grpc.engine.receivers.receiver import Receiver
from webhook_grpc.hub.group_commit import GroupCommit, GroupLimits
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import poison_marks
from webhook_grpc.store.ownership import poison_suspects

from .shards import Shards
from .unsettled import EndedTurn, FencedQueue

log = structlog.get_logger(__name__)

_DEATHS_MIN: Final = 2  # of processes that sent it alone
_CLEAR_AGAIN_SECONDS: Final = 1.0
_ROWS_PER_STATEMENT: Final = 500
_ROWS_WAITING_MAX: Final = 100_000  # there are never more than requests in flight

_Entry = tuple[PendingDelivery, Danger]  # what its row is to say


class Admission(Enum):
    """Whether a delivery may be sent."""

    FREE = auto()  # yes
    ALONE = auto()  # yes, and for a while no other suspect beside it
    LATER = auto()  # not now: its row is as it was, and is read again
    HAS_KILLED = auto()  # no: processes have died of it, which counts as an attempt that was interrupted


class PoisonGuard:
    """Knows which deliveries are written down before they are sent, and what this process has written itself."""

    def __init__(self, connection: LoopConnection, shards: Shards, results: FencedQueue[EndedTurn]) -> None:
        self._connection = connection
        self._writing = connection.progress.work("mark what may be dangerous", Service.DELIVERY)
        self._shards = shards
        self._results = results
        limits = GroupLimits(_ROWS_PER_STATEMENT, _ROWS_PER_STATEMENT, _ROWS_WAITING_MAX, _ROWS_WAITING_MAX)
        self._group = GroupCommit[_Entry, bool](self._flush, _one, _one, limits)
        self._written: dict[PendingKey, _Entry] = {}
        self._unsure: dict[PendingKey, _Entry] = {}  # the answer was lost: perhaps written, by this process
        self._isolated: PendingDelivery | None = None  # what this process's row of `workers` names, perhaps
        self._named: PendingDelivery | None = None  # what it names no longer with reason: that one has ended
        self._isolated_has_ended = asyncio.Event()

    async def admit(self, turn: Turn) -> Admission:
        """Returns whether the delivery of a turn may be sent, after its row says so where that is necessary."""
        delivery, receiver = turn.delivery, turn.lane.receiver
        has_killed = await self._has_killed(delivery)
        if has_killed is None:
            return Admission.LATER
        if has_killed:
            return Admission.HAS_KILLED
        if self._must_be_written(delivery):
            [answer] = await self._group.submit([(delivery, self._wanted(delivery))])
            await self._results.caught_up()  # earlier results must not be lost, should the process die of this
            if answer is not True or not self._is_as_it_was(turn, receiver):
                return Admission.LATER
        return Admission.FREE if delivery.danger is Danger.NONE else Admission.ALONE

    def is_suspect(self, delivery: PendingDelivery) -> bool:
        """Returns whether it has to be sent alone: a process may have died of it, other than this one."""
        if delivery.danger is Danger.SUSPECT:
            return Danger.SUSPECT not in self._perhaps_written_as(delivery)
        return delivery.danger is Danger.MARKED

    def forget_written(self, deliveries: Iterable[PendingDelivery]) -> None:
        """Forgets what was written of these deliveries: it was deleted with their rows."""
        if self._written or self._unsure or self._isolated is not None:
            for delivery in deliveries:
                self._written.pop(delivery.key, None)
                self._unsure.pop(delivery.key, None)
                if self._isolated is not None and self._isolated.key == delivery.key:
                    self._named, self._isolated = self._isolated, None
                    self._isolated_has_ended.set()

    def forget_cancelled(self, webhook_id: int, event_id: UUID) -> None:
        """Forgets what was written of a delivery that a command has ended: it was not sent after all."""
        both = (*self._written.values(), *self._unsure.values())
        self.forget_written(
            [delivery for delivery, _ in both if (delivery.webhook_id, delivery.event_id) == (webhook_id, event_id)]
        )

    def forget_shards(self, shards: Iterable[int]) -> None:
        """Forgets what was written in shards that another process owns now."""
        lost = set(shards)
        for key in [key for key, (delivery, _) in self._written.items() if delivery.shard in lost]:
            del self._written[key]
        for key in [key for key in self._unsure if shard_of(key[0]) in lost]:
            del self._unsure[key]

    async def run(self) -> None:
        """Writes until it is cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._group.run(), name="marks")
            both.create_task(self._clear_isolated(), name="isolated deliveries that ended")

    async def take_back(self, shards: Collection[int]) -> None:
        """Takes back what was written, perhaps, of deliveries in shards that are released: no process died of them.

        What was sent alone is sent alone again.
        """
        entries = [entry for entry in {**self._unsure, **self._written}.values() if entry[0].shard in shards]
        try:
            for written, before in ((Danger.SUSPECT, Danger.NONE), (Danger.MARKED, Danger.SUSPECT)):
                await self._write([delivery for delivery, danger in entries if danger is written], before)
        except Unavailable as error:
            cause = cause_of(error)
            log.warning(
                "dangers not taken back: this end counts as a death of their deliveries",
                count=len(entries),
                sqlstate=cause.sqlstate,
                text=cause.text,
            )

    # --- what is known of a delivery -------------------------------------------------------------------------------

    async def _has_killed(self, delivery: PendingDelivery) -> bool | None:
        """Returns whether the processes that died while they sent it alone are taken to have died of it.

        None: that is not known now.
        """
        if delivery.danger is not Danger.MARKED or Danger.MARKED in self._perhaps_written_as(delivery):
            return False
        try:
            with watched(self._writing):
                return await poison_suspects.deaths(self._connection, delivery) >= _DEATHS_MIN
        except Unavailable:
            return None

    def _must_be_written(self, delivery: PendingDelivery) -> bool:
        wanted = self._wanted(delivery)
        return wanted is not Danger.NONE and self._written_as(delivery) is not wanted

    def _wanted(self, delivery: PendingDelivery) -> Danger:
        """Returns what its row has to say while it is sent."""
        if self.is_suspect(delivery):
            return Danger.MARKED
        owned = self._shards.owned.get(delivery.shard)
        was_abandoned = owned is not None and owned.abandoned_at is not None and delivery.due_at <= owned.abandoned_at
        return Danger.SUSPECT if was_abandoned else Danger.NONE

    def _written_as(self, delivery: PendingDelivery) -> Danger:
        _, danger = self._written.get(delivery.key, (delivery, Danger.NONE))
        return danger

    def _perhaps_written_as(self, delivery: PendingDelivery) -> set[Danger]:
        _, unsure = self._unsure.get(delivery.key, (delivery, Danger.NONE))
        return {self._written_as(delivery), unsure}

    def _is_as_it_was(self, turn: Turn, receiver: Receiver | None) -> bool:
        """Returns whether the delivery may still be sent after something was waited for."""
        lane = turn.lane
        is_same = lane.receiver is not None and receiver is not None and lane.receiver.webhook is receiver.webhook
        return self._shards.may_send and lane.is_known and is_same

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _flush(self, entries: Sequence[_Entry]) -> list[bool | Exception]:
        self._unsure |= {delivery.key: (delivery, danger) for delivery, danger in entries}
        with watched(self._writing):
            written = await self._write_all(entries)
        answers: list[bool | Exception] = []
        for delivery, danger in entries:
            self._unsure.pop(delivery.key, None)
            is_written = (delivery.webhook_id, delivery.event_id) in written
            if is_written and delivery.shard in self._shards.owned:
                self._written[delivery.key] = delivery, danger
            answers.append(is_written)
        return answers

    async def _write_all(self, entries: Sequence[_Entry]) -> set[tuple[int, UUID]]:
        for delivery, danger in entries:
            if danger is Danger.MARKED:
                self._isolated, self._named = delivery, None
                await poison_suspects.isolate(self._connection, self._shards.worker, delivery)
        written = set[tuple[int, UUID]]()
        for danger in (Danger.SUSPECT, Danger.MARKED):
            written |= await self._write([delivery for delivery, wanted in entries if wanted is danger], danger)
        return written

    async def _clear_isolated(self) -> None:
        """Clears the name of a delivery that has ended: a later death of this process is not of that one."""
        while True:
            await self._isolated_has_ended.wait()
            self._isolated_has_ended.clear()
            while (ended := self._named) is not None:  # else the row names the next one, or is about to
                try:
                    with watched(self._writing):
                        await poison_suspects.clear(self._connection, self._shards.worker, self._shards.mark, ended)
                    if self._named is ended:
                        self._named = None
                except Unavailable:
                    await asyncio.sleep(_CLEAR_AGAIN_SECONDS)  # Postgres does not report that it is back

    async def _write(self, deliveries: Sequence[PendingDelivery], danger: Danger) -> set[tuple[int, UUID]]:
        if not deliveries:
            return set()
        shards = self._shards
        return await poison_marks.set_danger(self._connection, shards.worker, shards.owned, deliveries, danger)


def _one(_: _Entry) -> int:
    return 1
