"""The processes of the service, and the requests that they make."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from contextvars import Context
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import Outcome, PendingDelivery, Trigger, Webhook
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.engine import Engine
from webhook_grpc.engine.shards import Shards
from webhook_grpc.hub.connections import make_connections
from webhook_grpc.hub.group_commit import GroupLimits
from webhook_grpc.hub.hints import Hints
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.settings import Settings
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import DatabaseOptions, translated_errors
from webhook_grpc.store.ownership import neighbours
from webhook_grpc.store.ownership.marks import ProcessMark

from .loop import FATE, Fate
from .world import World

KEY: Final = bytes(32)


@dataclass(eq=False, slots=True)
class Sent:
    """A request that was made."""

    process: Process
    delivery: PendingDelivery
    webhook: Webhook
    attempt: int
    tenure: int
    dispatched_at: float
    started_at: float
    host: str
    trigger: Trigger = Trigger.SCHEDULED
    ended_at: float | None = None
    outcome: Outcome | None = None
    status: int | None = None
    retry_after: float | None = None
    is_stale: bool = False  # whether the process had lost the shard


@dataclass(slots=True)
class Outage:
    """What the breaker of one owner should know of a webhook."""

    failures: int = 0
    open_at: float | None = None
    held_until: float = 0.0


class Process:
    """One process of the service, wired as `App` does it. Its tasks live and die with it.

    A crash stops them where they are, and leaves them to the graveyard.
    """

    def __init__(self, name: str, settings: Settings, world: World, graveyard: list[Any]) -> None:
        self.name, self._world, self._graveyard = name, world, graveyard
        self.fate = Fate(name)
        self.context = Context()
        self.context.run(FATE.set, self.fate)
        self.is_stopping = self.is_over = self.is_serving = False
        self.thawed_at = -1.0
        self.active: list[Sent] = []
        self.outages: dict[tuple[int, int], Outage] = defaultdict(Outage)
        self.full_at: dict[int, float] = defaultdict(float)  # when a webhook last had as many requests as it may
        self.dispatched: dict[tuple[int, UUID, int], tuple[float, int, Trigger]] = {}
        self.settings = settings
        options = DatabaseOptions("", 8, 5.0, 100, settings.database_timeout_seconds)
        database: Any = SimpleNamespace(options=options, rows=self._rows)
        self._clock, self._database = DatabaseClock(), database
        self.mark = ProcessMark("machine", "namespaces", 1 + int(name[1:]), 0)
        connections, shards = make_connections(options), Shards(self.mark)
        self._ownership_connection = connections.ownership
        self.hints = Hints(connections.commands, connections.listen, shards.is_alone, options.pooling)
        self.engine = Engine(
            settings,
            database,
            connections,
            self._clock,
            Sealer([KEY]),
            shards,
            self.hints,
            world.fork_random(),
            traces=None,
            is_watched=lambda: False,
        )
        limits = GroupLimits(100, 8_000_000, 20_000, 64_000_000)
        self.publisher = Publisher(
            connections.publish,
            connections.publish_batches,
            limits,
            10,
            self.engine.recipient,
            self.hints,
            _every_partition_exists,
        )
        self._loops: list[asyncio.Task[None]] = []

    async def _rows(self, statement: str, params: Any = None) -> list[Any]:
        with translated_errors(self._database.options.errors):
            async with asyncio.timeout(self.settings.database_timeout_seconds):
                return await self._world.run(None, statement, params)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that lives and dies with the process."""
        return self._world.loop.create_task(coroutine, name=f"{self.name} {name}", context=self.context)

    async def start(self) -> None:
        try:
            await self._clock.synchronise(self._database)
            await self.end_leases_of_the_dead()
            await self.engine.start()
        except Unavailable:
            self.crash()
            return
        loops = {
            **self.engine.loops(),
            **self.publisher.loops(),
            **self.hints.loops(),
        }
        loops.pop("janitor").close()
        for name, loop in loops.items():
            task = self.spawn(loop, name)
            task.add_done_callback(self._loop_ended)
            self._loops.append(task)
        self.is_serving = True

    async def end_leases_of_the_dead(self) -> None:
        """As process/family/dead_leases.py does it; who is dead is seen in the world. Raises Unavailable."""
        known = await neighbours.neighbours(self._ownership_connection, self.mark)
        dead = [neighbour for neighbour in known if neighbour.mark.pid in self._world.dead]
        if dead:
            await neighbours.end_leases(self._ownership_connection, self.mark, dead)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not self.is_stopping:
            self._world.on_wrong(f"the loop `{task.get_name()}` of {self.name} ended: {task.exception()!r}")

    async def stop(self) -> None:
        """As `App.stop` does it."""
        self.is_serving = False
        await self.engine.drain()
        self.is_stopping = True
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.engine.close()
        self.is_over = True
        self._world.stored.note("stopped", self.name)

    def crash(self) -> None:
        self._world.stored.note("crashed", self.name)
        self._world.dead.add(self.mark.pid)
        self._graveyard.extend(asyncio.all_tasks(self._world.loop))
        self.fate.dead = self.is_over = True
        self.is_serving = False
        self.active.clear()


async def _every_partition_exists() -> None:
    pass
