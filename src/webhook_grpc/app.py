"""The composition root: makes everything from the settings up, starts it in order and stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import fields
from random import Random
from typing import Any, Final

import structlog

from webhook_grpc.api.methods import Methods
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import Progress
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.engine import Engine
from webhook_grpc.engine.receivers.keys import check_keys
from webhook_grpc.engine.shards import Shards
from webhook_grpc.hub.connections import Connections, make_connections
from webhook_grpc.hub.group_commit import GroupLimits
from webhook_grpc.hub.hints import Hints, Topic
from webhook_grpc.hub.log.tail import Tail
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.hub.refused_calls import RefusedCalls
from webhook_grpc.hub.tokens import KnownTokens
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.metrics.calls import CallFigures, CallTally
from webhook_grpc.metrics.certificates import TlsFigures
from webhook_grpc.metrics.deliveries import DeliveryFigures, PolledFigures, PublishFigures
from webhook_grpc.metrics.metrics import Metrics
from webhook_grpc.metrics.process import ProcessFigures
from webhook_grpc.metrics.shared import SharedMetrics
from webhook_grpc.process.banner import Ports
from webhook_grpc.process.credentials import load_tokens
from webhook_grpc.process.family.dead_leases import end_leases_of_the_dead
from webhook_grpc.process.family.siblings import Siblings
from webhook_grpc.process.log.loop_watch import LoopWatch
from webhook_grpc.process.machine.descriptors import SPARE, connections_of_doors
from webhook_grpc.process.machine.garbage import spared
from webhook_grpc.process.machine.marks import own_mark
from webhook_grpc.process.machine.memory import MemoryReturn
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.process.stopping import Reload, StopSignals, in_daemon_thread
from webhook_grpc.server.admission import TurnLimits
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.server.calls import CallLimits, Calls
from webhook_grpc.server.certificates import certificates_of
from webhook_grpc.server.grpc.listening import TransportLimits
from webhook_grpc.server.grpc.reflection import ReflectionAccess
from webhook_grpc.server.grpc.server import Server
from webhook_grpc.server.http.address.listening import HttpAddressInUse, Listener
from webhook_grpc.server.http.server import METRICS_CONNECTIONS_MAX, http_listener, metrics_listener
from webhook_grpc.server.readiness import Readiness
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.connection.poolers import check_sessions
from webhook_grpc.store.connection.server_checks import durability_warnings
from webhook_grpc.store.db import Database, DatabaseOptions, Pooling
from webhook_grpc.store.schema.migrate import check_schema
from webhook_grpc.store.schema.partitions import ensure_partitions_at_start
from webhook_grpc.traces.choice import choose_traces

from .settings import Settings

log = structlog.get_logger(__name__)

_PUBLISH_WEIGHT_MAX: Final = 8_000_000  # bytes of bodies and rows in one statement, about
_READS_PER_CONNECTION: Final = 2  # calls carried out at a time: one has a connection while the other is answered
_CALL_GRACE_SECONDS: Final = 5.0
_TAIL_POLL_SECONDS: Final = 0.1
_SPANS_SECONDS_AT_STOP: Final = 5.0


class LoopEnded(Exception):
    """A loop that should run for ever has ended; the process can't continue."""


