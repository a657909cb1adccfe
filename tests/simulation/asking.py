"""What customers ask for: retries of what has ended, cancellations of what is pending, tests, and replays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.store.partitions import first_id

from .course import Course

_AGAIN: Final = 0.4  # of asking is asked a second time: a little later, or at once by another caller

_KINDS: Final = (
    "retry",
    "retry",
    "cancel",
    "cancel due",
    "cancel due",
    "replay",
    "replay",
    "end replay",
    "test",
    "tests",
)
Delivery = tuple[int, UUID]


class Asking:
    """Who asks looks at how deliveries stand, and may be too late: then nothing comes of it."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._random = course.random
        self._tables = course.tables
        self._loop = course.loop
        self._replay_id = 0

    async def ask(self) -> None:
        """For one of all that may be asked for, or for several at once."""
        kind = self._random.choice(_KINDS)
        match kind:
            case "retry":
                for webhook_id, event_id in self._some(self._ended()):
                    self._command(webhook_id, event_id, "retry")
            case "cancel":
                for webhook_id, event_id in self._some(self._pending()):
                    self._command(webhook_id, event_id, "cancel")
            case "cancel due":  # just when it is found in the table
                rows = [row for of in self._tables.deliveries.values() for row in of.values()]
                rows = sorted(
                    (r for r in rows if r.due_at > self._tables.now()), key=lambda r: (r.webhook_id, r.event_id)
                )
                for row in self._random.sample(rows, min(len(rows), 10)):
                    seconds = (row.due_at - self._tables.now()).total_seconds() + self._random.uniform(-0.02, 0.04)
                    self._command_later(max(0.0, seconds), row.webhook_id, row.event_id, "cancel")
            case "replay":
                self._replay_id += 1
                anything = sorted(self._tables.published | set(self._ended()))
                for webhook_id, event_id in self._some(anything, 60):
                    self._command(webhook_id, event_id, "replay", self._replay_id)
            case "end replay":  # as the sweep does it: what waits goes, what was begun is cancelled
                replay_id = self._random.randint(1, max(1, self._replay_id))
                for key, asked in list(self._tables.commands.items()):
                    if asked.replay_id == replay_id and key[2] == "replay":
                        del self._tables.commands[key]
                rows = [row for of in self._tables.deliveries.values() for row in of.values()]
                for row in rows:
                    is_its = row.replay_id == replay_id
                    if is_its or (self._replay_id and self._random.random() < 0.05):  # it may have become another row
                        self._command(row.webhook_id, row.event_id, "cancel", replay_id)
            case _:
                for _ in range(1 if kind == "test" else 5):
                    self._test()

    def _command(self, webhook_id: int, event_id: UUID, command: str, replay_id: int | None = None) -> None:
        self._tables.ask((webhook_id, event_id, command), replay_id)
        self._hint(webhook_id)
        if command in {"retry", "cancel"} and self._random.random() < _AGAIN:
            seconds = self._random.choice((0.0, self._random.uniform(0, 0.04), 0.1, 2.0))
            self._command_later(seconds, webhook_id, event_id, self._random.choice(("retry", "cancel")))

    def _command_later(self, seconds: float, webhook_id: int, event_id: UUID, command: str) -> None:
        async def ask() -> None:
            if self._loop.now < self._course.faults_until:
                self._tables.ask((webhook_id, event_id, command))
                self._hint(webhook_id)

        self._course.later(seconds, ask)

    def _test(self) -> None:
        webhook = self._random.choice(list(self._tables.webhooks.values()))
        if webhook.status is WebhookStatus.DELETED:
            return
        self._course.event_count += 1
        event_id = UUID(int=first_id(self._tables.now()).int | (7 << 76) | self._course.event_count)
        self._course.tests.add(event_id)
        self._tables.events[event_id] = ("job.completed", self._tables.now(), b"{}")
        self._tables.ask((webhook.webhook_id, event_id, "test"))
        self._hint(webhook.webhook_id)

    def _hint(self, webhook_id: int) -> None:
        """Mostly; or the owner finds it by looking."""
        serving = self._course.serving()
        if serving and self._random.random() < 0.8:
            process = self._random.choice(serving)
            process.context.run(process.hints.commanded, [shard_of(webhook_id)])

    def _some(self, deliveries: Sequence[Delivery], most: int = 8) -> Sequence[Delivery]:
        return self._random.sample(deliveries, min(len(deliveries), self._random.randint(1, most)))

    def _ended(self) -> list[Delivery]:
        ended = {
            (row.webhook_id, row.event_id)
            for rows in self._tables.log
            for row in rows
            if row.status != "pending" and row.trigger != "test"
        }
        return sorted(key for key in ended if key[1] not in self._tables.deliveries[key[0]])

    def _pending(self) -> list[Delivery]:
        return sorted((row.webhook_id, row.event_id) for of in self._tables.deliveries.values() for row in of.values())
