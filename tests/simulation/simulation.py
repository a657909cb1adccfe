"""A run: a seed decides on processes, customers, receivers, what happens to them, and every order and delay.

The engine's own code runs, wired as in `app.py`. What it may never do is checked when it does it; what it must have
done, at the end, when faults have stopped and time has run until nothing is pending.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Generator, MutableMapping
from typing import Any, Final
from unittest import mock

import psycopg
import structlog

from webhook_grpc.domain.model import AttemptResult, WebhookStatus
from webhook_grpc.engine.http.sender import Request
from webhook_grpc.engine.queue.lane import Turn
from webhook_grpc.engine.queue.lanes import Lanes

from .course import Course
from .customers import make_webhooks
from .happenings import Happenings
from .log_checks import LogChecks
from .profiles import Profile
from .sending import Sending
from .world import Weather

_SETTLED_DOWN_SECONDS_MAX: Final = 7200.0
_QUIET_SECONDS: Final = 10.0


class Simulation:
    """Runs one seed. `violations` says what was wrong, `world.trace` what happened: the same seed has the same."""

    def __init__(self, seed: int, profile: Profile | None = None) -> None:
        self.seed, self.course = seed, Course(seed, profile)
        self.profile, self.world, self.violations = self.course.profile, self.course.world, self.course.violations
        self._loop = self.course.loop
        self._sending, self._log_checks = Sending(self.course), LogChecks(self.course)
        self.world.stored.on_changed = self._sending.webhook_changed
        self.world.stored.on_logged = self._log_checks.check_row

    @property
    def request_count(self) -> int:
        return self.course.request_count

    def run(self) -> Simulation:
        with self._patched():
            asyncio.set_event_loop(self._loop)
            try:
                self._loop.run_until_complete(self._main())
            except AssertionError as error:
                self.course.violated(f"{type(error).__name__}: {error}")
            finally:
                self._loop.is_over = True
                self._loop.run_until_complete(self._bury())
                self._loop.close()
                asyncio.set_event_loop(None)
        return self

    async def _bury(self) -> None:
        """Ends all tasks, those of dead processes too: their coroutines must not be left to the garbage collector."""
        for process in self.course.processes:
            self._loop.thaw(process.fate)
        everything = {*self.course.graveyard, *asyncio.all_tasks(self._loop)} - {asyncio.current_task()}
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    @contextlib.contextmanager
    def _patched(self) -> Generator[None]:
        world, sending, next_lane = self.world, self._sending, Lanes.next

        async def connect(*_: object, **__: object) -> Any:
            return await world.connect()

        async def run(connection: Any, statement: str, params: Any, **_: Any) -> Any:
            return await world.run(connection, statement, params)

        async def send(_: object, request: Request) -> AttemptResult:
            return await sending.send(request)

        async def nothing(_: object) -> None:
            pass

        def next_observed(lanes: Lanes, now: float) -> Turn | None:
            turn = next_lane(lanes, now)
            if turn is not None:
                sending.dispatched(turn)
            return turn

        sender = "webhook_grpc.engine.http.sender.Sender."
        config = structlog.get_config()
        structlog.configure(processors=[self._heard])
        try:
            with (
                self._loop.patched_time(),
                mock.patch.object(psycopg.AsyncConnection, "connect", connect),
                mock.patch("webhook_grpc.store.db.run", run),
                mock.patch("webhook_grpc.store.connection.liveness.is_alive", _is_alive),  # it has no socket to look at
                mock.patch(sender + "send", send),
                mock.patch(sender + "open", _open),
                mock.patch(sender + "close", nothing),
                mock.patch.object(Lanes, "next", next_observed),
                mock.patch(
                    "webhook_grpc.engine.receivers.webhooks.REFRESH_SECONDS", 10.0 if self.profile.long else 0.5
                ),
                mock.patch("webhook_grpc.engine.receivers.webhooks.STALE_SECONDS", 40.0 if self.profile.long else 2.0),
                mock.patch("webhook_grpc.engine.receivers.paces.SAVE_SECONDS", 10.0 if self.profile.long else 1.0),
            ):
                self._loop.set_exception_handler(self._exception)
                yield
        finally:
            structlog.configure(**config)

    def _exception(self, _: object, context: dict[str, Any]) -> None:
        if not self._loop.is_over:
            self.course.violated(f"unhandled: {context.get('message')} {context.get('exception')!r}")

    def _heard(self, _: object, method: str, event: MutableMapping[str, Any]) -> Any:
        if method in {"exception", "critical"} and not self._loop.is_over:
            self.course.violated(f"logged: {event}")
        raise structlog.DropEvent

    async def _main(self) -> None:
        make_webhooks(self.course)
        for _ in range(self.course.random.randint(*self.profile.processes)):
            await self.course.start_process()
        await Happenings(self.course).go_on()
        self.course.faults_until = self._loop.now
        self.world.weather = Weather()
        self.world.cut_listeners()
        for process in self.course.processes:
            if process.fate.frozen:
                self.course.thaw(process)
        while not any(process.is_serving for process in self.course.processes):
            await self.course.start_process()
        for webhook in list(self.world.stored.model.webhooks.values()):
            if webhook.status is WebhookStatus.PAUSED:
                self.world.stored.resume(webhook)
        await self._settle_down()
        self._log_checks.check_end()

    async def _settle_down(self) -> None:
        """Until nothing is left to be done, and for a while longer: a statement may arrive late."""
        limit = self._loop.now + (20 * 86_400 if self.profile.long else _SETTLED_DOWN_SECONDS_MAX)
        quiet_since: float | None = None
        while quiet_since is None or self._loop.now < quiet_since + _QUIET_SECONDS:
            await asyncio.sleep(60.0 if self.profile.long else 1.0)
            if not any(process.is_serving for process in self.course.processes):
                await self.course.start_process()
            is_quiet = not self.world.stored.unfinished_count() and not self._is_sending()
            quiet_since = (quiet_since or self._loop.now) if is_quiet else None
            if self._loop.now > limit:
                stuck = self.world.stored.model.pending_rows()
                behaviours = Counter(self.course.receivers[row.webhook_id].behaviour for row in stuck)
                self.course.violated(f"{len(stuck)} still pending: {behaviours}, the first {stuck[:2]}")
                return

    def _is_sending(self) -> bool:
        return any(process.active for process in self.course.processes)


def _open(_: object) -> None:
    pass


def _is_alive(connection: Any) -> bool:
    return not connection.closed
