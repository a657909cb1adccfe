"""A crowd and a database that stands still: locks, a server that is stopped, restarts; and what the crowd then gets.

Every caller leaves after three seconds and calls again with the same request id, as clients do. When the database is
back, so is publishing, however many have come and gone meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from webhook.v1 import event_pb2, event_type_pb2, service_pb2

from tests.support import slowness
from tests.support.postgres import query
from tests.support.process import Process

from .cluster import statement_seconds
from .crowd import Crowd, leave_seconds
from .endpoints import EndpointPlan
from .harness import Round
from .scenario import Scenario

_BACK_SECONDS: Final = 2.0  # in the reference's time
_LONG_SECONDS: Final = 10.0  # from so many seconds of load on, all kinds of a fault rather than one or two
_BEYOND_SECONDS: Final = 1.5  # by which a fault outlasts statements, so that they and their callers are given up
_NOBODY: Final = 99  # a customer without webhooks
_PATIENCE_SECONDS: Final = 30.0  # on the reference

TERMINATE_ALL: LiteralString = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = %(database)s AND application_name LIKE 'webhook-grpc%%'
"""
CROWD_PLAN: Final = (EndpointPlan(1, in_flight_max=50), EndpointPlan(2, address="127.0.0.2", in_flight_max=50))


async def jam(round_: Round) -> None:
    """A table is closed to everybody, or the server stopped, until all callers and statements have been given up."""
    kinds = [(_locked, "deliveries")]
    if round_.seconds >= _LONG_SECONDS:
        kinds += [(_locked, "events"), (_locked, "shards"), (_stopped, "Postgres")]
        kinds += [
            (closed, table) for closed in (_wanted_by_alter, _wanted_by_vacuum) for table in ("deliveries", "shards")
        ]
    crowd = Crowd(round_)
    async with crowd.calling():
        for closed, what in kinds:
            await asyncio.sleep(1.0)
            with round_.outage(name := f"{closed.__name__.strip('_')} {what}"):
                async with closed(round_, what):
                    given_up_seconds = max(statement_seconds(), leave_seconds()) + _BEYOND_SECONDS
                    await asyncio.sleep(max(given_up_seconds, round_.seconds))
            await until_back(round_, crowd, name)
            if len(kinds) > 1:
                await crowd.clear()  # its backlog would grow from fault to fault
                await asyncio.sleep(round_.seconds / 6)  # deliveries catch up


async def restart(round_: Round) -> None:
    """Postgres is stopped and started, and all connections are ended: calls that begin afterwards succeed."""
    for number in range(20 if round_.seconds >= _LONG_SECONDS else 2):
        await asyncio.sleep(round_.random.uniform(0.2, 0.6))
        with round_.outage("Postgres restart"):
            await asyncio.to_thread(round_.server.crash if number % 2 else round_.server.stop_fast)
            await asyncio.to_thread(round_.server.start_again)
        await _everybody_is_served(round_, f"after restart {number}")
        with round_.fault("all connections ended"):
            parameters = {"database": round_.database_name}
            [(count,)] = await asyncio.to_thread(query, round_.server.url, TERMINATE_ALL, parameters)
        assert count, "no connection was ended"
        await _everybody_is_served(round_, f"after connections were ended {number}")


async def until_back(round_: Round, crowd: Crowd, fault: str) -> None:
    """Fails unless the crowd and the others get acknowledgements soon after now, as fast as the machine is then."""
    ended_at = time.time()
    measuring = asyncio.create_task(asyncio.to_thread(slowness.now))
    back_seconds: dict[str, float] = {}
    async with slowness.timeout(10 * _BACK_SECONDS):
        while len(back_seconds) < 2:
            answered = [publish.answered_at for publisher in round_.publishers for publish in publisher.history]
            for who, times in (("anybody", answered), ("the crowd", crowd.acknowledged_at)):
                first = first_after(ended_at, times)
                if first is not None:
                    back_seconds[who] = first - ended_at
            await asyncio.sleep(0.01)
    slower = max(slowness.ratio(), await measuring, await asyncio.to_thread(slowness.now))
    allowed_seconds = _BACK_SECONDS * slower
    for who, seconds in back_seconds.items():
        assert seconds <= allowed_seconds, (
            f"{fault}: {who} got the first acknowledgement {seconds:.1f} s after its end, "
            f"more than {allowed_seconds:.1f} s"
        )


def first_after(at: float, times: Iterable[float]) -> float | None:
    """Returns the first of some times that is later; None if there is none yet."""
    return min((time for time in times if time > at), default=None)


