"""Careful mode: a delivery that kills the process that sends it must not do so for ever.

Normally nothing is written before a request is sent. But after a process has died without giving its shards back,
whatever was due in them by then is marked before it is sent, and the mark goes when its result is settled. A mark that
is found in the table is of a delivery that was in flight when a process died, the second one in a row: it counts as an
attempt that was interrupted, so that it backs off, and fails in the end, like any other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import structlog

from ..domain.errors import Unavailable
from ..domain.ids import shard_of
from ..domain.model import Danger, PendingDelivery
from ..domain.progress import Service
from ..store import backlog
from ..store.db import DatabaseOptions, LoopConnection
from ..store.failures import cause_of, watched
from ..store.group_commit import GroupCommit, GroupLimits
from .ownership import Ownership

log = structlog.get_logger(__name__)

_MARKS_PER_STATEMENT: Final = 500
_SUSPECTS_SPREAD_SECONDS: Final = 2.0
_MARKS_WAITING_MAX: Final = 100_000  # there are never more than requests in flight

Key = tuple[int, UUID, int]


class CarefulMode:
    """Knows which deliveries are to be marked, and which of the marks are this process's own."""

    def __init__(self, options: DatabaseOptions, ownership: Ownership) -> None:
        self._connection = LoopConnection(options, "careful")
        self._marking = options.progress.work("mark what may be dangerous", Service.DELIVERY)
        self._ownership = ownership
        limits = GroupLimits(_MARKS_PER_STATEMENT, _MARKS_PER_STATEMENT, _MARKS_WAITING_MAX, _MARKS_WAITING_MAX)
        self._group = GroupCommit[PendingDelivery, bool](self._flush, _one, _one, limits)
        self._marked: dict[Key, PendingDelivery] = {}
        self._unsure: set[Key] = set()  # the answer was lost: perhaps marked, by this process

    def was_interrupted(self, delivery: PendingDelivery) -> bool:
        """Whether a process died while it sent this."""
        key = delivery.key
        return delivery.danger is Danger.MARKED and key not in self._marked and key not in self._unsure

    def applies(self, delivery: PendingDelivery) -> bool:
        """Whether it has to be marked before it is sent."""
        if delivery.key in self._marked:
            return False
        if delivery.danger is not Danger.NONE:
            return True
        owned = self._ownership.owned.get(delivery.shard)
        return owned is not None and owned.abandoned_at is not None and delivery.due_at <= owned.abandoned_at

    async def mark(self, delivery: PendingDelivery) -> bool:
        """Marks it. False: it is not known to be marked, and must not be sent.

        Suspects come apart first: those that were in flight together when a process died are due together, and would be
        in flight together again, so that the innocent would end with the guilty.
        """
        if delivery.danger is Danger.SUSPECT:
            await asyncio.sleep(random.uniform(0, _SUSPECTS_SPREAD_SECONDS))
        [answer] = await self._group.submit([delivery])
        return answer is True

    def settled(self, deliveries: Iterable[PendingDelivery]) -> None:
        """Their marks went with their rows."""
        if self._marked or self._unsure:
            for delivery in deliveries:
                self._marked.pop(delivery.key, None)
                self._unsure.discard(delivery.key)

    def forget_shards(self, shards: Iterable[int]) -> None:
        """The shards are somebody else's."""
        lost = set(shards)
        for key in [key for key, delivery in self._marked.items() if delivery.shard in lost]:
            del self._marked[key]
        self._unsure = {key for key in self._unsure if shard_of(key[0]) not in lost}

    async def run(self) -> None:
        """Marks until it is cancelled."""
        await self._group.run()

    async def close(self) -> None:
        """Takes back the marks of what was not settled: this process ends in order, and not of them."""
        try:
            if self._marked:
                deliveries = list(self._marked.values())
                await backlog.set_danger(
                    self._connection, self._ownership.worker, self._ownership.owned, deliveries, Danger.SUSPECT
                )
        except Unavailable as error:
            cause = cause_of(error)
            log.warning(
                "marks not taken back; each costs its delivery an attempt",
                count=len(self._marked),
                sqlstate=cause.sqlstate,
                text=cause.text,
            )
        await self._connection.close()

    async def _flush(self, deliveries: Sequence[PendingDelivery]) -> list[bool | Exception]:
        ownership = self._ownership
        keys = {delivery.key for delivery in deliveries}
        self._unsure |= keys
        with watched(self._marking):
            marked = await backlog.set_danger(
                self._connection, ownership.worker, ownership.owned, deliveries, Danger.MARKED
            )
        self._unsure -= keys
        answers: list[bool | Exception] = []
        for delivery in deliveries:
            is_marked = (delivery.webhook_id, delivery.event_id) in marked
            if is_marked and delivery.shard in ownership.owned:
                self._marked[delivery.key] = delivery
            answers.append(is_marked)
        return answers


def _one(_: PendingDelivery) -> int:
    return 1
