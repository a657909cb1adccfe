"""PublishEvent's way into the outbox: group commit, then the new deliveries go straight to whoever will send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

from ..domain.model import NewEvent, Published
from . import outbox
from .db import DatabaseOptions, LoopConnection
from .group_commit import GroupCommit, GroupLimits
from .hints import Hints
from .outbox import NewDeliveries

_ROW_OVERHEAD_BYTES: Final = 300  # of an event besides its body, about


class Expectation(Protocol):
    """What a recipient remembers between the start of a statement and its answer."""

    @property
    def shards(self) -> frozenset[int]:
        """The shards whose new deliveries it wants one by one."""
        ...


Expected = TypeVar("Expected", bound=Expectation)


class Recipient(Protocol[Expected]):
    """The engine as publishing sees it."""

    def expect(self) -> Expected:
        """Called before a publishing statement starts."""
        ...

    def receive(self, expectation: Expected, new: Sequence[NewDeliveries]) -> None:
        """Called with what the statement made, and with nothing if it failed."""
        ...


class Publisher:
    """Stores events for concurrent callers, many in one statement."""

    def __init__(self, options: DatabaseOptions, limits: GroupLimits, recipient: Recipient[Any], hints: Hints) -> None:
        self._connection = LoopConnection(options, "publish")
        self._recipient = recipient
        self._hints = hints
        self._group = GroupCommit[NewEvent, Published](self._flush, _size_bytes, limits)

    async def publish(self, events: Sequence[NewEvent]) -> list[Published | Exception]:
        """Returns when the events are committed: an answer for each, or the exception that it was refused with.

        Raises Overloaded if too many are waiting.
        """
        return await self._group.submit(events)

    async def run(self) -> None:
        """Publishes until it is cancelled."""
        await self._group.run()

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    async def _flush(self, events: Sequence[NewEvent]) -> list[Published | Exception]:
        expectation = self._recipient.expect()
        new: Sequence[NewDeliveries] = ()
        try:
            batch = await outbox.publish(self._connection, events, expectation.shards)
            new = batch.new
        finally:
            self._recipient.receive(expectation, new)
        self._hints.deliveries_due({shard for deliveries in new for shard in deliveries.other_shards})
        return batch.answers


def _size_bytes(event: NewEvent) -> int:
    return len(event.body) + _ROW_OVERHEAD_BYTES