class App:
    """One process of the service."""

    def __init__(
        self,
        settings: Settings,
        conninfo: str,
        secret_keys: Iterable[bytes],
        dropped_lines: Callable[[], int],
        siblings: Siblings | None = None,
    ) -> None:
        """`dropped_lines` returns how many lines of the log were dropped since the start.

        `siblings`: the other processes that share the addresses. Raises SettingsError.
        """
        self._settings = settings
        self._siblings = siblings
        random = Random()  # the only one of a process: where it has a seed, a run can be repeated
        self._traces = choose_traces(settings, random)
        options = _database_options(settings, conninfo, random)
        self._clock = DatabaseClock()
        self._sealer = sealer = Sealer(secret_keys)
        self.database = Database(options)
        connections = make_connections(options)
        self._ownership_connection = connections.ownership
        self._mark = own_mark()
        shards = Shards(self._mark)
        self._hints = Hints(connections.commands, connections.listen, shards.is_alone, options.pooling)
        self._tail = Tail(
            connections.tail,
            _TAIL_POLL_SECONDS,
            settings.stream_buffer_max,
            LoopTurns(settings.stream_spacing),
        )
        self.engine = Engine(
            settings,
            self.database,
            connections,
            self._clock,
            sealer,
            shards,
            self._hints,
            random,
            self._traces,
            self._tail.is_watched,
        )
        self._hints.subscribe(Topic.LOG, lambda _: self._tail.hint())
        self._clock.on_step(self._tail.clock_stepped)
        self._publisher = Publisher(
            connections.publish,
            connections.publish_batches,
            _group_limits(settings),
            settings.webhooks_per_customer_max,
            self.engine.recipient,
            self._hints,
            self._make_partitions,
        )
        waiting_max = max(1, settings.calls_max // 2)  # so that unknown tokens never take all places of calls
        self._tokens = KnownTokens(self.database, connections.commands, settings.tokens_kept_seconds, waiting_max)
        self._hints.subscribe(Topic.TOKENS, self._tokens.changed)
        self._refused_calls = RefusedCalls(connections.background, settings.audit_refusals_per_minute_max)
        methods = Methods(settings, self.database, self._clock, sealer, self._publisher, self._hints, self._tail)
        call_tally = CallTally()
        calls = Calls(
            methods,
            _authenticator(settings, self._tokens, sealer),
            self._refused_calls,
            self._clock,
            _call_limits(settings),
            settings.retention_policy,
            call_tally,
        )
        grpc_connections_max, http_connections_max = _door_connections(settings)
        self._certificates = certificates = certificates_of(settings)
        self._server = Server(
            settings.grpc_address,
            calls,
            _transport_limits(settings, grpc_connections_max),
            certificates,
            reflection=ReflectionAccess(settings.reflection_access),
            is_shared=siblings is not None,
        )
        self.readiness = Readiness([self._server.set_serving], [siblings.report_serving] if siblings else ())
        self._loop_watch = LoopWatch()
        self._figures = self.engine.figures(settings.metrics_poll_seconds)
        self._metrics = metrics = Metrics()
        exposition = metrics if siblings is None else SharedMetrics(metrics, siblings)
        self._http: Listener | None = None
        if settings.http_address:
            self._http = http_listener(
                settings,
                http_connections_max,
                calls,
                self.readiness,
                methods,
                exposition,
                certificates,
                spared,
            )
        self._metrics_server: Listener | None = None
        if settings.metrics_address is not None:
            self._metrics_server = metrics_listener(
                settings.metrics_address,
                self.readiness,
                exposition,
                spared,
                is_loopback=settings.is_metrics_loopback,
            )
        self._show_figures(calls, call_tally, dropped_lines)
        self._monitor = self.engine.monitor(self.readiness.set_serving)
        self.port = 0
        self.http_port: int | None = None  # none: there is no HTTP
        self.metrics_port: int | None = None  # none: there is no address of its own for metrics
        self._loops: list[asyncio.Task[None]] = []

    def _show_figures(self, calls: Calls, call_tally: CallTally, dropped_lines: Callable[[], int]) -> None:
        """Lets /metrics show what the parts count."""
        self._metrics.show(
            [
                CallFigures(
                    call_tally,
                    calls,
                    self._refused_calls,
                    lambda: self._http.connection_count if self._http else 0,
                ),
                PublishFigures(self._publisher),
                DeliveryFigures(self.engine, self._publisher),
                PolledFigures(self._figures),
                ProcessFigures(self.readiness, self.database.options.errors, self._loop_watch.lags, dropped_lines),
                TlsFigures(self._certificates),
            ],
            at_once=self._siblings is not None,  # they read its figures, and wait only so long
        )

    async def start(self) -> None:
        """Starts to serve. If that fails, everything that was opened is closed again.

        Raises AddressInUse, HttpAddressInUse, UnsuitableServer, KeysMissing, and Unavailable if the
        database can't be reached.
        """
        async with contextlib.AsyncExitStack() as opened:
            await self._start(opened)
            opened.pop_all()
        log.info(
            "serving",
            address=self._settings.grpc_address,
            port=self.port,
            http_port=self.http_port,
            metrics_port=self.metrics_port,
        )

    async def _start(self, opened: contextlib.AsyncExitStack) -> None:
        """Takes each step together with what undoes it if a later step fails."""
        opened.push_async_callback(self._close_traces)
        if self._siblings is None:
            self._bind(opened)
        else:
            await self._siblings.open()
            opened.callback(self._siblings.close)
            self._siblings.report_schema(self.database.options.schema)
        opened.push_async_callback(self.database.close)
        await check_sessions(self.database.options)
        await self.database.open()
        warnings = await durability_warnings(self.database)
        for warning in warnings:
            log.warning("acknowledged events are not safe", problem=warning)
        self._server.show_warnings(warnings)
        await check_keys(self.database, self._sealer, self._settings.secret_keys_lost)
        await self._clock.synchronise(self.database)
        await ensure_partitions_at_start(self.database)
        opened.push_async_callback(self._end_loops)
        await end_leases_of_the_dead(self._ownership_connection, self._mark)
        await self.engine.start()
        loops = {
            **self.engine.loops(),
            **self._publisher.loops(),
            **self._hints.loops(),
            **self._tokens.loops(),
            **self._refused_calls.loops(),
            "tail": self._tail.run(),
            "monitor": self._monitor.run(),
            "loop watch": self._loop_watch.run(),
            "memory": MemoryReturn().run(),
            "figures": self._figures.run(),
        }
        if self._certificates is not None:
            loops["certificates"] = self._certificates.run()
        if self._siblings is not None:
            loops["siblings"] = self._siblings.run(
                self.engine.ownership.hurry, self._metrics.text_now, self.readiness.set_unwell
            )
        self._loops = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
        if self._siblings is not None:
            self._bind(opened)  # only now: callers would wait at a process that starts while others could answer
        await self._server.start()
        for listener in (self._http, self._metrics_server):
            if listener is not None:
                listener.start()
                self.run_beside("HTTP", listener.failed())

    def _bind(self, opened: contextlib.AsyncExitStack) -> None:
        """Takes the addresses."""
        self.port = self._server.bind()
        opened.push_async_callback(self._server.abandon)
        self._bind_http(opened)
        if self._metrics_server is not None:
            self.metrics_port = self._metrics_server.bind(is_shared=self._siblings is not None)
            opened.push_async_callback(self._metrics_server.stop)

    def _bind_http(self, opened: contextlib.AsyncExitStack) -> None:
        """Takes the address for HTTP. If it is the default, and taken, the service starts without HTTP."""
        if self._http is None:
            return
        try:
            self.http_port = self._http.bind(is_shared=self._siblings is not None)
        except HttpAddressInUse as error:
            if self._settings.is_http_address_chosen:
                raise
            log.warning("no HTTP", problem=str(error))
            self._http = None
        else:
            opened.push_async_callback(self._http.stop)

    def run_beside(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        """Runs one more loop that should run for ever, until the process drains."""
        self._loops.append(asyncio.create_task(loop, name=name))

    async def look_at_files(self) -> None:
        """Reads files that have changed, as the service does by itself every few seconds."""
        if self._certificates is not None:
            await self._certificates.look()
        log.info("files looked at", because="SIGUSR1")

    async def failed(self) -> None:
        """Waits until a loop ends, which none should. Raises LoopEnded."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        raise LoopEnded(f"the loop `{task.get_name()}` ended") from task.exception()

    async def stop(self) -> None:
        """Drains: refuses new calls, ends watches, lets attempts in flight end, settles them, releases the shards."""
        log.info("stopping")
        self._server.leave()
        self.readiness.leave()
        await asyncio.sleep(self._settings.shutdown_delay_seconds)  # load balancers look away
        self._tail.close()
        if self._http is not None:
            await self._http.stop()
        await self._server.stop(_CALL_GRACE_SECONDS)
        await self.engine.drain()
        await self._end_loops()
        if self._metrics_server is not None:  # last, so that the drain can be watched
            await self._metrics_server.stop()
        await self.database.close()
        await self._close_traces()
        if self._siblings is not None:
            self._siblings.close()
        log.info("stopped")

    async def _end_loops(self) -> None:
        """Ends the loops and releases the shards. The connections are closed with the database."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        try:
            await self._refused_calls.store()
        except Unavailable as error:
            log.warning("the last refused calls are not in the audit", problem=str(error))
        await self.engine.close()

    async def _close_traces(self) -> None:
        """Exports the last spans, if the collector takes them soon."""
        if self._traces is None:
            return
        try:
            async with asyncio.timeout(_SPANS_SECONDS_AT_STOP):
                await in_daemon_thread(self._traces.close)
        except TimeoutError:
            log.warning("the last spans were not exported", waited_seconds=_SPANS_SECONDS_AT_STOP)

    async def _make_partitions(self) -> None:
        await ensure_partitions_at_start(self.database)


def _database_options(settings: Settings, conninfo: str, random: Random) -> DatabaseOptions:
    return DatabaseOptions(
        conninfo=conninfo,
        pool_size=settings.database_pool_size,
        pool_timeout_seconds=settings.database_timeout_seconds,
        pool_waiting_max=settings.calls_max,
        statement_timeout_seconds=settings.database_timeout_seconds,
        pooling=Pooling(settings.database_pooler),
        schema=settings.database_schema,
        progress=Progress(settings.stall_seconds),
        random=random,
    )


def _group_limits(settings: Settings) -> GroupLimits:
    return GroupLimits(
        settings.publish_batch_max,
        _PUBLISH_WEIGHT_MAX,
        settings.publish_waiting_max,
        settings.publish_waiting_bytes_max,
    )


def _authenticator(settings: Settings, tokens: KnownTokens, sealer: Sealer) -> Authenticator:
    return Authenticator(
        load_tokens(settings),
        tokens,
        sealer,
        anonymous_allowed=settings.anonymous_allowed,
        default_customer_id=settings.default_customer,
        clients=settings.client_sans,
    )


def _call_limits(settings: Settings) -> CallLimits:
    return CallLimits(
        settings.call_limits,
        settings.stream_limits,
        settings.call_seconds_max,
        TurnLimits(
            settings.calls_at_once,
            settings.calls_waiting_max,
            settings.calls_waiting_bytes_max,
            settings.calls_waiting_seconds_max,
        ),
        _READS_PER_CONNECTION * settings.database_pool_size,
        settings.streams_unsent_bytes_max,
        settings.answers_unread_bytes_max,
        settings.answers_unread_total_bytes_max,
        settings.rate_limits,
    )


def _transport_limits(settings: Settings, connections_max: int) -> TransportLimits:
    return TransportLimits(
        connections_max,
        settings.grpc_streams_per_connection_max,
        settings.grpc_idle_seconds_max,
        settings.grpc_read_seconds_max,
    )


async def serve(
    settings: Settings,
    conninfo: str,
    secret_keys: Iterable[bytes],
    dropped_lines: Callable[[], int],
    signals: StopSignals,
    manager: ServiceManager,
    on_ready: Callable[[Ports], None],
    siblings: Siblings | None = None,
) -> None:
    """Runs one process until it is asked to stop. A start that is under way then ends too, and leaves nothing open.

    Raises SchemaError, DatabaseUnreachable, KeysMissing, Unavailable, AddressInUse at the start, and LoopEnded if the
    process broke.
    """
    stopped = asyncio.create_task(signals.stop.wait(), name="signal watch")
    beating = asyncio.create_task(manager.run(), name="service manager")
    try:
        found: list[str] = []
        if not await _is_done_before(stopped, _find_schema(settings, conninfo, found)):
            return
        settings = settings.model_copy(update={"database_schema": found[0]})  # it stays so, whatever is made meanwhile
        app = App(settings, conninfo, secret_keys, dropped_lines, siblings)
        if not await _is_done_before(stopped, app.start()):
            return
        on_ready(Ports(app.port, app.http_port))
        app.run_beside("reloads", _reload(app, signals.reload, manager))
        await _is_done_before(stopped, app.failed())
        manager.stopping()
        await app.stop()
    finally:
        stopped.cancel()
        beating.cancel()


async def _find_schema(settings: Settings, conninfo: str, found: list[str]) -> None:
    """Appends the schema of our tables. Raises as `check_schema`."""
    pooling = Pooling(settings.database_pooler)
    place = await in_daemon_thread(check_schema, conninfo, pooling, settings.database_schema)
    found.append(place.schema)


async def _reload(app: App, reload: Reload, manager: ServiceManager) -> None:
    while True:
        await reload.wait()
        manager.reloading()
        await app.look_at_files()
        manager.ready()


async def _is_done_before(stopped: asyncio.Task[None], step: Coroutine[Any, Any, None]) -> bool:
    """Returns whether a step ended before the process was asked to stop; if not, cancels it. Raises what it raises."""
    task = asyncio.create_task(step, name="step")
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
    finally:
        task.cancel()
    [error] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(error, Exception):
        log.warning("stopped while a step failed", error=str(error))
    return error is None


def descriptors_needed(settings: Settings) -> int:
    """Returns how many file descriptors a process needs so that its doors take as many connections as configured."""
    return sum(_wanted_of_doors(settings)) + _descriptors_kept(settings) + SPARE


def _wanted_of_doors(settings: Settings) -> Sequence[int]:
    return (settings.grpc_connections_max, settings.http_connections_max)


def _descriptors_kept(settings: Settings) -> int:
    """Returns the descriptors of everything but the doors for callers."""
    of_database = settings.database_pool_size + len(fields(Connections))
    of_deliveries = settings.process_in_flight_max + settings.idle_connections_max
    return of_database + of_deliveries + METRICS_CONNECTIONS_MAX


def _door_connections(settings: Settings) -> Sequence[int]:
    """Returns how many connections gRPC and HTTP may have: fewer than configured if deliveries would lack theirs."""
    wanted = _wanted_of_doors(settings)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    given = connections_of_doors(wanted, _descriptors_kept(settings), limit)
    if given != list(wanted):
        log.warning("fewer connections than configured", grpc=given[0], http=given[1], descriptors=limit)
    return given
