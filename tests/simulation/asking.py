"""What customers ask for: retries of what has ended, cancellations of what is pending, tests, and replays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.store.schema.partitions import first_id

from .course import Course
from .model.rows import Key, OutboxRow

_AGAIN: Final = 0.4  # of asking is asked a second time: a little later, or at once by another caller
_SWEPT_LATE: Final = 0.05  # of deliveries are cancelled for a replay that they are not of


class Asking:
    """Who asks looks at how deliveries stand, and may be too late: then nothing comes of it."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._random = course.random
        self._stored = course.stored
        self._loop = course.loop
        self._replay_id = 0

    async def ask(self) -> None:
        """For one of all that may be asked for, or for several at once."""
        self._random.choice(
            (
                *(self._retry, self._cancel, self._cancel_what_is_due, self._replay) * 2,
                *(self._end_replay, self._test, self._five_tests),
            )
        )()

    def _retry(self) -> None:
        for key in self._some(self._ended()):
            self._command(Kind.RETRY, key)

    def _cancel(self) -> None:
        for key in self._some([row.key for row in self._pending()]):
            self._command(Kind.CANCEL, key)

    def _cancel_what_is_due(self) -> None:
        """Just when it is found in the table."""
        rows = [row for row in self._pending() if row.due_at > self._stored.now()]
        for row in self._random.sample(rows, min(len(rows), 40)):
            seconds = (row.due_at - self._stored.now()).total_seconds() + self._random.uniform(0, 0.025)
            self._command_later(max(0.0, seconds), Kind.CANCEL, row.key)

    def _replay(self) -> None:
        self._replay_id += 1
        for key in self._some(sorted(self._stored.published() | set(self._ended())), 60):
            self._command(Kind.REPLAY, key, self._replay_id)

    def _end_replay(self) -> None:
        """As the sweep does it: what waits goes, what was begun is cancelled. It may have become another row since."""
        replay_id = self._random.randint(1, max(1, self._replay_id))
        commands = self._stored.model.commands
        for name, asked in list(commands.items()):
            if asked.replay_id == replay_id and asked.kind is Kind.REPLAY:
                del commands[name]
        for row in self._pending():
            if row.replay_id == replay_id or (self._replay_id and self._random.random() < _SWEPT_LATE):
                self._command(Kind.CANCEL, row.key, replay_id)

    def _five_tests(self) -> None:
        for _ in range(5):
            self._test()

    def _command(self, kind: Kind, key: Key, replay_id: int | None = None) -> None:
        self._stored.ask(kind, key, replay_id)
        self._hint(key[0])
        if kind in {Kind.RETRY, Kind.CANCEL} and self._random.random() < _AGAIN:
            seconds = self._random.choice((0.0, self._random.uniform(0, 0.04), 0.1, 2.0))
            self._command_later(seconds, self._random.choice((Kind.RETRY, Kind.CANCEL)), key)

    def _command_later(self, seconds: float, kind: Kind, key: Key) -> None:
        async def ask() -> None:
            if self._loop.now < self._course.faults_until:
                self._stored.ask(kind, key)
                self._hint(key[0])

        self._course.later(seconds, ask)

    def _test(self) -> None:
        webhook = self._random.choice(list(self._stored.model.webhooks.values()))
        if webhook.status is WebhookStatus.DELETED:
            return
        self._course.event_count += 1
        event_id = UUID(int=first_id(self._stored.now()).int | (7 << 76) | self._course.event_count)
        self._course.tests.add(event_id)
        self._stored.ask_for_test(webhook, event_id)
        self._hint(webhook.webhook_id)

    def _hint(self, webhook_id: int) -> None:
        """Mostly; or the owner finds it by looking."""
        serving = self._course.serving()
        if serving and self._random.random() < 0.8:
            process = self._random.choice(serving)
            process.context.run(process.hints.commanded, [shard_of(webhook_id)])

    def _some(self, deliveries: Sequence[Key], most: int = 8) -> Sequence[Key]:
        return self._random.sample(deliveries, min(len(deliveries), self._random.randint(1, most)))

    def _ended(self) -> list[Key]:
        model = self._stored.model
        ended = {row.key for rows in model.log for row in rows if row.status != "pending" and row.trigger != "test"}
        return sorted(key for key in ended if model.row(key) is None)

    def _pending(self) -> list[OutboxRow]:
        return sorted(self._stored.model.pending_rows(), key=lambda row: row.key)
