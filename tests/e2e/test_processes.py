"""`serve --processes`: several processes behind one address, as one service.

Most tests share one service of two processes, which has tokens and a separate address for metrics. A test that kills a
process waits until it is started again. Each has a customer of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc
import psutil
import psycopg
import pytest
import pytest_asyncio
from aiohttp import ClientSession, TCPConnector
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, token_pb2, webhook_pb2

from tests.support import slowness
from tests.support.ports import free_port
from tests.support.postgres import SEARCH_PATH, TestPostgres, query
from tests.support.process import Process, run_cli
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Watch, error_details

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("processes"),
    pytest.mark.timeout(240),
    pytest.mark.slow(5),
]

CALLERS: Final = 20  # each with a connection of its own: that all of them meet one process is a chance of 1 in 500,000
SCRAPES: Final = 20
LEASE_SECONDS: Final = 60.0  # as long as there are: what is taken over within a test was not taken when it ran out
SHARES: Final = (
    "SELECT count(*) FROM shards s JOIN workers w ON w.worker_id = s.owner WHERE w.pid = ANY(%s) GROUP BY pid"
)
LOCK_LEASE: Final = "SELECT 1 FROM workers WHERE pid = %s AND lease_until > now() FOR UPDATE"
STARTED: Final = "a process serves"
LEASE_ENDED: Final = "lease of a dead process ended"
SERVICE: Final = "webhook.v1.WebhookService"
CONNECTIONS: Final = 8  # on which a token is used
PAUSE_SECONDS: Final = 0.1  # between two of its calls on one of them: that is the load
LIFE_SECONDS: Final = 3.0  # of a token that expires: by then it is used
PROMISED_SECONDS: Final = 2.0
REFLECTION: Final = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
AUTHORIZED: Final = (("authorization", "Bearer operator"),)
HEADERS: Final = {"Authorization": "Bearer operator"}

Figures = dict[tuple[str, ...], float]
pb: Any = reflection_pb2


def tokens(name: str) -> str:
    """A file with one token whose text is its name."""
    allowed = ["read", "publish", "manage", "admin"]
    return json.dumps([{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "permissions": allowed}])


@dataclass
class Pair:
    """The service, with what it was given."""

    process: Process
    log: Path
    tokens: Path
    metrics_url: str

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.process.pid).children()

    def count(self, line: str) -> int:
        """How often a line is in the log."""
        return self.log.read_text().count(f'"{line}"')

    async def until_logged(self, line: str, times: int) -> None:
        """Waits until a line is in the log so often."""
        async with slowness.timeout(60):
            while self.count(line) < times:
                await asyncio.sleep(0.05)  # a file gives no signal

    async def until_shared(self, postgres: TestPostgres) -> None:
        """Waits until each child has its share of the shards, and no shard is to change hands."""
        async with slowness.timeout(60):
            while postgres.rows(SHARES, [[child.pid for child in self.children]]) != [(32,), (32,)]:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pair]:
    """Two processes on one address, with leases that do not run out. All of them drain when the service is to end."""
    postgres.empty()
    folder, metrics = tmp_path_factory.mktemp("pair"), f"127.0.0.1:{free_port()}"
    (folder / "tokens").write_text(tokens("operator"))
    found = await Process.start(
        folder / "log",
        WEBHOOK_PROCESSES="2",
        WEBHOOK_DATABASE_URL=postgres.url,
        WEBHOOK_HTTP_ADDRESS="127.0.0.1:0",
        WEBHOOK_METRICS_ADDRESS=metrics,
        WEBHOOK_TOKENS_FILE=str(folder / "tokens"),
        WEBHOOK_LEASE_SECONDS=str(LEASE_SECONDS),
        WEBHOOK_STALL_SECONDS=str(slowness.lengthened(4.0)),
        WEBHOOK_PROCESS_RESTART_SECONDS_MIN="0.5",
    )
    Process.started.remove(found.process)  # it outlives a test
    pair = Pair(found, folder / "log", folder / "tokens", f"http://{metrics}")
    yield pair
    children = pair.children
    try:
        assert await found.terminate() == 0
        assert not any(child.is_running() for child in children)
    finally:
        await found.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncGenerator[Receiver]:
    """A customer's endpoint."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


