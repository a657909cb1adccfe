"""Commands: what callers ask the owner of a shard to do with a delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from .ids import shard_of
from .model import AttemptResult, DeliveryStatus


class Kind(StrEnum):
    """What is asked for."""

    RETRY = "retry"
    REPLAY = "replay"
    CANCEL = "cancel"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Command:
    """One row, and for a test what came of it: its status, and the attempt unless it ended without one."""

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
        """The shard whose owner carries it out."""
        return shard_of(self.webhook_id)

    @property
    def key(self) -> tuple[Kind, int, UUID]:
        """Names it."""
        return self.kind, self.webhook_id, self.event_id


@dataclass(frozen=True, slots=True)
class TestEvent:
    """The event of a test."""

    __test__ = False  # not one of pytest's

    event_id: UUID
    customer_id: int
    webhook_id: int
    event_type: str
    body: bytes
    data_start: int