@contextlib.asynccontextmanager
async def _locked(round_: Round, table: str) -> AsyncGenerator[None]:
    async with await psycopg.AsyncConnection.connect(round_.database_url) as connection:
        await connection.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
        yield


@contextlib.asynccontextmanager
async def _stopped(round_: Round, _: str) -> AsyncGenerator[None]:
    """SIGSTOP to the postmaster and all backends, then SIGCONT."""
    await asyncio.to_thread(round_.server.stop_answering)
    try:
        yield
    finally:
        round_.server.answer_again()


@contextlib.asynccontextmanager
async def _wanted_by_alter(round_: Round, table: str) -> AsyncGenerator[None]:
    """An ALTER waits for a reader, and everybody else for the ALTER."""
    async with _wanted(round_, table, sql.SQL("ALTER TABLE {} RENAME TO {}").format(*[sql.Identifier(table)] * 2)):
        yield


@contextlib.asynccontextmanager
async def _wanted_by_vacuum(round_: Round, table: str) -> AsyncGenerator[None]:
    async with _wanted(round_, table, sql.SQL("VACUUM FULL {}").format(sql.Identifier(table))):
        yield


@contextlib.asynccontextmanager
async def _wanted(round_: Round, table: str, statement: sql.Composed) -> AsyncGenerator[None]:
    """Readers hold the table while a statement waits that closes it."""
    connect = psycopg.AsyncConnection.connect
    async with await connect(round_.database_url) as reader, await connect(round_.database_url, autocommit=True) as one:
        await reader.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table)))
        waiting = asyncio.create_task(_to_the_end(one, statement))
        yield
        await reader.rollback()
        await waiting


async def _to_the_end(connection: psycopg.AsyncConnection, statement: sql.Composed) -> None:
    with contextlib.suppress(psycopg.errors.DuplicateTable):  # a table keeps its name: it only had to be locked
        await connection.execute(statement)


async def _everybody_is_served(round_: Round, when: str) -> None:
    calls = [(name, call) for name in sorted(round_.cluster.running) for call in _CALLS]
    answers = await asyncio.gather(
        *(call(round_, round_.cluster.running[name]) for name, call in calls), return_exceptions=True
    )
    failed = [
        f"{call.__name__.strip('_')} of {name}: {answer}"
        for (name, call), answer in zip(calls, answers, strict=True)
        if isinstance(answer, BaseException)
    ]
    assert not failed, f"{when}: {len(failed)} of {len(calls)} calls failed: {failed[0]}"


def _event(number: int = 0) -> service_pb2.PublishEventRequest:
    event = event_pb2.Event(customer_id=_NOBODY, event_type="job.completed", data_json=f'{{"n":{number}}}')
    return service_pb2.PublishEventRequest(event=event)


def _patience_seconds() -> float:
    return slowness.scaled(_PATIENCE_SECONDS)


async def _publish(_: Round, process: Process) -> None:
    answer = await process.stub.PublishEvent(_event(), timeout=_patience_seconds())
    assert not answer.duplicate


async def _publish_batch(_: Round, process: Process) -> None:
    request = service_pb2.BatchPublishEventsRequest(requests=[_event(number) for number in range(20)])
    answer = await process.stub.BatchPublishEvents(request, timeout=_patience_seconds())
    failed = [result for result in answer.results if not result.HasField("published")]
    assert not failed, str(failed[0])


async def _get(round_: Round, process: Process) -> None:
    endpoint = round_.registered[0]
    request = service_pb2.GetWebhookRequest(customer_id=endpoint.customer_id, webhook_id=endpoint.webhook_id)
    await process.stub.GetWebhook(request, timeout=_patience_seconds())


async def _list(_: Round, process: Process) -> None:
    await process.stub.ListDeliveries(
        service_pb2.ListDeliveriesRequest(customer_id=_NOBODY), timeout=_patience_seconds()
    )


async def _create(_: Round, process: Process) -> None:
    event_type = event_type_pb2.EventType(event_type=f"fault.n{uuid4().hex}")
    request = service_pb2.CreateEventTypeRequest(event_type=event_type)
    await process.stub.CreateEventType(request, timeout=_patience_seconds())


_CALLS: Final[tuple[Callable[[Round, Process], Awaitable[None]], ...]] = (
    _publish,
    _publish_batch,
    _get,
    _list,
    _create,
)

SCENARIOS: Final = (
    Scenario("a crowd and a lock", jam, plan=CROWD_PLAN, publishers_per_customer=10, gap_seconds=0.3, needs_load=True),
    Scenario("Postgres restarts", restart),
)
