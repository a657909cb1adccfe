"""Postgres crashes, its connections end, hang or are used up; and what the service makes of it.

What the service has sent stays in its memory until the database has answered, so an outage that is shorter than the
lease neither loses nor repeats anything. A longer one may cost the lease, and what was in flight with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Generator
from typing import Final, LiteralString

import grpc
import psycopg
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.postgres import query
from tests.support.service import error_details
from webhook_grpc.hub.hints import LISTEN

from .cluster import FIRST, LEASE_SECONDS, STATEMENT_SECONDS, statement_seconds
from .database import CONNECTIONS_MAX
from .endpoints import DEFAULT_PLAN, FLAKY_PLAN
from .harness import Round
from .poison import LEASE_RAN_OUT
from .proxy import Toxic
from .scenario import Scenario

_PATIENCE_SECONDS = 20.0
_HOG_SECONDS_MAX: Final = 20.0  # the service and the hog race for each connection that becomes free

# What is only in the statement that settles, and in the one that publishes.
_SETTLES: Final = "settled AS MATERIALIZED ("
_COMMITS: Final[tuple[str, ...]] = (_SETTLES, "new_keys AS (")

TERMINATE_SOME: LiteralString = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = %(database)s AND application_name LIKE 'webhook-grpc%%' AND (pid %% 10) < %(tenths)s
"""
TERMINATE_LISTENERS: LiteralString = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = %(database)s AND query = %(listen)s
"""


async def crash(round_: Round) -> None:
    """`pg_ctl -m immediate stop`, a short while without a database, and a start that recovers."""
    await asyncio.sleep(round_.seconds / 3)
    with round_.outage("Postgres crash"):
        await asyncio.to_thread(round_.server.crash)
        await asyncio.sleep(round_.random.uniform(0.0, 1.0))
        await asyncio.to_thread(round_.server.start_again)
    await asyncio.sleep(round_.seconds / 2)


async def terminate_backends(round_: Round) -> None:
    """pg_terminate_backend on some of the service's connections, as an administrator or a failover does."""
    ended = 0
    for pause in round_.pauses(0.6, 1.0):
        await asyncio.sleep(pause)
        with round_.fault("backends terminated"):
            parameters = {"database": round_.database_name, "tenths": round_.random.randint(3, 8)}
            [(count,)] = await asyncio.to_thread(query, round_.server.url, TERMINATE_SOME, parameters)
            ended += count
    assert ended, "no connection was ended"


async def reset(round_: Round) -> None:
    """The network to Postgres is cut with RST; for a moment no connection can be made."""
    cut = 0
    for pause in round_.pauses(0.8, 1.6):
        await asyncio.sleep(pause)
        with round_.outage("network reset"):
            round_.proxy.set(Toxic.REFUSE)
            cut += round_.proxy.cut()
            await asyncio.sleep(round_.random.uniform(0.1, 0.5))
            round_.proxy.set(Toxic.NONE)
    assert cut, "no connection was open"


async def stall(round_: Round) -> None:
    """One process is cut off without a sign, for longer than its lease; its statements arrive when that has ended.

    That is before their deadline, so none of them fails: they only took long.
    """
    await _stall(round_, round_.random.uniform(LEASE_SECONDS + 0.4, STATEMENT_SECONDS - 0.2))


async def stall_beyond_deadline(round_: Round) -> None:
    """The same, but the statements were given up before they arrive."""
    await _stall(round_, STATEMENT_SECONDS + round_.random.uniform(0.3, 1.0))


async def _stall(round_: Round, seconds: float) -> None:
    await asyncio.sleep(round_.seconds / 3)
    lost_before = round_.count_logged(FIRST, LEASE_RAN_OUT)
    with round_.outage("network stalled"):
        round_.proxy.set(Toxic.BLACKHOLE)
        await asyncio.sleep(slowness.lengthened(seconds))
        round_.proxy.set(Toxic.NONE)
    await round_.until_logged(FIRST, LEASE_RAN_OUT, lost_before + 1)
    await asyncio.sleep(1.0)


async def stop_answering(round_: Round) -> None:
    """SIGSTOP to all of Postgres for longer than a lease, then SIGCONT: statements arrive, and nobody answers them."""
    await asyncio.sleep(round_.seconds / 3)
    seconds = slowness.lengthened(round_.random.uniform(LEASE_SECONDS + 0.4, STATEMENT_SECONDS + 1.0))
    calls: list[asyncio.Task[None]] = []
    with round_.outage("Postgres stopped"):
        await asyncio.to_thread(round_.server.stop_answering)
        try:
            calls += [asyncio.create_task(_call(round_, name)) for name in sorted(round_.cluster.running)]
            await asyncio.sleep(seconds)
        finally:
            round_.server.answer_again()
    await asyncio.gather(*calls)
    await asyncio.sleep(0.5)


