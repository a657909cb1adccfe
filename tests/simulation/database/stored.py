"""What the played database keeps: the model of the store, by the simulation's clock, and how it came to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tests.simulation.loop import SimulatedLoop
from tests.simulation.model.rows import CommandKey, Key, LogRow
from tests.simulation.model.store import StoreModel
from webhook_grpc.domain.command import Kind, TestEvent
from webhook_grpc.domain.model import Webhook, WebhookSpec, WebhookStatus

EPOCH: Final = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Stored:
    """The model is the one that is compared with the SQL. Its times are `now()`; the loop's are floats.

    What customers do, they do here, at once: what the API does with a call is no part of this simulation.
    """

    loop: SimulatedLoop
    model: StoreModel = field(default_factory=lambda: StoreModel(EPOCH))
    tenures: Counter[int] = field(default_factory=Counter[int])  # how often each shard was taken
    refused: set[UUID] = field(default_factory=set[UUID])  # events whose results the database refuses
    asks: list[tuple[float, CommandKey]] = field(default_factory=list[tuple[float, CommandKey]])  # when, and for what
    by_command: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])  # rows of the log
    trace: list[str] = field(default_factory=list[str])
    on_changed: Callable[[Webhook], None] = lambda _: None
    on_logged: Callable[[LogRow], None] = lambda _: None
    on_wrong: Callable[[str], None] = lambda _: None

    def now(self) -> datetime:
        """The database's clock."""
        return EPOCH + timedelta(seconds=self.loop.now)

    def at(self, began_at: datetime) -> StoreModel:
        """The model, for a statement that began then."""
        self.model.now = began_at
        return self.model

    def note(self, *words: object) -> None:
        """A line of the history."""
        self.trace.append(f"{self.loop.now:.6f} " + " ".join(map(str, words)))

    def logged(self, rows: Iterable[LogRow], *, by_command: bool = False) -> None:
        """Notes rows that a statement has written."""
        for row in rows:
            if by_command:
                self.by_command.add((row.shard, row.seq))
            words = row.webhook_id, row.event_id, row.seq, row.status, row.attempt_count, row.reason, row.trigger
            self.note("logged", *words)
            self.on_logged(row)

    def changed(self, webhook: Webhook | None) -> Webhook | None:
        """Notes the change of a webhook, if there was one."""
        if webhook is not None:
            self.note("webhook", webhook.webhook_id, webhook.status, webhook.version)
            self.on_changed(webhook)
        return webhook

    def published(self) -> set[Key]:
        """Every delivery that a publication made."""
        return {(webhook_id, event_id) for event_id, ids in self.model.matched.items() for webhook_id in ids}

    def unfinished_count(self) -> int:
        """How much is still to be done."""
        return len(self.model.pending_rows()) + len(self.model.commands)

    # --- what customers do -----------------------------------------------------------------------------------------

    def set_status(
        self, webhook: Webhook, status: WebhookStatus, from_statuses: Collection[WebhookStatus]
    ) -> Webhook | None:
        """Returns the webhook, or None if it is in none of these statuses."""
        return self.changed(self.at(self.now()).set_webhook_status(webhook.webhook_id, status, from_statuses))

    def resume(self, webhook: Webhook) -> Webhook | None:
        """As `webhooks.resume` does it."""
        reopened = self.changed(self.at(self.now()).reopen_webhook(webhook.webhook_id))
        return reopened or self.set_status(webhook, WebhookStatus.ACTIVE, (WebhookStatus.PAUSED,))

    def update(self, webhook: Webhook, max_in_flight: int | None, timeout_seconds: float | None) -> Webhook | None:
        """Returns the webhook, or None if it was deleted."""
        spec = {each.name: getattr(webhook, each.name) for each in fields(WebhookSpec)}
        spec |= {"max_in_flight": max_in_flight, "timeout_seconds": timeout_seconds}
        updated = self.at(self.now()).update_webhook(webhook.webhook_id, webhook.version, WebhookSpec(**spec))
        return self.changed(updated)

    def ask(self, kind: Kind, key: Key, replay_id: int | None = None) -> None:
        """Inserts a command. Asking twice is asking once, until it is carried out."""
        self._note_asked(kind, key, replay_id)
        self.at(self.now()).ask(kind, self.model.webhooks[key[0]].customer_id, key, replay_id)

    def ask_for_test(self, webhook: Webhook, event_id: UUID) -> None:
        """Inserts the event of a test and the command to send it."""
        self._note_asked(Kind.TEST, (webhook.webhook_id, event_id), None)
        event = TestEvent(event_id, webhook.customer_id, webhook.webhook_id, "job.completed", b"{}", 0)
        self.at(self.now()).ask_for_test(event)

    def _note_asked(self, kind: Kind, key: Key, replay_id: int | None) -> None:
        self.asks.append((self.loop.now, (*key, kind)))
        self.note("asked", kind, *key, replay_id)
