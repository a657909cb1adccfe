"""Careful mode: a delivery that kills the process that sends it must not do so for ever, nor cost others an attempt.

Normally nothing is written before a request is sent. But after a process has died without giving its shards back,
whatever was due in them by then is noted before it is sent (SUSPECT), and the note goes when its result is settled. A
note that is found in the table is of a delivery that was in flight, with others, when the second process in a row died.
Which of them it died of is not known, so nothing is counted: each is sent again alone, one at a time in a process, and
under a mark (MARKED). Of a delivery whose mark is found it is known that a process has died while it sent this one and
no other suspect since. That may be chance, once; when two have died so, it counts as an attempt that was interrupted,
so that the delivery backs off, and fails in the end. From then on it is sent alone each time, and each death counts.

Who may be sent alone, and when: `Lanes`. After a second without an answer the next suspect may begin beside it; the one
that had begun last is then what a death is put down to. What kills later than that takes more deaths until it is found:
each time fewer suspects are left to begin after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Danger, PendingDelivery
from webhook_grpc.domain.progress import Service
from webhook_grpc.hub.group_commit import GroupCommit, GroupLimits
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import danger as danger_rows
from webhook_grpc.store.outbox import suspects

from .shards import Shards

log = structlog.get_logger(__name__)

_DEATHS_MIN: Final = 2  # of processes that sent it alone
_MARKS_PER_STATEMENT: Final = 500
_MARKS_WAITING_MAX: Final = 100_000  # there are never more than requests in flight

Key = tuple[int, UUID, int]
_Mark = tuple[PendingDelivery, Danger]


class PoisonGuard:
    """Knows which deliveries are to be noted or marked, and which notes and marks are this process's own."""

    def __init__(self, connection: LoopConnection, shards: Shards) -> None:
        self._connection = connection
        self._marking = connection.progress.work("mark what may be dangerous", Service.DELIVERY)
        self._shards = shards
        limits = GroupLimits(_MARKS_PER_STATEMENT, _MARKS_PER_STATEMENT, _MARKS_WAITING_MAX, _MARKS_WAITING_MAX)
        self._group = GroupCommit[_Mark, bool](self._flush, _one, _one, limits)
        self._written: dict[Key, _Mark] = {}
        self._unsure: dict[Key, Danger] = {}  # the answer was lost: perhaps written, by this process

    def is_suspect(self, delivery: PendingDelivery) -> bool:
        """Whether it has to be sent alone: a process may have died of it, other than this one."""
        if delivery.danger is Danger.SUSPECT:
            return Danger.SUSPECT not in {self._written_as(delivery), self._unsure.get(delivery.key)}
        return delivery.danger is Danger.MARKED

    async def has_killed(self, delivery: PendingDelivery) -> bool | None:
        """Whether it is taken to have ended the processes that died while they sent it alone. None: not known now."""
        is_own = Danger.MARKED in {self._written_as(delivery), self._unsure.get(delivery.key)}
        if delivery.danger is not Danger.MARKED or is_own:
            return False
        try:
            with watched(self._marking):
                return await suspects.deaths(self._connection, delivery) >= _DEATHS_MIN
        except Unavailable:
            return None

    def applies(self, delivery: PendingDelivery) -> bool:
        """Whether it has to be noted or marked before it is sent."""
        wanted = self._wanted(delivery)
        return wanted is not Danger.NONE and self._written_as(delivery) is not wanted

    async def mark(self, delivery: PendingDelivery) -> bool:
        """Notes or marks it. False: it is not known to be written, and must not be sent."""
        [answer] = await self._group.submit([(delivery, self._wanted(delivery))])
        return answer is True

    def forget_written(self, deliveries: Iterable[PendingDelivery]) -> None:
        """Forgets what was written of these deliveries: it was deleted with their rows."""
        if self._written or self._unsure:
            for delivery in deliveries:
                self._written.pop(delivery.key, None)
                self._unsure.pop(delivery.key, None)

    def forget_shards(self, shards: Iterable[int]) -> None:
        """The shards are somebody else's."""
        lost = set(shards)
        for key in [key for key, (delivery, _) in self._written.items() if delivery.shard in lost]:
            del self._written[key]
        for key in [key for key in self._unsure if shard_of(key[0]) in lost]:
            del self._unsure[key]

    async def run(self) -> None:
        """Writes until it is cancelled."""
        await self._group.run()

    async def close(self) -> None:
        """Takes back what was written of deliveries that are not settled: this process ends in order, and not of them.

        What was sent alone is sent alone again.
        """
        try:
            await self._take_back(Danger.SUSPECT, Danger.NONE)
            await self._take_back(Danger.MARKED, Danger.SUSPECT)
        except Unavailable as error:
            cause = cause_of(error)
            log.warning(
                "marks not taken back: this end counts as a death of their deliveries",
                count=len(self._written),
                sqlstate=cause.sqlstate,
                text=cause.text,
            )

    async def _take_back(self, written: Danger, to: Danger) -> None:
        deliveries = [delivery for delivery, danger in self._written.values() if danger is written]
        if deliveries:
            await danger_rows.set_danger(self._connection, self._shards.worker, self._shards.owned, deliveries, to)

    def _wanted(self, delivery: PendingDelivery) -> Danger:
        """What has to stand in its row while it is sent."""
        if self.is_suspect(delivery):
            return Danger.MARKED
        owned = self._shards.owned.get(delivery.shard)
        was_abandoned = owned is not None and owned.abandoned_at is not None and delivery.due_at <= owned.abandoned_at
        return Danger.SUSPECT if was_abandoned else Danger.NONE

    def _written_as(self, delivery: PendingDelivery) -> Danger:
        _, danger = self._written.get(delivery.key, (delivery, Danger.NONE))
        return danger

    async def _flush(self, marks: Sequence[_Mark]) -> list[bool | Exception]:
        self._unsure |= {delivery.key: danger for delivery, danger in marks}
        with watched(self._marking):
            written = await self._write_all(marks)
        answers: list[bool | Exception] = []
        for delivery, danger in marks:
            self._unsure.pop(delivery.key, None)
            is_written = (delivery.webhook_id, delivery.event_id) in written
            if is_written and delivery.shard in self._shards.owned:
                self._written[delivery.key] = delivery, danger
            answers.append(is_written)
        return answers

    async def _write_all(self, marks: Sequence[_Mark]) -> set[tuple[int, UUID]]:
        for delivery, danger in marks:
            if danger is Danger.MARKED:
                await suspects.isolate(self._connection, self._shards.worker, delivery)
        written = set[tuple[int, UUID]]()
        for danger in (Danger.SUSPECT, Danger.MARKED):
            written |= await self._write([delivery for delivery, wanted in marks if wanted is danger], danger)
        return written

    async def _write(self, deliveries: Sequence[PendingDelivery], danger: Danger) -> set[tuple[int, UUID]]:
        if not deliveries:
            return set()
        shards = self._shards
        return await danger_rows.set_danger(self._connection, shards.worker, shards.owned, deliveries, danger)


def _one(_: _Mark) -> int:
    return 1