def connections(pair: Pair, count: int) -> list[grpc.aio.Channel]:
    """Returns connections; which process each of them meets is chance."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return [grpc.aio.insecure_channel(pair.process.address, options) for _ in range(count)]


async def callers(pair: Pair) -> AsyncGenerator[grpc.aio.Channel]:
    """Which process each of them meets is chance."""
    for _ in range(CALLERS):
        address, options = pair.process.address, [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options) as channel:
            yield channel


async def got(url: str, count: int = CALLERS, headers: Mapping[str, str] | None = None) -> list[tuple[int, str]]:
    """Asks so many times, each time on a connection of its own: the statuses and texts."""
    async with ClientSession(connector=TCPConnector(force_close=True), headers=headers) as session:
        answers = list[tuple[int, str]]()
        for _ in range(count):
            async with session.get(url) as response:
                answers.append((response.status, await response.text()))
        return answers


def counters(text: str) -> Figures:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


async def create_webhook(pair: Pair, customer_id: int, url: str) -> None:
    webhook = webhook_pb2.Webhook(customer_id=customer_id, name="one", url=url, events=["*"])
    await pair.process.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), metadata=AUTHORIZED)


def publication(customer_id: int, request_id: str = "") -> service_pb2.PublishEventRequest:
    event = event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json="{}")
    return service_pb2.PublishEventRequest(event=event, request_id=request_id)


async def published(pair: Pair, customer_id: int) -> None:
    """Publishes until a process takes it that lives: a call at a process that dies ends with UNAVAILABLE."""
    while True:
        try:
            address, options = pair.process.address, [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(address, options) as channel:
                stub = service_pb2_grpc.WebhookServiceStub(channel)
                await stub.PublishEvent(publication(customer_id, "once"), metadata=AUTHORIZED)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            return


async def health_of(channel: grpc.aio.Channel) -> str:
    stub: Any = cast("Any", health_pb2_grpc).HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def reflection(channel: grpc.aio.Channel) -> Any:
    ask: Any = cast("Any", channel).stream_stream(REFLECTION, None, pb.ServerReflectionResponse.FromString)
    return ask


async def reflected(channel: grpc.aio.Channel) -> str:
    """The services that reflection lists to a caller."""
    question = pb.ServerReflectionRequest(list_services="*").SerializeToString()
    call = reflection(channel)(iter([question]), metadata=AUTHORIZED, timeout=slowness.scaled(20))
    [answer] = [answer async for answer in call]
    return " ".join(sorted(service.name for service in answer.list_services_response.service))


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name


async def until_all_answer(pair: Pair, status: int, are_right: Callable[[set[str]], bool]) -> set[str]:
    """Asks /readyz until all answers have the status, and are right together; returns what they say."""
    async with slowness.timeout(60):
        while True:
            answers = await got(f"{pair.process.http_url}/readyz")
            texts = {text for _, text in answers}
            if {found for found, _ in answers} == {status} and are_right(texts):
                return texts
            await asyncio.sleep(0.05)  # no signal comes from other processes


async def test_no_answer_depends_on_which_process_was_met(pair: Pair, receiver: Receiver) -> None:
    url = pair.process.http_url
    await until_all_answer(pair, 200, lambda texts: texts == {"ready\n"})
    for path, expected in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        assert set(await got(url + path)) == set(await got(pair.metrics_url + path)) == {(200, expected)}
    for path in ("/", "/api/caller", "/api/openapi.json"):
        assert [status for status, _ in set(await got(url + path, headers=HEADERS))] == [200], path
    assert {status for status, _ in await got(url + "/api/webhooks?customer_id=42")} == {401}
    assert {status for status, _ in await got(f"{url}/metrics", headers=HEADERS)} == {404}, (
        "it has an address of its own"
    )

    await create_webhook(pair, 42, receiver.url())
    same, published_ids, watched_ids, services = set[str](), list[str](), list[str](), set[str]()
    request = service_pb2.WatchDeliveriesRequest(customer_id=42)
    request.start_time.FromJsonString("2026-01-01T00:00:00Z")
    async for channel in callers(pair):
        assert await health_of(channel) == "SERVING"
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        assert await refused(stub.PublishEvent(publication(42, "the same"))) == "UNAUTHENTICATED"
        # Nothing is written: grpc.aio's client reports INTERNAL if the answer comes while it writes.
        assert (await reflection(channel)(timeout=slowness.scaled(20)).code()).name == "UNAUTHENTICATED"
        services.add(await reflected(channel))
        same.add((await stub.PublishEvent(publication(42, "the same"), metadata=AUTHORIZED)).event_id)
        published_ids.append((await stub.PublishEvent(publication(42), metadata=AUTHORIZED)).event_id)
        watch = Watch(stub.WatchDeliveries(request, metadata=AUTHORIZED))
        endings = await watch.until_ended(1 if watched_ids else 2)
        watched_ids += [delivery.event_id for delivery in endings]
        watch.call.cancel()
        request = service_pb2.WatchDeliveriesRequest(customer_id=42, cursor=watch.cursor)
    assert sorted(watched_ids) == sorted([*same, *published_ids]), "each once, from whoever has the cursor"
    assert [SERVICE in found for found in services] == [True]


@dataclass
class Uses:
    """Calls and streams of one token, over connections to whichever process, each until it is refused."""

    metadata: Any
    served_at: float = 0.0  # when the last call began that was served, in seconds of time.time
    ended_at: float = 0.0  # when the last stream ended
    reasons: Counter[str] = field(default_factory=Counter[str])
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def begin(self, channels: Sequence[grpc.aio.Channel]) -> None:
        """Begins a stream and calls on each of these; returns when all streams have begun."""
        begun = [asyncio.Event() for _ in channels]
        for channel, each in zip(channels, begun, strict=True):
            stub: Any = service_pb2_grpc.WebhookServiceStub(channel)
            self.tasks += [
                asyncio.create_task(self._refused(one)) for one in (self._call(stub), self._watch(stub, each))
            ]
        async with slowness.timeout(20):
            await asyncio.gather(*(each.wait() for each in begun))

    async def refused_for(self) -> set[str]:
        """Returns why they are refused, when all are."""
        async with slowness.timeout(40):
            await asyncio.gather(*self.tasks)
        return set(self.reasons)

    async def _call(self, stub: Any) -> None:
        while True:
            began_at = time.time()
            await stub.PublishEvent(publication(CUSTOMER), metadata=self.metadata)
            self.served_at = max(self.served_at, began_at)
            await asyncio.sleep(PAUSE_SECONDS)  # the pace of the load

    async def _watch(self, stub: Any, begun: asyncio.Event) -> None:
        request = service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER)
        stream = stub.WatchDeliveries(request, metadata=self.metadata)
        try:
            while await stream.read():
                begun.set()
        finally:
            self.ended_at = time.time()

    async def _refused(self, use: Awaitable[None]) -> None:
        try:
            await use
        except grpc.aio.AioRpcError as error:
            self.reasons[f"{error.code().name} {error_details(error)['ErrorInfo'].reason}"] += 1


async def test_a_token_that_is_revoked_or_expires_while_it_is_used_ends_in_each_process_and_so_do_its_streams(
    pair: Pair,
) -> None:
    async def made(**end: Any) -> tuple[int, Uses]:
        token = token_pb2.Token(role=token_pb2.TOKEN_ROLE_ADMIN, customer_ids=[CUSTOMER], **end)
        request = service_pb2.CreateTokenRequest(token=token)
        answer = await pair.process.stub.CreateToken(request, metadata=AUTHORIZED)
        return answer.token_id, Uses([("authorization", f"Bearer {answer.bearer_token}")])

    channels = connections(pair, CONNECTIONS)
    expires_at = time.time() + slowness.scaled(LIFE_SECONDS)
    expire_time = Timestamp()
    expire_time.FromNanoseconds(round(expires_at * 1e9))
    (revoked_id, revoked), (_, expiring), (_, kept) = await made(), await made(expire_time=expire_time), await made()
    try:
        for uses in (expiring, revoked, kept):
            await uses.begin(channels)
        await pair.process.stub.RevokeToken(service_pb2.RevokeTokenRequest(token_id=revoked_id), metadata=AUTHORIZED)
        revoked_at = time.time()

        assert await revoked.refused_for() == {"UNAUTHENTICATED TOKEN_INVALID"}
        assert await expiring.refused_for() == {"UNAUTHENTICATED TOKEN_EXPIRED"}
        for uses, end in ((revoked, revoked_at), (expiring, expires_at)):
            assert max(uses.served_at, uses.ended_at) - end <= slowness.scaled(PROMISED_SECONDS)
        assert kept.served_at > revoked_at
        assert not any(task.done() for task in kept.tasks)
    finally:
        for task in (*revoked.tasks, *expiring.tasks, *kept.tasks):
            task.cancel()
        await asyncio.gather(*kept.tasks, return_exceptions=True)
        for channel in channels:
            await channel.close()


async def test_whoever_is_scraped_shows_the_figures_of_all_and_counters_never_fall(pair: Pair) -> None:
    async for channel in callers(pair):
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        await stub.PublishEvent(publication(43), metadata=AUTHORIZED)
    before: Figures = {}
    for status, text in await got(f"{pair.metrics_url}/metrics", SCRAPES):
        assert status == 200
        now = counters(text)
        assert not {name for name, value in before.items() if now[name] < value}
        before = now
    for process in ("1", "2"):
        calls = [name for name in before if name[0] == "webhook_rpcs_total" and f"process={process}" in name]
        assert sum(before[name] for name in calls) > 0, "else this test has shown nothing"


async def test_an_address_that_is_taken_is_refused_at_once(pair: Pair, postgres: TestPostgres) -> None:
    settings = {"WEBHOOK_DATABASE_URL": postgres.url, "WEBHOOK_GRPC_ADDRESS": pair.process.address}
    status, _, said = await run_cli("serve", "--processes", "2", **settings)
    assert status == 1
    assert f"cannot listen on {pair.process.address}" in said
    assert said.count("\n") == 1, said


async def test_when_a_process_is_killed_the_others_deliver_at_once_and_it_is_started_again(
    pair: Pair, receiver: Receiver, postgres: TestPostgres
) -> None:
    assert len(pair.children) == 2
    for child in pair.children:
        assert any("google/_upb" in each.path for each in child.memory_maps())
    parent = psutil.Process(pair.process.process.pid)
    assert not any("google/_upb" in each.path for each in parent.memory_maps())

    for number in range(16):  # of many shards, and so of both processes
        await create_webhook(pair, 44, receiver.url(f"/killed/{number}"))
    await pair.until_shared(postgres)
    starts, ended = pair.count(STARTED), pair.count(LEASE_ENDED)
    pair.tokens.write_text(tokens("another"))
    with another_installation(postgres):
        os.kill(pair.children[0].pid, signal.SIGKILL)
        await published(pair, 44)
        for number in range(16):
            await receiver.wait_for(1, f"/killed/{number}", seconds=LEASE_SECONDS / 2)
        await pair.until_logged(LEASE_ENDED, ended + 1)
        await until_all_answer(pair, 200, lambda texts: texts == {"ready\n"})  # whoever restarts does no harm

        await pair.until_logged(STARTED, starts + 1)
    [(_, text)] = await got(f"{pair.metrics_url}/metrics", 1)
    assert sum(value for name, value in counters(text).items() if name[0] == "webhook_process_restarts_total") > 0
    async for channel in callers(pair):  # who was started again knows what the others know
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        await stub.PublishEvent(publication(44), metadata=AUTHORIZED)
        other = (("authorization", "Bearer another"),)
        assert await refused(stub.PublishEvent(publication(44), metadata=other)) == "UNAUTHENTICATED"


@contextmanager
def another_installation(postgres: TestPostgres) -> Generator[None]:
    """Makes an installation that whoever looks now would take, and can't work with. Takes it away at the end."""
    database = sql.Identifier(str(conninfo_to_dict(postgres.url)["dbname"]))
    lead = "ALTER DATABASE {} SET search_path = "
    try:
        query(postgres.url, "CREATE TABLE public.webhook_migrations ()")
        query(postgres.url, sql.SQL(lead + "public, webhook_grpc").format(database))
        yield
    finally:
        query(postgres.url, sql.SQL(lead + SEARCH_PATH).format(database))
        query(postgres.url, "DROP TABLE IF EXISTS public.webhook_migrations")


