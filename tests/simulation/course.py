"""The course of a run: what its parts share, what has happened so far, and the processes that come and go."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from webhook_grpc.domain.model import Published, Webhook

from .loop import FATE, SimulatedLoop
from .process import Process, Sent
from .profiles import PROFILES, Profile, settings_of
from .receivers import Receiver
from .world import World


class Course:
    """Every choice is drawn from `random`, so the seed decides on it. The parts of a run know it, not each other."""

    def __init__(self, seed: int, profile: Profile | None) -> None:
        self.random = random.Random(seed)
        self.profile = profile or self.random.choice(PROFILES)
        self.loop = SimulatedLoop(seed)
        self.world = World(self.loop, random.Random(seed + 1))
        self.world.on_wrong = self.violated
        self.stored = self.world.stored
        self.stored.on_wrong = self.violated
        self.settings = settings_of(self.profile, self.random)
        self.violations: list[str] = []
        self.processes: list[Process] = []
        self.graveyard: list[Any] = []
        self.receivers: dict[int, Receiver] = {}
        self.sent: dict[tuple[int, UUID], list[Sent]] = defaultdict(list)
        self.history: dict[int, list[tuple[float, Webhook]]] = defaultdict(list)
        self.acknowledged: dict[UUID, Published] = {}
        self.tests: set[UUID] = set()  # events of tests
        self.poison: set[UUID] = set()  # events that kill whoever sends them
        self.crash_count = self.request_count = self.event_count = 0
        self.lateness_max = 0.0
        self.faults_until = float("inf")
        self._tasks: list[asyncio.Task[Any]] = []

    def violated(self, what: str) -> None:
        """A promise was broken. The run goes on; its first violations are kept."""
        if len(self.violations) < 20:
            self.violations.append(f"[{self.loop.now:.4f}] {what}")
        self.stored.note("VIOLATED", what)

    def delays_of(self, webhook: Webhook) -> tuple[float, ...]:
        """The schedule of its retries."""
        return webhook.retry_delays_seconds or self.settings.retry_delays_seconds

    def serving(self) -> list[Process]:
        return [process for process in self.processes if process.is_serving]

    def here(self) -> Process:
        """The process whose code runs now."""
        fate = FATE.get()
        return next(process for process in self.processes if process.fate is fate)

    async def start_process(self) -> None:
        """Returns when it serves, or has died on the way."""
        process = Process(f"p{len(self.processes)}", self.settings, self.world, self.graveyard)
        self.processes.append(process)
        self.stored.note("start", process.name)
        started = process.spawn(process.start(), "start")
        while not started.done() and not process.is_over:
            await asyncio.sleep(0.05)

    async def start_another(self) -> None:
        """Unless there are four."""
        if len(self.serving()) < 4:
            await self.start_process()

    def thaw(self, process: Process) -> None:
        """A frozen process goes on."""
        process.thawed_at = self.loop.now
        self.world.fault_until(self.loop.now)
        self.stored.note("thawed", process.name)
        self.loop.thaw(process.fate)

    def later(self, seconds: float, happens: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Whatever becomes of the process that asks for it."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            await happens()

        self._tasks.append(self.loop.create_task(wait()))
