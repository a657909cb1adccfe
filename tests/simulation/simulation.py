"""A run: a seed decides on processes, customers, receivers, what happens to them, and every order and delay.

The engine's own code runs, wired as in `app.py`. What it may never do is checked when it does it; what it must have
done, at the end, when faults have stopped and time has run until nothing is pending.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from contextvars import Context
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock
from uuid import UUID

import psycopg
import structlog

from webhook_grpc.domain.egress import host_of
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import parse_delivery_id, shard_of
from webhook_grpc.domain.model import (
    AttemptResult,
    FailureReason,
    NewEvent,
    Outcome,
    PendingDelivery,
    Published,
    Webhook,
    WebhookStatus,
)
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer
from webhook_grpc.engine.engine import Engine
from webhook_grpc.engine.faults import SenderFault
from webhook_grpc.engine.lanes import Lane, Lanes
from webhook_grpc.engine.sender import Request
from webhook_grpc.settings import Settings
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import DatabaseOptions, translated_errors
from webhook_grpc.store.group_commit import GroupLimits
from webhook_grpc.store.hints import HintListener, Hints
from webhook_grpc.store.publisher import Publisher

from .loop import FATE, Fate, SimulatedLoop
from .world import EPOCH, OFF, Logged, Weather, World

_EPSILON: Final = 1e-6
_KEY: Final = bytes(32)
_SECRET: Final = "whsec_" + "c2VjcmV0" * 4
_PROBE_SECONDS_MIN: Final = 5.0
_BREAKER_FAILURES: Final = 10
_REFRESH_GRACE_SECONDS: Final = 1.5
_DOWN: Final = frozenset({Outcome.TIMEOUT, Outcome.CONNECTION_ERROR, Outcome.TLS_ERROR, Outcome.PROTOCOL_ERROR})
_SETTLED_DOWN_SECONDS_MAX: Final = 7200.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What a run is made of."""

    name: str
    activity_seconds: float = 90.0
    processes: tuple[int, int] = (1, 3)
    crashes: float = 0.0  # weights of what happens
    freezes: float = 0.0
    weather: float = 0.0
    stops: float = 0.0
    changes: float = 1.0
    sender_faults: float = 0.0
    poison: int = 0
    prompt: bool = False  # whether lateness is checked: then nothing but the receivers may cause it
    long: bool = False
    behaviours: tuple[str, ...] = ("well", "slow", "flaky", "down", "hang", "overloaded", "busy", "gone", "outage")

    @property
    def is_calm(self) -> bool:
        """Whether nothing may be sent twice."""
        return not (self.crashes or self.freezes or self.weather or self.poison)


PROFILES: Final = (
    Profile(
        "prompt", processes=(1, 1), changes=0.0, prompt=True, behaviours=("well", "slow", "flaky", "hang", "limited")
    ),
    Profile("calm", stops=0.6),
    Profile("calm", stops=0.3, sender_faults=0.01),
    Profile("crashes", crashes=1.0, stops=0.5, sender_faults=0.02),
    Profile("freezes", freezes=1.0, stops=0.2),
    Profile("weather", weather=1.5, stops=0.2),
    Profile("chaos", crashes=0.5, freezes=0.5, weather=1.0, stops=0.5, sender_faults=0.01),
    Profile("chaos", crashes=0.5, freezes=0.5, weather=1.0, stops=0.5),
    Profile("poison", poison=1, crashes=0.1, sender_faults=0.02, behaviours=("well", "slow", "flaky", "limited")),
    Profile("long", activity_seconds=86_400.0, crashes=0.3, weather=0.3, stops=0.3, long=True),
)


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
    ended_at: float | None = None
    outcome: Outcome | None = None
    status: int | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class Outage:
    """What the breaker of one owner should know of a webhook."""

    failures: int = 0
    open_at: float | None = None
    held_until: float = 0.0


@dataclass(slots=True)
class Receiver:
    behaviour: str
    outage: tuple[float, float] = (0.0, 0.0)
    rate_max: int | None = None


