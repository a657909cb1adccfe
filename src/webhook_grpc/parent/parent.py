"""Keeps the children running until the service is asked to stop, or until none of them can be started."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from webhook_grpc.domain.record import record
from webhook_grpc.domain.restarts import RestartPolicy
from webhook_grpc.process.family.dead_leases import end_leases_of_the_dead
from webhook_grpc.process.family.line_channel import Message
from webhook_grpc.process.family.siblings import Assignment
from webhook_grpc.process.machine.marks import own_mark
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.process.stopping import Reload, Stop
from webhook_grpc.store.db import LoopConnection

from .child import Child
from .figures import Figures

log = structlog.get_logger(__name__)

_SIGNAL_AGAIN_SECONDS: Final = 1.0


@record
class Plan:
    """How many children there are, the settings that are decided for all, and how they are restarted and ended."""

    count: int
    settings: Mapping[str, Any]
    restarting: RestartPolicy
    stop_seconds_max: float


class Parent:
    """The children, and what they have to say to each other."""

    def __init__(
        self,
        plan: Plan,
        connection_in: Callable[[str], LoopConnection],
        stop: Stop,
        reload: Reload,
        manager: ServiceManager,
        on_ready: Callable[[int, int | None], None],
    ) -> None:
        """`on_ready` is called with the ports when all serve for the first time.

        `connection_in` returns the connection that ends leases, in the schema that the first child has found.
        """
        self._plan = plan
        self._connection_in = connection_in
        self._connection: LoopConnection | None = None
        self._schema: str | None = None
        self._stop = stop
        self._reload = reload
        self._manager = manager
        self._on_ready = on_ready
        self._mark = own_mark()
        self._children = [Child(number) for number in range(1, plan.count + 1)]
        self._figures = Figures(self._children)
        self._has_served = asyncio.Event()  # one of them, ever
        self._is_announced = False
        self._ending = asyncio.Event()
        self._failed_status = 0  # of the child because of which the service ends
        self._tasks = set[asyncio.Task[object]]()
        self._statuses: dict[int, int] = {}  # of those that ended while all were asked to stop

    async def run(self) -> int:
        """Runs until the service was asked to stop and has; returns the exit status.

        The first child starts alone: what is wrong with the settings or the database is then said once.
        """
        watch = asyncio.create_task(self._watch_signals(), name="signal watch")
        self._start(self._manager.run(), "service manager")
        self._start(self._pass_on_reloads(), "reloads")
        keepers = [self._keeper(self._children[0])]
        await self._has_served_or_ends()
        if not self._ending.is_set():
            keepers += [self._keeper(child) for child in self._children[1:]]
        await self._ending.wait()
        self._manager.stopping()
        await self._end(keepers)
        for task in {watch, *self._tasks}:
            task.cancel()
        await asyncio.gather(watch, *self._tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
        return self._failed_status or max(self._statuses.values(), default=0)

    async def _watch_signals(self) -> None:
        await self._stop.wait()
        self._ending.set()

    async def _pass_on_reloads(self) -> None:
        """Lets each child look at its files when this process is asked to. Those that do not run yet read new ones."""
        while True:
            await self._reload.wait()
            self._manager.reloading()
            for child in self._children:
                child.send({"kind": "reload"})
            self._manager.ready()

    async def _has_served_or_ends(self) -> None:
        waits = {asyncio.create_task(event.wait(), name="wait") for event in (self._has_served, self._ending)}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()

    def _keeper(self, child: Child) -> asyncio.Task[None]:
        task = asyncio.create_task(self._keep(child), name=f"child {child.number}")
        task.add_done_callback(self._keeper_ended)
        return task

    def _keeper_ended(self, task: asyncio.Task[None]) -> None:
        """Ends the service if a keeper is broken: its child would never be started again."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a child can't be kept running", exc_info=error)
            self._give_up(1)

    async def _keep(self, child: Child) -> None:
        """Runs a child again and again until all end."""
        while not self._ending.is_set():
            status = await child.run(self._assignment(child), self._hear)
            has_served = child.ready_at is not None
            child.note_end()
            if self._ending.is_set():
                # One that has not begun to listen for signals is ended by the first.
                self._statuses[child.number] = status if has_served or status != 128 + signal.SIGTERM else 0
                return
            await self._restart_later(child, status)

    async def _restart_later(self, child: Child, status: int) -> None:
        self._start(self._take_over(), "take-over")
        self._share_health()
        others_serve = any(each.ready_at is not None for each in self._children)
        if not self._has_served.is_set() or (child.restarts.are_too_many(self._plan.restarting) and not others_serve):
            if self._has_served.is_set():
                log.error("no process can be started: the service ends", process=child.name, status=status)
            self._give_up(status)
            return
        pause_seconds = child.restarts.pause_seconds(self._plan.restarting)
        log.warning(
            "a process ended; it is started again", ended=child.name, status=status, after_seconds=pause_seconds
        )
        child.restarts.count += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_seconds):
                await self._ending.wait()

    def _give_up(self, status: int) -> None:
        self._failed_status = self._failed_status or status or 1
        self._ending.set()

    def _assignment(self, child: Child) -> Message:
        found = {} if self._schema is None else {"database_schema": self._schema}
        return dataclasses.asdict(Assignment(child.number, {**self._plan.settings, **found}))

    async def _take_over(self) -> None:
        """Lets the others have the shards of a child that died, at once."""
        if self._connection is not None:
            await end_leases_of_the_dead(self._connection, self._mark)
        self._hurry()

    def _hurry(self) -> None:
        for child in self._children:
            child.send({"kind": "hurry"})

    # --- what children say -----------------------------------------------------------------------------------------

    def _hear(self, child: Child, message: Message) -> None:
        match message["kind"]:
            case "schema":
                self._pin(message["schema"])
            case "ready":
                self._ready(child, message)
            case "serving":
                (child.unwell.discard if message["serving"] else child.unwell.add)(message["service"])
                self._share_health()
            case "figures":
                self._figures.take_in(message)
            case _:
                self._start(self._figures.gather(child, message), "figures")

    def _pin(self, schema: str | None) -> None:
        """Keeps where the first child has found our tables: those that come later do not look again."""
        if schema is not None and self._connection is None:
            self._schema, self._connection = schema, self._connection_in(schema)

    def _ready(self, child: Child, message: Message) -> None:
        log.info("a process serves", started=child.name, pid=child.pid)
        self._has_served.set()
        self._share_health()
        self._hurry()  # the others release its share
        if not self._is_announced and all(each.ready_at is not None for each in self._children):
            self._is_announced = True
            self._on_ready(message["grpc"], message["http"])

    def _share_health(self) -> None:
        """Sends each child which services of the others do not serve. Those that do not listen do no harm."""
        for child in self._children:
            others = {each.name: sorted(each.unwell) for each in self._children if each is not child and each.unwell}
            child.send({"kind": "unwell", "services": others})

    def _start(self, work: Coroutine[Any, Any, object], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the parent failed", task=task.get_name(), exc_info=error)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _end(self, keepers: list[asyncio.Task[None]]) -> None:
        """Lets all children drain, and kills those that do not end in time.

        The signal is repeated, which changes nothing, for one that was just being started when it came.
        """
        running, until = set(keepers), time.monotonic() + self._plan.stop_seconds_max
        while running and time.monotonic() < until:
            self._signal(signal.SIGTERM)
            _, running = await asyncio.wait(running, timeout=_SIGNAL_AGAIN_SECONDS)
        if running:
            log.error("processes did not end in time and are killed", count=len(running))
            self._signal(signal.SIGKILL)
            await asyncio.wait(running)

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            child.signal(number)