async def _call(round_: Round, name: str) -> None:
    """Asks a process what it can't know now: it must say so, and in time, whatever the caller's patience."""
    stub, endpoint = round_.cluster.running[name].stub, round_.registered[0]
    request = service_pb2.GetWebhookRequest(customer_id=endpoint.customer_id, webhook_id=endpoint.webhook_id)
    for seconds in (0.5, slowness.scaled(_PATIENCE_SECONDS)):
        asked_at = time.monotonic()
        said = "an answer"
        try:
            await stub.GetWebhook(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            said = error.code().name
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                said = error_details(error)["ErrorInfo"].reason
        took_seconds = time.monotonic() - asked_at
        # whoever is impatient has left before, whoever has patience is told why, or is answered afterwards
        expected = {"STORAGE_UNAVAILABLE", "DEADLINE_EXCEEDED" if seconds < statement_seconds() else "an answer"}
        assert said in expected, f"{name} said {said} after {took_seconds:.1f} s of {seconds:g} s"
        assert took_seconds < min(seconds, statement_seconds()) + slowness.scaled(1.5), (
            f"{name}: {said} only after {took_seconds:.1f} s"
        )


async def latency(round_: Round) -> None:
    """Every answer of the database to one process takes 50 ms more."""
    with round_.fault("network latency"):
        round_.proxy.set(Toxic.LATENCY)
        await asyncio.sleep(round_.seconds)
        round_.proxy.set(Toxic.NONE)
    assert round_.proxy.late_answers, "no answer was late"


async def lose_commit_answers(round_: Round) -> None:
    """Statements that settle and publish are committed, and the connection breaks before their answer arrives."""
    lost: dict[str, int] = dict.fromkeys(_COMMITS, 0)
    for pause, statement in zip(round_.pauses(0.3, 0.6), itertools.cycle(_COMMITS), strict=False):
        await asyncio.sleep(pause)
        with round_.fault("commit answer lost"):
            lost[statement] += await round_.proxy.lose_answer(statement.encode())
    owners = {await round_.owner_of(number) for number in range(len(round_.registered))}
    without = [statement for statement, count in lost.items() if not count]
    assert without == ([] if FIRST in owners else [_SETTLES]), f"no answer was lost to {without}"


async def exhaust_connections(round_: Round) -> None:
    """Somebody else takes every connection that Postgres has, and the service's own are terminated."""
    await asyncio.sleep(round_.seconds / 3)
    with round_.outage("connections exhausted"):
        await asyncio.to_thread(_hog, round_)
    await asyncio.sleep(round_.seconds / 2)


async def hold_snapshot(round_: Round) -> None:
    """A transaction that sees the past: nothing that the churn leaves behind can be vacuumed."""
    with contextlib.closing(psycopg.connect(round_.database_url)) as connection, round_.fault("held snapshot"):
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM deliveries")
        await asyncio.sleep(round_.seconds)


async def lose_listeners(round_: Round) -> None:
    """The connections that hear hints are lost: polling is the truth, so nothing is late."""
    ended = 0
    for pause in round_.pauses(0.3, 0.8):
        await asyncio.sleep(pause)
        with round_.fault("LISTEN lost"):
            parameters = {"database": round_.database_name, "listen": LISTEN}
            [(count,)] = await asyncio.to_thread(query, round_.server.url, TERMINATE_LISTENERS, parameters)
            ended += count
    assert ended, "no listener was ended"


def _hog(round_: Round) -> None:
    """Takes connections as they become free, for as long as the fault lasts."""
    until = time.monotonic() + slowness.scaled(_HOG_SECONDS_MAX)
    with _held_connections() as held, psycopg.connect(round_.server.url, autocommit=True) as administrator:
        while True:
            _take_all(round_.server.url, held)
            parameters = {"database": round_.database_name, "tenths": 10}
            [(ended,)] = administrator.execute(TERMINATE_SOME, parameters).fetchall()
            administrator.execute("SELECT pg_sleep(0.05)")
            if not ended:
                break
            assert time.monotonic() < until, f"the service still finds {ended} connections"
        administrator.execute("SELECT pg_sleep(1)")


@contextlib.contextmanager
def _held_connections() -> Generator[list[psycopg.Connection]]:
    held: list[psycopg.Connection] = []
    try:
        yield held
    finally:
        for connection in held:
            connection.close()


def _take_all(url: str, held: list[psycopg.Connection]) -> None:
    with contextlib.suppress(psycopg.OperationalError):  # too many clients: that is the aim
        while len(held) < CONNECTIONS_MAX:
            held.append(psycopg.connect(url))


_PROMPT_PLAN = tuple(plan.but_prompt() for plan in DEFAULT_PLAN)

SCENARIOS = (
    Scenario("Postgres crash", crash),
    Scenario("backends terminated", terminate_backends),
    Scenario("network reset", reset, proxied=True),
    Scenario("network stalled", stall, plan=FLAKY_PLAN, proxied=True),
    Scenario("network stalled beyond deadline", stall_beyond_deadline, plan=FLAKY_PLAN, proxied=True),
    Scenario("Postgres stopped", stop_answering, plan=FLAKY_PLAN),
    Scenario("network latency", latency, proxied=True),
    Scenario("commit answers lost", lose_commit_answers, proxied=True),
    Scenario("connections exhausted", exhaust_connections, needs_load=True),
    Scenario("held snapshot", hold_snapshot, plan=_PROMPT_PLAN),
    Scenario("LISTEN lost", lose_listeners, plan=_PROMPT_PLAN),
)
