"""What happens in a run: events are published, webhooks change, processes come, go, crash, freeze; answers are lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import NewEvent, Published, Webhook, WebhookStatus
from webhook_grpc.store.schema.partitions import first_id

from .asking import Asking
from .course import Course
from .database.stored import EPOCH
from .model.registry import NOT_DELETED
from .model.rows import TAKING
from .process import Process
from .world import Weather

_LONG_AGO: Final = timedelta(days=60)


class Happenings:
    """What happens next, and when, is chance by the weights of the profile."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._profile = course.profile
        self._settings = course.settings
        self._loop = course.loop
        self._random = course.random
        self._stored = course.stored
        self._asking = Asking(course)

    async def go_on(self) -> None:
        """Until the activity of the profile is over."""
        profile, ends_at = self._profile, self._loop.now + self._profile.activity_seconds
        scale = profile.activity_seconds / 90.0
        happenings: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (4.0, self._publish),
            (profile.changes, self._change_webhook),
            (profile.asks, self._asking.ask),
            (profile.crashes, self._crash_one),
            (profile.freezes, self._freeze_one),
            (profile.weather, self._change_weather),
            (profile.stops, self._stop_one),
            (profile.stops + profile.crashes, self._course.start_another),
        ]
        poison_at = self._loop.now + 5.0
        while self._loop.now < ends_at:
            await asyncio.sleep(self._random.expovariate(1.0) * scale * self._random.choice((0.1, 1.0, 1.5)))
            [happens] = self._random.choices([h for _, h in happenings], [weight for weight, _ in happenings])
            await happens()
            if profile.poison > len(self._course.poison) and self._loop.now > poison_at:
                await self._publish(poison=True)

    async def _publish(self, *, poison: bool = False) -> None:
        serving = self._course.serving()
        if not serving:
            await self._course.start_process()
            return
        process = self._random.choice(serving)
        customer_id = self._random.choice(list(self._stored.model.webhooks.values())).customer_id
        count = 1 if poison else self._random.choice((1, 1, 3, 12, 30))
        events: list[NewEvent] = []
        for _ in range(count):
            self._course.event_count += 1
            is_old = not poison and not self._profile.prompt and self._random.random() < 0.02  # and may expire any time
            at = self._stored.now() - (_LONG_AGO if is_old else timedelta())
            event_id = UUID(int=first_id(at).int | (7 << 76) | self._course.event_count)
            body = b'{"n":%d}' % self._course.event_count + b" " * self._random.choice((0, 0, 100, 40_000))
            events.append(NewEvent(event_id, customer_id, "job.completed", EPOCH, body, 0, {}, None, 0))
            if poison:
                self._course.poison.add(event_id)
            elif not self._profile.prompt and self._random.random() < 0.01:
                self._stored.refused.add(event_id)
        process.spawn(self._published(process, events), "publish")

    async def _published(self, process: Process, events: list[NewEvent]) -> None:
        try:
            answers = await process.publisher.publish(events)
        except asyncio.CancelledError:
            if not process.is_stopping and not self._loop.is_over:
                raise
            return
        for answer in answers:
            if isinstance(answer, Published):
                self._course.acknowledged[answer.event_id] = answer
            elif not isinstance(answer, Unavailable):
                self._course.violated(f"publication refused: {answer!r}")

    async def _change_webhook(self) -> None:
        webhook = self._random.choice(list(self._stored.model.webhooks.values()))
        kind = self._random.choice(
            ("pause", "pause", "resume", "resume", "resume", "disable", "delete", "update", "update")
        )
        if self._changed(webhook, kind) is None:
            return
        serving = self._course.serving()
        if serving and self._random.random() < 0.7:  # the others learn it by a hint, or by looking
            process = self._random.choice(serving)
            process.context.run(process.hints.webhook_changed, webhook.webhook_id)

    def _changed(self, webhook: Webhook, kind: str) -> Webhook | None:
        choose, stored = self._random.choice, self._stored
        match kind:
            case "pause":
                return stored.set_status(webhook, WebhookStatus.PAUSED, (WebhookStatus.ACTIVE,))
            case "resume":
                return stored.resume(webhook)
            case "disable":
                return stored.set_status(webhook, WebhookStatus.DISABLED, TAKING)
            case "delete":
                is_meant = self._random.random() < 0.3
                return stored.set_status(webhook, WebhookStatus.DELETED, NOT_DELETED) if is_meant else None
            case _:
                return stored.update(webhook, choose((None, 1, 2, 5)), choose((None, 2.0, 5.0)))

    async def _crash_one(self) -> None:
        if serving := self._course.serving():
            self._random.choice(serving).crash()
            self._course.crash_count += 1
            if self._random.random() < 0.5:
                self._course.later(self._random.uniform(0.0, 0.1), self._take_over)
            if self._random.random() < 0.7:
                self._course.later(self._random.uniform(0.1, 10.0), self._course.start_another)

    async def _take_over(self) -> None:
        """As a parent does whose child has died: the others need not wait for the lease to run out."""
        serving = [process for process in self._course.serving() if not process.fate.frozen]
        if serving:
            self._random.choice(serving).spawn(self._end_leases(serving), "take-over")

    async def _end_leases(self, serving: list[Process]) -> None:
        with contextlib.suppress(Unavailable):
            await self._course.here().end_leases_of_the_dead()
        for process in serving:
            if not process.is_over:
                process.engine.ownership.hurry()

    async def _freeze_one(self) -> None:
        thawed = [process for process in self._course.processes if not process.is_over and not process.fate.frozen]
        if thawed:
            process = self._random.choice(thawed)
            process.fate.frozen = True
            self._stored.note("frozen", process.name)
            self._course.world.fault_until(self._loop.now)
            seconds = (
                self._random.choice((0.5, 1.0, 3.0)) * self._settings.lease_seconds * self._random.uniform(0.8, 1.3)
            )

            async def thaw() -> None:
                if process.fate.frozen:
                    self._course.thaw(process)

            self._course.later(seconds, thaw)

    async def _change_weather(self) -> None:
        weather, now = self._course.world.weather, self._loop.now
        kind = self._random.choice(("lost", "away", "hang", "late", "late commits", "fair"))
        if kind == "lost":
            weather.lost_answer, weather.not_run = self._random.choice(((0.05, 0.05), (0.3, 0.1)))
        elif kind == "away":
            weather.away_until = now + self._random.uniform(0.5, 4 * self._settings.lease_seconds)
        elif kind == "hang":
            weather.hangs_until = now + self._random.uniform(0.5, 4 * self._settings.lease_seconds)
            self._course.world.fault_until(weather.hangs_until)
        elif kind == "late":
            weather.late, weather.late_seconds = self._random.choice((0.02, 0.1)), 3 * self._settings.lease_seconds
            weather.deadline_seconds = self._settings.database_timeout_seconds
        elif kind == "late commits":
            weather.late_commit, weather.lost_hint = 0.3, 0.5
        else:
            self._course.world.weather = Weather()
            return
        self._course.world.cut_listeners()

    async def _stop_one(self) -> None:
        serving = self._course.serving()
        if len(serving) > 1 or (serving and self._random.random() < 0.3):
            process = self._random.choice(serving)
            self._stored.note("stop", process.name)
            process.spawn(process.stop(), "stop")
            if len(serving) == 1:
                self._course.later(self._random.uniform(0.1, 5.0), self._course.start_another)