class Process:
    """One process of the service, wired as `App` does it."""

    def __init__(self, simulation: Simulation, name: str, settings: Settings) -> None:
        self.simulation, self.name = simulation, name
        self.fate = Fate(name)
        self.context = Context()
        self.context.run(FATE.set, self.fate)
        self.is_stopping = self.is_over = self.is_serving = False
        self.thawed_at = -1.0
        self.active: list[Sent] = []
        self.outages: dict[tuple[int, int], Outage] = defaultdict(Outage)
        self.full_at: dict[int, float] = defaultdict(float)  # when a webhook last had as many requests as it may
        self.dispatched: dict[tuple[int, UUID, int], tuple[float, int]] = {}
        self.settings = settings
        options = DatabaseOptions("", 8, 5.0, 100, settings.database_timeout_seconds)
        database: Any = SimpleNamespace(options=options, rows=self._rows)
        self._clock, self._database = DatabaseClock(), database
        self.hints = Hints(options)
        self.engine = Engine(settings, database, self._clock, Sealer([_KEY]), self.hints)
        self._listener = HintListener(
            options,
            on_due=self.engine.finder.wake,
            on_webhooks_changed=self.engine.webhooks.hint,
            on_logged=lambda: None,
        )
        self.hints.on_webhooks_changed = self.engine.webhooks.hint
        limits = GroupLimits(100, 8_000_000, 20_000, 64_000_000)
        self.publisher = Publisher(options, limits, 10, self.engine.finder, self.hints)
        self._loops: list[asyncio.Task[None]] = []

    async def _rows(self, statement: str, params: Any = None) -> list[Any]:
        world = self.simulation.world
        with translated_errors():
            async with asyncio.timeout(self.settings.database_timeout_seconds):
                return await world.run(None, statement, params)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task that lives and dies with the process."""
        return self.simulation.loop.create_task(coroutine, name=f"{self.name} {name}", context=self.context)

    async def start(self) -> None:
        try:
            await self._clock.synchronise(self._database)
            await self.engine.start()
        except Unavailable:
            self.crash()
            return
        loops = {
            **self.engine.loops(),
            **self.publisher.loops(),
            "hints": self.hints.run(),
            "hint listener": self._listener.run(),
        }
        loops.pop("janitor").close()
        for name, loop in loops.items():
            task = self.spawn(loop, name)
            task.add_done_callback(self._loop_ended)
            self._loops.append(task)
        self.is_serving = True

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not self.is_stopping:
            self.simulation.violated(f"the loop `{task.get_name()}` of {self.name} ended: {task.exception()!r}")

    async def stop(self) -> None:
        """As `App.stop` does it."""
        self.is_serving = False
        await self.engine.drain()
        self.is_stopping = True
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.engine.close()
        await self.publisher.close()
        await self.hints.close()
        self.is_over = True
        self.simulation.world.note("stopped", self.name)

    def crash(self) -> None:
        self.simulation.world.note("crashed", self.name)
        self.simulation.graveyard.extend(asyncio.all_tasks(self.simulation.loop))
        self.fate.dead = self.is_over = True
        self.is_serving = False
        self.active.clear()


class Simulation:
    """Runs one seed. `violations` says what was wrong."""

    def __init__(self, seed: int, profile: Profile | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.profile = profile or self.random.choice(PROFILES)
        self.loop = SimulatedLoop(seed)
        self.world = World(self.loop, random.Random(seed + 1))
        self.world.on_changed, self.world.on_logged = self._changed, self._logged
        self.world.on_wrong = self.violated
        self.violations: list[str] = []
        self.processes: list[Process] = []
        self.graveyard: list[Any] = []
        self.receivers: dict[int, Receiver] = {}
        self.sent: dict[tuple[int, UUID], list[Sent]] = defaultdict(list)
        self.history: dict[int, list[tuple[float, Webhook]]] = defaultdict(list)
        self.acknowledged: set[UUID] = set()
        self.poison: set[UUID] = set()
        self.crash_count = self.request_count = self.event_count = 0
        self._uuids = random.Random(seed + 2)
        self._faults_until = float("inf")
        self._tasks: list[asyncio.Task[Any]] = []
        self.lateness_max = 0.0
        self.settings = self._settings()

    def _settings(self) -> Settings:
        choose, long = self.random.choice, self.profile.long
        delays = ((1.0, 2.0, 4.0, 8.0, 15.0, 30.0), (0.5, 5.0, 20.0), (2.0,) * 8)
        return Settings(
            retry_delays_seconds=(5.0, 60.0, 600.0, 3600.0, 7200.0) if long else choose(delays),
            overload_delay_seconds_min=60.0 if long else 3.0,
            attempt_timeout_seconds=choose((3.0, 10.0)),
            breaker_failures=1000 if self.profile.prompt else _BREAKER_FAILURES,
            breaker_window_attempts_min=1000 if self.profile.prompt else 20,
            breaker_probe_seconds_min=_PROBE_SECONDS_MIN,
            breaker_probe_seconds_max=600.0 if long else 40.0,
            throttle_seconds=30.0,
            disable_after_seconds=40_000.0 if long else 120.0,
            disable_failures_min=5,
            customer_in_flight_max=200 if self.profile.prompt else choose((8, 200)),
            host_in_flight_max=500 if self.profile.prompt else choose((4, 50)),
            process_in_flight_max=200 if self.profile.prompt else choose((20, 200)),
            lease_seconds=60.0 if long else choose((3.0, 4.0, 8.0)),
            poll_seconds=10.0 if long else choose((0.2, 0.5, 1.0)),
            lane_prefetch_max=100 if self.profile.prompt else choose((4, 20, 100)),
            prefetch_bytes_max=64_000_000 if self.profile.prompt else 1_000_000,
            drain_seconds=40.0 if self.profile.is_calm else choose((0.5, 40.0)),
            database_timeout_seconds=choose((1.0, 3.0, 10.0)),
        )

    # --- running ---------------------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        with self._patched():
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(self._main())
            except AssertionError as error:
                self.violated(f"{type(error).__name__}: {error}")
            finally:
                self.loop.is_over = True
                self.loop.run_until_complete(self._bury())
                self.loop.close()
                asyncio.set_event_loop(None)
        return self

    async def _bury(self) -> None:
        """Ends all tasks, those of dead processes too: their coroutines must not be left to the garbage collector."""
        for process in self.processes:
            self.loop.thaw(process.fate)
        everything = {*self.graveyard, *asyncio.all_tasks(self.loop)} - {asyncio.current_task()}
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
        await self.loop.shutdown_asyncgens()

    @contextlib.contextmanager
    def _patched(self) -> Generator[None]:
        simulation, next_lane = self, Lanes.next

        async def connect(*_: object, **__: object) -> Any:
            return await simulation.world.connect()

        async def run(connection: Any, statement: str, params: Any) -> Any:
            return await simulation.world.run(connection, statement, params)

        async def send(_: object, request: Request) -> AttemptResult:
            return await simulation.send(request)

        async def nothing(_: object) -> None:
            pass

        def next_observed(lanes: Lanes, now: float) -> tuple[Lane, PendingDelivery] | None:
            turn = next_lane(lanes, now)
            if turn is not None:
                simulation.dispatched(*turn)
            return turn

        def new_uuid() -> UUID:
            return UUID(int=simulation._uuids.getrandbits(128), version=4)

        sender = "webhook_grpc.engine.sender.Sender."
        shim = SimpleNamespace(Random=lambda: random.Random(self._uuids.random()))
        state, config = random.getstate(), structlog.get_config()
        random.seed(self.seed)
        structlog.configure(processors=[self._heard])
        try:
            with (
                self.loop.patched_time(),
                mock.patch.object(psycopg.AsyncConnection, "connect", connect),
                mock.patch("webhook_grpc.store.db.run", run),
                mock.patch(sender + "send", send),
                mock.patch(sender + "open", _open),
                mock.patch(sender + "close", nothing),
                mock.patch("webhook_grpc.engine.ownership.uuid4", new_uuid),
                mock.patch("webhook_grpc.engine.delivery.random", shim),
                mock.patch.object(Lanes, "next", next_observed),
                mock.patch("webhook_grpc.engine.webhook_cache.REFRESH_SECONDS", 10.0 if self.profile.long else 0.5),
                mock.patch("webhook_grpc.engine.webhook_cache.STALE_SECONDS", 40.0 if self.profile.long else 2.0),
                mock.patch("webhook_grpc.engine.flows.SAVE_SECONDS", 10.0 if self.profile.long else 1.0),
            ):
                self.loop.set_exception_handler(self._exception)
                yield
        finally:
            random.setstate(state)
            structlog.configure(**config)

    def _exception(self, _: object, context: dict[str, Any]) -> None:
        if not self.loop.is_over:
            self.violated(f"unhandled: {context.get('message')} {context.get('exception')!r}")

    def _heard(self, _: object, method: str, event: MutableMapping[str, Any]) -> Any:
        if method in {"exception", "critical"} and not self.loop.is_over:
            self.violated(f"logged: {event}")
        raise structlog.DropEvent

    def violated(self, what: str) -> None:
        if len(self.violations) < 20:
            self.violations.append(f"[{self.loop.now:.4f}] {what}")
        self.world.note("VIOLATED", what)

    async def _main(self) -> None:
        self._make_webhooks()
        for _ in range(self.random.randint(*self.profile.processes)):
            await self._start_process()
        await self._activity()
        self._faults_until = self.loop.now
        self.world.weather = Weather()
        self.world.cut_listeners()
        for process in self.processes:
            if process.fate.frozen:
                self._thaw(process)
        while not any(process.is_serving for process in self.processes):
            await self._start_process()
        for webhook in list(self.world.webhooks.values()):
            if webhook.status is WebhookStatus.PAUSED:
                self.world.change(replace(webhook, status=WebhookStatus.ACTIVE))
        await self._settle_down()
        self._check_end()

    async def _settle_down(self) -> None:
        limit = self.loop.now + (20 * 86_400 if self.profile.long else _SETTLED_DOWN_SECONDS_MAX)
        while self.world.pending_count() or any(process.active for process in self.processes):
            await asyncio.sleep(60.0 if self.profile.long else 1.0)
            if not any(process.is_serving for process in self.processes):
                await self._start_process()
            if self.loop.now > limit:
                stuck = [row for rows in self.world.deliveries.values() for row in rows.values()]
                behaviours = Counter(self.receivers[row.webhook_id].behaviour for row in stuck)
                self.violated(f"{len(stuck)} still pending: {behaviours}, the first {stuck[:2]}")
                return
        await asyncio.sleep(10.0)

    # --- what happens ----------------------------------------------------------------------------------------------

    def _make_webhooks(self) -> None:
        choose, webhook_id = self.random.choice, 0
        limited = (*self.profile.behaviours,)
        for customer_id in range(1, self.random.randint(1, 3) + 1):
            for _ in range(self.random.randint(1, 4)):
                webhook_id += self.random.randint(1, 40)
                behaviour = choose(limited)
                start = self.loop.now + self.random.uniform(0, self.profile.activity_seconds)
                self.receivers[webhook_id] = Receiver(
                    behaviour,
                    (start, start + self.random.uniform(5, self.profile.activity_seconds)),
                )
                wants_rate = behaviour == "limited" or (not self.profile.prompt and self.random.random() < 0.3)
                sealed = Sealer([_KEY]).seal(_SECRET, customer_id, webhook_id, bytes(ENTROPY_BYTES))
                webhook = Webhook(
                    webhook_id, customer_id, "", f"https://host{webhook_id % 3}.example.com/{webhook_id}", sealed, "",
                    ("*",), WebhookStatus.ACTIVE, "", choose((None, None, (1.0, 3.0, 9.0, 9.0, 9.0), (2.0,))),
                    choose((None, 2.0)), choose((None, 1, 2, 5)), choose((1, 2, 5)) if wants_rate else None,
                    {}, {}, "", 1, EPOCH, EPOCH,
                )  # fmt: skip
                if self.profile.poison:
                    webhook = replace(webhook, retry_delays_seconds=(1.0, 3.0, 9.0, 9.0, 9.0))
                self.world.webhooks[webhook_id] = webhook
                self.history[webhook_id].append((0.0, webhook))

    async def _start_process(self) -> None:
        process = Process(self, f"p{len(self.processes)}", self.settings)
        self.processes.append(process)
        self.world.note("start", process.name)
        started = process.spawn(process.start(), "start")
        while not started.done() and not process.is_over:
            await asyncio.sleep(0.05)

    def _serving(self) -> list[Process]:
        return [process for process in self.processes if process.is_serving]

    async def _activity(self) -> None:
        profile, ends_at = self.profile, self.loop.now + self.profile.activity_seconds
        scale = profile.activity_seconds / 90.0
        happenings: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (4.0, self._publish),
            (profile.changes, self._change_webhook),
            (profile.crashes, self._crash_one),
            (profile.freezes, self._freeze_one),
            (profile.weather, self._change_weather),
            (profile.stops, self._stop_one),
            (profile.stops + profile.crashes, self._start_another),
        ]
        poison_at = self.loop.now + 5.0
        while self.loop.now < ends_at:
            await asyncio.sleep(self.random.expovariate(1.0) * scale * self.random.choice((0.1, 1.0, 1.5)))
            [happens] = self.random.choices([h for _, h in happenings], [weight for weight, _ in happenings])
            await happens()
            if profile.poison > len(self.poison) and self.loop.now > poison_at:
                await self._publish(poison=True)

    async def _publish(self, *, poison: bool = False) -> None:
        serving = self._serving()
        if not serving:
            await self._start_process()
            return
        process = self.random.choice(serving)
        customer_id = self.random.choice(list(self.world.webhooks.values())).customer_id
        count = 1 if poison else self.random.choice((1, 1, 3, 12, 30))
        events: list[NewEvent] = []
        for _ in range(count):
            self.event_count += 1
            event_id = UUID(int=(int(self.loop.now * 1000) << 80) | (7 << 76) | self.event_count)
            body = b'{"n":%d}' % self.event_count + b" " * self.random.choice((0, 0, 100, 40_000))
            events.append(NewEvent(event_id, customer_id, "job.completed", EPOCH, body, 0, {}, None, 0))
            if poison:
                self.poison.add(event_id)
            elif not self.profile.prompt and self.random.random() < 0.01:
                self.world.refused.add(event_id)
        process.spawn(self._published(process, events), "publish")

    async def _published(self, process: Process, events: list[NewEvent]) -> None:
        try:
            answers = await process.publisher.publish(events)
        except asyncio.CancelledError:
            if not process.is_stopping and not self.loop.is_over:
                raise
            return
        for answer in answers:
            if isinstance(answer, Published):
                self.acknowledged.add(answer.event_id)
            elif not isinstance(answer, Unavailable):
                self.violated(f"publication refused: {answer!r}")

    async def _change_webhook(self) -> None:
        webhook = self.random.choice(list(self.world.webhooks.values()))
        kind = self.random.choice(
            ("pause", "pause", "resume", "resume", "resume", "disable", "delete", "update", "update")
        )
        status = webhook.status
        if kind == "pause" and status is WebhookStatus.ACTIVE:
            self.world.change(replace(webhook, status=WebhookStatus.PAUSED))
        elif kind == "resume" and status is WebhookStatus.PAUSED:
            self.world.change(replace(webhook, status=WebhookStatus.ACTIVE))
        elif kind == "resume" and status is WebhookStatus.DISABLED:
            self.world.health[webhook.webhook_id] = {"breaker": "half_open", "at": self.world.now()}
            self.world.change(replace(webhook, status=WebhookStatus.ACTIVE))
        elif kind == "disable" and status not in OFF:
            self.world.change(replace(webhook, status=WebhookStatus.DISABLED))
        elif kind == "delete" and status is not WebhookStatus.DELETED and self.random.random() < 0.3:
            self.world.change(replace(webhook, status=WebhookStatus.DELETED))
        elif kind == "update" and status is not WebhookStatus.DELETED:
            choose = self.random.choice
            changed = replace(webhook, max_in_flight=choose((None, 1, 2, 5)), timeout_seconds=choose((None, 2.0, 5.0)))
            self.world.change(changed)
        else:
            return
        serving = self._serving()
        if serving and self.random.random() < 0.7:  # the others learn it by a hint, or by looking
            process = self.random.choice(serving)
            process.context.run(process.hints.webhook_changed, webhook.webhook_id)

    async def _crash_one(self) -> None:
        if serving := self._serving():
            self.random.choice(serving).crash()
            self.crash_count += 1
            if self.random.random() < 0.7:
                self._later(self.random.uniform(0.1, 10.0), self._start_another)

    async def _freeze_one(self) -> None:
        thawed = [process for process in self.processes if not process.is_over and not process.fate.frozen]
        if thawed:
            process = self.random.choice(thawed)
            process.fate.frozen = True
            self.world.note("frozen", process.name)
            self.world.fault_until(self.loop.now)
            seconds = self.random.choice((0.5, 1.0, 3.0)) * self.settings.lease_seconds * self.random.uniform(0.8, 1.3)

            async def thaw() -> None:
                if process.fate.frozen:
                    self._thaw(process)

            self._later(seconds, thaw)

    def _thaw(self, process: Process) -> None:
        process.thawed_at = self.loop.now
        self.world.fault_until(self.loop.now)
        self.world.note("thawed", process.name)
        self.loop.thaw(process.fate)

    async def _change_weather(self) -> None:
        weather, now = self.world.weather, self.loop.now
        kind = self.random.choice(("lost", "away", "hang", "late", "late commits", "fair"))
        if kind == "lost":
            weather.lost_answer, weather.not_run = self.random.choice(((0.05, 0.05), (0.3, 0.1)))
        elif kind == "away":
            weather.away_until = now + self.random.uniform(0.5, 4 * self.settings.lease_seconds)
        elif kind == "hang":
            weather.hangs_until = now + self.random.uniform(0.5, 4 * self.settings.lease_seconds)
            self.world.fault_until(weather.hangs_until)
        elif kind == "late":
            weather.late, weather.late_seconds = self.random.choice((0.02, 0.1)), 3 * self.settings.lease_seconds
            weather.deadline_seconds = self.settings.database_timeout_seconds
        elif kind == "late commits":
            weather.late_commit, weather.lost_hint = 0.3, 0.5
        else:
            self.world.weather = Weather()
            return
        self.world.cut_listeners()

    async def _stop_one(self) -> None:
        serving = self._serving()
        if len(serving) > 1 or (serving and self.random.random() < 0.3):
            process = self.random.choice(serving)
            self.world.note("stop", process.name)
            process.spawn(process.stop(), "stop")
            if len(serving) == 1:
                self._later(self.random.uniform(0.1, 5.0), self._start_another)

    async def _start_another(self) -> None:
        if len(self._serving()) < 4:
            await self._start_process()

    def _later(self, seconds: float, happens: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await happens()

        self._tasks.append(self.loop.create_task(wait()))

    # --- receivers -------------------------------------------------------------------------------------------------

    def _here(self) -> Process:
        fate = FATE.get()
        return next(process for process in self.processes if process.fate is fate)

    def dispatched(self, lane: Lane, delivery: PendingDelivery) -> None:
        """The engine has decided to send this now."""
        process, now = self._here(), self.loop.now
        key = (delivery.webhook_id, delivery.event_id, delivery.attempt)
        process.dispatched[key] = (now, self.world.shards[lane.shard].tenure)

    async def send(self, request: Request) -> AttemptResult:
        """Stands for `Sender.send`: the request, its way, and what its receiver does."""
        process, now = self._here(), self.loop.now
        named = parse_delivery_id(request.headers["X-Webhook-Delivery"])
        assert named is not None
        event_id, webhook_id = named
        attempt = int(request.headers["X-Webhook-Attempt"])
        if self._faults_until > now and self.random.random() < self.profile.sender_faults:
            raise _LocalFault if self.random.random() < 0.5 else SenderFault
        webhook = self._as_sent(webhook_id, request)
        dispatched_at, tenure = process.dispatched[webhook_id, event_id, attempt - 1]
        delivery = PendingDelivery(webhook_id, event_id, EPOCH, webhook.customer_id, attempt - 1, "", EPOCH, b"")
        sent = Sent(process, delivery, webhook, attempt, tenure, dispatched_at, now, host_of(request.url))
        self.request_count += 1
        self.world.note("sent", process.name, webhook_id, event_id, attempt, f"{dispatched_at:.6f}")
        self._check_start(sent)
        self.sent[webhook_id, event_id].append(sent)
        process.active.append(sent)
        self._note_full(sent)
        if event_id in self.poison:
            self.crash_count += 1
            process.crash()
            self._later(self.random.uniform(0.1, 5.0), self._start_another)
            await self.loop.create_future()
        try:
            result = await self._answer(sent, request)
        finally:
            self._note_full(sent)
            if sent in process.active:
                process.active.remove(sent)
            sent.ended_at = self.loop.now
        sent.outcome, sent.status = result.outcome, result.response_status
        sent.retry_after = None if result.retry_after is None else float(result.retry_after)
        self._learn(sent)
        return result

    def _note_full(self, sent: Sent) -> None:
        beside = sum(s.webhook.webhook_id == sent.webhook.webhook_id for s in sent.process.active)
        if beside >= (sent.webhook.max_in_flight or self.settings.webhook_in_flight_max):
            sent.process.full_at[sent.webhook.webhook_id] = self.loop.now

    def _as_sent(self, webhook_id: int, request: Request) -> Webhook:
        return next(w for _, w in reversed(self.history[webhook_id]) if w.url == request.url)

    async def _answer(self, sent: Sent, request: Request) -> AttemptResult:
        seconds, status, retry_after = self._behave(sent)
        started = self.world.now()
        if seconds >= request.timeout_seconds:
            await asyncio.sleep(request.timeout_seconds)
            status = -1
        else:
            await asyncio.sleep(seconds)
        latency_ms = int((self.world.now() - started).total_seconds() * 1000)
        if status == -1:
            return AttemptResult(Outcome.TIMEOUT, started, latency_ms, FailureReason.TIMEOUT)
        if status == 0:
            return AttemptResult(Outcome.CONNECTION_ERROR, started, latency_ms, FailureReason.CONNECTION_FAILED)
        if status < 300:
            return AttemptResult(Outcome.SUCCEEDED, started, latency_ms, FailureReason.NONE, status, b"ok")
        reason = FailureReason.GONE if status == 410 else FailureReason.STATUS
        retry = None if retry_after is None else str(retry_after)
        return AttemptResult(Outcome.HTTP_ERROR, started, latency_ms, reason, status, b"", retry)

    def _behave(self, sent: Sent) -> tuple[float, int, int | None]:
        receiver, chance, now = self.receivers[sent.webhook.webhook_id], self.random.random(), self.loop.now
        quick = 0.005 + self.random.expovariate(20.0)
        is_out = receiver.outage[0] <= now < min(receiver.outage[1], self._faults_until)
        match receiver.behaviour:
            case "slow":
                return self.random.uniform(0.5, 1.9), 200, None
            case "flaky" if chance < 0.45:
                return _trouble(chance / 0.45, quick)
            case "down":
                return quick, 500, None
            case "hang":
                return 60.0, -1, None
            case "outage" if is_out:
                return (quick, 503, None) if receiver.outage[0] % 1 < 0.5 else (60.0, -1, None)
            case "overloaded" if chance < 0.3:
                return quick, 429, self.random.choice((None, 2, 7))
            case "busy" if chance < 0.3:
                return quick, 503, self.random.choice((1, 10, 40))
            case "gone" if is_out:
                return quick, 410, None
            case _:
                return quick, 200, None

    # --- what may never happen -------------------------------------------------------------------------------------

    def _changed(self, webhook: Webhook) -> None:
        self.history[webhook.webhook_id].append((self.loop.now, webhook))
        if len(self.history[webhook.webhook_id]) > 1 and self.history[webhook.webhook_id][-2][1].status in OFF:
            for process in self.processes:
                for key in process.outages:
                    if key[0] == webhook.webhook_id:
                        process.outages[key] = Outage(held_until=process.outages[key].held_until)

    def _learn(self, sent: Sent) -> None:
        """What the owner should know now of this receiver."""
        assert sent.ended_at is not None
        outage, now = sent.process.outages[sent.webhook.webhook_id, sent.tenure], sent.ended_at
        if sent.outcome in _DOWN or (sent.status or 0) >= 500:
            outage.failures += 1
            is_probe = outage.open_at is not None and sent.dispatched_at > outage.open_at
            if is_probe or (outage.open_at is None and outage.failures >= self.settings.breaker_failures):
                outage.open_at = now
        else:
            outage.failures, outage.open_at = 0, None
        if sent.retry_after is not None and sent.status in {429, 503}:
            outage.held_until = max(outage.held_until, now + sent.retry_after)

    def _check_start(self, sent: Sent) -> None:
        webhook_id, event_id = sent.webhook.webhook_id, sent.delivery.event_id
        name = f"{sent.process.name} sends {webhook_id} {event_id} attempt {sent.attempt}"
        process, world = sent.process, self.world
        was_frozen = process.thawed_at >= sent.dispatched_at
        shard = world.shards[shard_of(webhook_id)]
        worker = world.workers.get(process.engine.ownership.worker)
        is_ours = shard.owner == process.engine.ownership.worker and shard.tenure == sent.tenure
        if not was_frozen:
            if worker is None or worker.lease_until < world.now() or not is_ours:
                self.violated(f"{name}, whose shard is not its own")
            elif not process.engine.ownership.may_send:
                self.violated(f"{name} after its fence")
        row = world.deliveries[webhook_id].get(event_id)
        before = self.sent[webhook_id, event_id]
        was_sent_before = any(s.attempt == sent.attempt and s.tenure != sent.tenure for s in before)  # and settled late
        if is_ours and not was_sent_before and (row is None or row.attempt != sent.attempt - 1):
            self.violated(f"{name}, which is settled: {row}")
        elif is_ours and row is not None and row.due_at > world.now():
            self.violated(f"{name} {row.due_at - world.now()} before it is due")
        self._check_repetition(name, sent)
        self._check_off(name, sent, was_frozen=was_frozen)
        self._check_limits(name, sent)
        if self.profile.prompt and row is not None and self.receivers[webhook_id].behaviour in {"well", "flaky"}:
            self._check_lateness(name, sent, (world.now() - row.due_at).total_seconds())

    def _check_repetition(self, name: str, sent: Sent) -> None:
        for earlier in self.sent[sent.webhook.webhook_id, sent.delivery.event_id]:
            if earlier.attempt >= sent.attempt and (earlier.tenure == sent.tenure or self.profile.is_calm):
                self.violated(f"{name} again, first at {earlier.started_at:.4f}")
            if earlier.attempt == sent.attempt - 1 and earlier.retry_after is not None:
                assert earlier.ended_at is not None
                logged = any(
                    row.event_id == sent.delivery.event_id
                    and row.webhook_id == sent.webhook.webhook_id
                    and row.attempt_count == earlier.attempt
                    and row.response_status == earlier.status
                    for row in self.world.log[sent.delivery.shard]
                )
                delays = self._delays(earlier.webhook)[earlier.attempt - 1 :]
                asked = min(earlier.retry_after, max(delays[0], sum(delays))) if delays else 0.0
                if logged and sent.started_at < earlier.ended_at + asked - _EPSILON:
                    self.violated(f"{name} before its Retry-After of {earlier.retry_after}")

    def _delays(self, webhook: Webhook) -> tuple[float, ...]:
        return webhook.retry_delays_seconds or self.settings.retry_delays_seconds

    def _check_off(self, name: str, sent: Sent, *, was_frozen: bool) -> None:
        grace = _REFRESH_GRACE_SECONDS * (20 if self.profile.long else 1)
        changes = self.history[sent.webhook.webhook_id]
        since = changes[-1][0]
        for at, webhook in reversed(changes):
            if webhook.status is WebhookStatus.ACTIVE:
                break
            since = at
        is_off = changes[-1][1].status is not WebhookStatus.ACTIVE
        if is_off and not was_frozen and sent.started_at > max(since, self.world.last_fault_at) + grace:
            self.violated(f"{name}, which is {changes[-1][1].status} since {since:.4f}")

    def _check_limits(self, name: str, sent: Sent) -> None:
        process, now, webhook_id = sent.process, self.loop.now, sent.webhook.webhook_id
        beside = [s for s in process.active if s.webhook.webhook_id == webhook_id and s.tenure == sent.tenure]
        changes = self.history[webhook_id]
        lately = [
            w
            for i, (_, w) in enumerate(changes)
            if i + 1 == len(changes) or changes[i + 1][0] > sent.dispatched_at - 30
        ]
        most = max(w.max_in_flight or self.settings.webhook_in_flight_max for w in lately)
        if len(beside) >= most:
            self.violated(f"{name} beside {len(beside)} others, of at most {most}")
        if sum(s.host == sent.host for s in process.active) >= self.settings.host_in_flight_max:
            self.violated(f"{name} beyond the cap of its host")
        if (
            sum(s.webhook.customer_id == sent.webhook.customer_id for s in process.active)
            >= self.settings.customer_in_flight_max
        ):
            self.violated(f"{name} beyond the cap of its customer")
        if len(process.active) >= self.settings.process_in_flight_max:
            self.violated(f"{name} beyond the cap of its process")
        outage = process.outages[webhook_id, sent.tenure]
        if outage.open_at is not None and sent.dispatched_at > outage.open_at + _EPSILON:
            if sent.dispatched_at < outage.open_at + 0.8 * _PROBE_SECONDS_MIN - _EPSILON:
                self.violated(f"{name} while its breaker is open since {outage.open_at:.4f}")
            if beside:
                self.violated(f"{name} as a second probe")
        if (
            sent.dispatched_at < outage.held_until - _EPSILON
            and sent.dispatched_at > now - 1
            and not self._answered_now(sent)
        ):
            self.violated(f"{name} although asked to wait until {outage.held_until:.4f}")

    def _answered_now(self, sent: Sent) -> bool:
        """Whether an answer came at the instant, or after it, at which this was decided."""
        return any(
            earlier.ended_at is not None and earlier.ended_at >= sent.dispatched_at
            for (webhook_id, _), all_of in self.sent.items()
            if webhook_id == sent.webhook.webhook_id
            for earlier in all_of
        )

    def _check_lateness(self, name: str, sent: Sent, seconds: float) -> None:
        full_at = max(sent.process.full_at[sent.webhook.webhook_id], 1_004.0)  # the ramp is over by then
        waited = min(seconds, self.loop.now - full_at)
        self.lateness_max = max(self.lateness_max, waited)
        if waited > self.settings.poll_seconds + 0.5:
            self.violated(f"{name} {waited:.3f} s late")

    def _logged(self, row: Logged) -> None:
        name = f"{row.webhook_id} {row.event_id} attempt {row.attempt_count}"
        attempts = self.sent[row.webhook_id, row.event_id]
        visible = [s for s in attempts if s.attempt == row.attempt_count and s.outcome is not None]
        webhook = self.world.webhooks[row.webhook_id]
        is_interrupted = row.reason == FailureReason.INTERRUPTED.name.lower()
        if row.outcome is not None and not is_interrupted and not any(s.status == row.response_status for s in visible):
            self.violated(f"{name}: an attempt was counted that was not made: {row}")
        if is_interrupted and self.profile.is_calm:
            self.violated(f"{name} was interrupted by nothing")
        if row.status == "succeeded" and not any(s.outcome is Outcome.SUCCEEDED for s in visible):
            self.violated(f"{name} succeeded without a 2xx")
        if row.status == "cancelled" and webhook.status not in OFF and row.response_status != 410:
            self.violated(f"{name} was cancelled: {webhook.status}")
        if row.status == "failed" and row.event_id not in self.world.refused:
            schedules = [len(self._delays(w)) + 1 for _, w in self.history[row.webhook_id]]
            if row.attempt_count < min(schedules):
                self.violated(f"{name} failed too early: {row}")
        if row.status == "expired":
            self.violated(f"{name} expired")

    # --- what must have happened -----------------------------------------------------------------------------------

    def _check_end(self) -> None:
        by_delivery: dict[tuple[int, UUID], list[Logged]] = defaultdict(list)
        for number, rows in enumerate(self.world.log):
            gaps = [(a.seq, b.seq) for a, b in itertools.pairwise(rows) if b.seq != a.seq + 1]
            if gaps or (rows and rows[0].seq != 1):
                self.violated(f"the log of shard {number} is not dense: {gaps[:3]}")
            for row in rows:
                by_delivery[row.webhook_id, row.event_id].append(row)
        for (webhook_id, event_id), rows in by_delivery.items():
            name, last = f"{webhook_id} {event_id}", rows[-1]
            counts = [row.attempt_count for row in rows if row.outcome is not None]
            if counts != list(range(1, len(counts) + 1)):
                self.violated(f"{name}: attempts {counts}")
            most = max(len(self._delays(webhook)) + 1 for _, webhook in self.history[webhook_id])
            if len(counts) > most:
                self.violated(f"{name}: {len(counts)} attempts of at most {most}")
            if last.status == "pending" or any(row.status != "pending" for row in rows[:-1]):
                self.violated(f"{name} did not end once: {[row.status for row in rows]}")
            self._check_fate(name, webhook_id, event_id, last)
        self._check_rates()
        self._check_leaks()
        if self.poison and self.crash_count > 60:
            self.violated(f"{self.crash_count} crashes")

    def _check_fate(self, name: str, webhook_id: int, event_id: UUID, last: Logged) -> None:
        was_off = any(webhook.status in OFF for _, webhook in self.history[webhook_id])
        if event_id in self.poison and last.status != "failed" and not was_off:
            self.violated(f"{name} is poison, and {last.status}")
        is_well = self.receivers[webhook_id].behaviour in {"well", "slow", "limited"} and not was_off
        is_odd = event_id in self.poison | self.world.refused
        # whoever is in flight whenever a process dies, or freezes for as long, can't be told from what kills it
        cut = len(self.sent[webhook_id, event_id])
        may_be_interrupted = last.reason == FailureReason.INTERRUPTED.name.lower() and cut >= last.attempt_count - 1
        if is_well and not is_odd and not may_be_interrupted and last.status != "succeeded":
            self.violated(f"{name} of a receiver that is well {last.status}: {last}")

    def _check_rates(self) -> None:
        starts: dict[int, list[float]] = defaultdict(list)
        for (webhook_id, _), attempts in self.sent.items():
            starts[webhook_id] += [sent.dispatched_at for sent in attempts]
        for webhook_id, times in starts.items():
            rate = self.world.webhooks[webhook_id].rate_limit_per_second
            if rate is None:
                continue
            burst = tokens = max(1.0, float(rate))
            last = 0.0
            for at in sorted(times):
                tokens = min(burst, tokens + (at - last) * rate) - 1.0
                last = at
                if tokens < -_EPSILON * 1000:
                    self.violated(f"{webhook_id}: more than {rate} a second at {at:.4f}")
                    break

    def _check_leaks(self) -> None:
        for process in self.processes:
            if not process.is_serving:
                continue
            lanes, dispatcher = vars(process.engine.lanes), vars(process.engine.dispatcher)
            left = {
                name: lanes[name]
                for name in ("in_flight", "_hosts", "_customers", "_turns", "_held_bytes")
                if lanes[name]
            }
            left |= {name: dispatcher[name] for name in ("_attempts", "_lane_of", "_disabling") if dispatcher[name]}
            left |= {"busy": lanes["_busy_shards"]} if any(lanes["_busy_shards"].values()) else {}
            left |= {"unsettled": True} if len(vars(process.engine)["_settler"]) else {}
            left |= {"marked": True} if vars(vars(process.engine)["_careful"])["_marked"] else {}
            if left:
                self.violated(f"{process.name} keeps {left}")


def _trouble(chance: float, quick: float) -> tuple[float, int, int | None]:
    if chance < 0.9:
        return quick, 500 if chance < 0.5 else 404 if chance < 0.7 else 0, None
    return (quick, 404, 12) if chance < 0.96 else (60.0, -1, None)


def _open(_: object) -> None:
    pass


class _LocalFault(SenderFault):
    is_local = True