async def test_while_one_process_is_unwell_all_say_so(pair: Pair, postgres: TestPostgres) -> None:
    await pair.until_shared(postgres)
    starts = pair.count(STARTED)
    survivor, victim = pair.children
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await connection.execute(LOCK_LEASE, [survivor.pid])
        os.kill(victim.pid, signal.SIGKILL)  # so that the other one wants to renew its lease now, and waits for us
        await pair.until_logged(STARTED, starts + 1)
        texts = await until_all_answer(pair, 503, lambda texts: len(texts) == 2)
        assert sorted("process " in text for text in texts) == [False, True], "who is well names who is not"
        async for channel in callers(pair):
            assert await health_of(channel) == "NOT_SERVING"
    await until_all_answer(pair, 200, lambda texts: texts == {"ready\n"})
    async for channel in callers(pair):
        assert await health_of(channel) == "SERVING"


async def test_when_the_parent_is_killed_the_others_drain_and_end(postgres: TestPostgres, tmp_path: Path) -> None:
    service = await Process.start(tmp_path / "log", WEBHOOK_PROCESSES="2", WEBHOOK_DATABASE_URL=postgres.url)
    children = psutil.Process(service.process.pid).children()
    await service.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, slowness.scaled(30))
    assert not alive
    assert (tmp_path / "log").read_text().count('"stopped"') == 2
    await service.end()


async def test_what_is_wrong_at_the_first_start_is_said_once_and_ends_the_service(postgres: TestPostgres) -> None:
    settings = {"WEBHOOK_DATABASE_URL": postgres.url, "WEBHOOK_LOG_LEVEL": "error"}
    status, _, said = await run_cli("serve", "--processes", "3", WEBHOOK_DATABASE_POOL_SIZE="1000", **settings)
    assert (status, said.count("a process needs 1011 connections")) == (1, 1), said
    assert said.count("\n") == 1, said
