"""Commands to the owner of a shard: what it shall do with a delivery."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from uuid import UUID

from .ids import shard_of
from .model import AttemptResult, DeliveryStatus
from .record import record


class Kind(StrEnum):
    """What shall be done with the delivery."""

    RETRY = "retry"
    REPLAY = "replay"
    CANCEL = "cancel"
    TEST = "test"


CommandKey = tuple[Kind, int, UUID]
"""Names a command: what shall be done, the webhook, the event."""


@record
class Command:
    """A command; for a test also its outcome: the status, and the attempt unless it ended without one."""

    kind: Kind
    webhook_id: int
    event_id: UUID
    customer_id: int
    age_seconds: float = field(compare=False)
    status: DeliveryStatus | None = None
    result: AttemptResult | None = None
    own_headers: tuple[str, ...] = ()

    @property
    def shard(self) -> int:
        """Returns the shard whose owner carries it out."""
        return shard_of(self.webhook_id)

    @property
    def key(self) -> CommandKey:
        """Returns the key of the command's row."""
        return self.kind, self.webhook_id, self.event_id


@record
class TestEvent:
    """The event of a test, made for one webhook."""

    __test__ = False  # not one of pytest's

    event_id: UUID
    customer_id: int
    webhook_id: int
    event_type: str
    body: bytes
    data_start: int
