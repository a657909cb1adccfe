"""Attempts that go on although their shard was lost: a process that takes the shard again does not make them twice.

The row of such a delivery is as it was until the attempt is settled, so it is found again at once. If another
process had the shard meanwhile and made the attempt too, the row has the next attempt number, so it is another attempt.

Their requests count against the limit of their webhook while they are in flight: its receiver has all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from webhook_grpc.domain.model import PendingDelivery, Trigger

from .lane import Turn


class Strays:
    """The turns of lost shards that have not ended, by webhook."""

    def __init__(self) -> None:
        self._turns: dict[int, dict[tuple[UUID, int], Turn]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._turns.values()))

    def add(self, turns: Iterable[Turn]) -> None:
        """Takes in the turns of a shard that is lost."""
        for turn in turns:
            delivery = turn.delivery
            self._turns.setdefault(delivery.webhook_id, {})[delivery.event_id, delivery.attempt] = turn

    def remove(self, turn: Turn) -> None:
        """Forgets a turn that has ended, if it is one of these."""
        delivery = turn.delivery
        of_webhook = self._turns.get(delivery.webhook_id)
        if of_webhook is not None and of_webhook.get((delivery.event_id, delivery.attempt)) is turn:
            del of_webhook[delivery.event_id, delivery.attempt]
            if not of_webhook:
                del self._turns[delivery.webhook_id]

    def has(self, delivery: PendingDelivery) -> bool:
        """Returns whether one of these makes the delivery's next attempt."""
        return self.makes(delivery.webhook_id, delivery.event_id, delivery.attempt)

    def makes(self, webhook_id: int, event_id: UUID, attempt: int) -> bool:
        """Returns whether one of these makes the next attempt of a delivery, after so many."""
        return bool(self._turns) and (event_id, attempt) in self._turns.get(webhook_id, ())

    def has_event(self, webhook_id: int, event_id: UUID) -> bool:
        """Returns whether one of these is of the event."""
        return any(known == event_id for known, _ in self._turns.get(webhook_id, ()))

    def count(self, webhook_id: int) -> int:
        """Returns how many of these the webhook has."""
        return len(self._turns.get(webhook_id, ()))

    def in_flight(self, webhook_id: int) -> tuple[int, int]:
        """Returns how many requests of the webhook are in flight, and how many of them are of replays."""
        sent = [turn.delivery for turn in self._turns.get(webhook_id, {}).values() if turn.is_in_flight]
        return len(sent), sum(delivery.trigger is Trigger.REPLAY for delivery in sent)
