"""The Go client: what it decides, with `go test`; and against a live service, in programs of a module of their own."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest
from webhook.v1 import service_pb2, webhook_pb2
from webhook.v1.delivery_pb2 import Delivery

from tests.support import slowness
from tests.support.authority import Authority, MountedSecret
from tests.support.full import IS_FULL, in_full
from tests.support.golang import go, run
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres
from tests.support.process import ROOT, Process
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.tokens import token_hash

CLIENT = ROOT / "clients" / "go"
PROGRAMS = Path(__file__).with_name("go")
STATICCHECK = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"
EVENTS = in_full(100_000, short=2_000)
KILLS = in_full(10, short=2)

pytestmark = [
    pytest.mark.slow(10),
    pytest.mark.timeout(in_full(7200, short=300)),
    pytest.mark.xdist_group("go"),  # one process compiles, the others need not wait for it
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs, built once, outside of this repository: their go.mod has the client by a `replace`, and no more.

    What Go adds to that are the versions that the client requires; it needs no sum that the client's go.sum has not.
    """
    folder = tmp_path_factory.mktemp("go") / "programs"
    shutil.copytree(PROGRAMS, folder)
    module = folder / "go.mod"
    module.write_text(module.read_text().replace("../../..", str(ROOT)))
    *sketch, receiver = (folder / "sketch.txt").read_text().split("\n\n")
    around = (folder / "sketched.go.txt").read_text()
    around = around.replace("SKETCH", "\n\n".join(sketch)).replace("RECEIVER", receiver)
    around = around.replace('"hooks.internal:443"', "*address").replace('"/run/secrets/hooks"', "*token")
    (folder / "sketched.go").write_text(around.replace('"billing.cursor"', "*cursor"))
    shutil.copy(CLIENT / "go.sum", folder)
    go(folder, "build", "-mod=mod", "-o", "programs", ".")
    assert (folder / "go.sum").read_text() == (CLIENT / "go.sum").read_text()
    return folder / "programs"


def test_what_the_client_decides() -> None:
    go(CLIENT, "test", "./...")


@pytest.mark.skipif(not IS_FULL, reason="compiling gRPC for the race detector takes minutes: make test-long")
def test_no_races_and_nothing_that_staticcheck_finds() -> None:
    go(CLIENT, "test", "-race", "-count=5", "./...", seconds=900)
    go(CLIENT, "run", STATICCHECK, "./...", seconds=900)


async def test_the_program_of_the_design_runs_as_it_is(
    programs: Path, services: ServiceFactory, tmp_path: Path
) -> None:
    """With the addresses and files of this test: publish, publish many, watch, receive."""
    tokens = [{"name": "one", "sha256": token_hash("one")}]
    service = await services.start(tokens=json.dumps(tokens))
    token = tmp_path / "token"
    token.write_text("one\n")
    files = ("-token", token, "-cursor", tmp_path / "cursor")

    ended = await run(programs, "-address", service.address, *files, "sketch")

    assert ended.stdout.startswith("ended with: context canceled\n"), ended
    handled = re.findall(r"^handled (evt_\w+) (\S+) (.*)$", ended.stdout, re.MULTILINE)
    kinds = [("job.completed", '{"job_id":"job-abc123"}'), ("job.failed", '{"n":1}'), ("job.failed", '{"n":2}')]
    assert sorted((event_type, data) for _, event_type, data in handled) == kinds
    succeeded = re.findall(r"^succeeded (evt_\w+)$", ended.stdout, re.MULTILINE)
    assert sorted(succeeded) == sorted(event_id for event_id, _, _ in handled)
    published = re.findall(r"^(evt_\w+)$", ended.stderr, re.MULTILINE)
    assert len(set(published) & set(succeeded)) == 2
    assert "DATA_NOT_JSON" in ended.stderr


async def test_mutual_tls_takes_the_names_of_files(programs: Path, services: ServiceFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    secret = MountedSecret(tmp_path / "secret", *authority.issue())
    service = await services.start(**secret.settings, grpc_client_ca_file=authority.file)
    certificate, key = authority.client()
    command = (programs, "-address", service.address, "-cert", certificate, "-key", key)

    ended = await run(*command, "-ca", authority.file, "one")

    assert re.fullmatch(r"evt_\w+\n", ended.stdout), ended


async def answered_test(service: Service, webhook_id: int) -> Delivery:
    request = service_pb2.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook_id)
    return (await service.stub.TestWebhook(request)).delivery


async def test_a_receiver_with_the_public_key_takes_what_the_key_signed_and_nothing_else(
    programs: Path, services: ServiceFactory
) -> None:
    service = await services.start()
    ed25519 = webhook_pb2.SIGNATURE_TYPE_ED25519
    await service.create_webhook("https://hooks.example.com/", signature_type=ed25519)  # makes the key
    listed = await service.stub.GetSigningKeys(service_pb2.GetSigningKeysRequest(customer_id=CUSTOMER))
    public_key = listed.signing_keys[0].public_key
    receiving = await asyncio.create_subprocess_exec(
        programs, "-public", public_key, "receive", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    Process.started.append(receiving)  # ended if this test fails
    assert receiving.stdout is not None

    async with slowness.timeout(40):
        address = (await receiving.stdout.readline()).decode().strip()
        signed = await service.create_webhook(f"http://{address}/", signature_type=ed25519)
        plain = await service.create_webhook(f"http://{address}/")
        taken, refused = [await answered_test(service, webhook.webhook_id) for webhook in (signed, plain)]
        stdout, _ = await receiving.communicate(b"\n")

    assert taken.last_attempt.response_status == 204
    assert refused.last_attempt.response_status == 400
    assert refused.last_attempt.response_body == b"SIGNATURE_WRONG\n"
    assert (receiving.returncode, stdout.decode().split()) == (0, [taken.event_id])


def test_what_a_producer_and_a_consumer_write_is_short() -> None:
    """Their functions, whole; what they leave out is how to connect, and how many goroutines there are."""
    text = (PROGRAMS / "main.go").read_text()
    for name in ("produce", "consume"):
        [body] = re.findall(rf"^func {name}\(.*?\{{\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)
        assert len(body.splitlines()) <= 15, name


async def test_each_event_is_published_once_and_each_ending_is_seen_while_the_server_is_killed(
    programs: Path, database_url: str, postgres: TestPostgres, receiver: Receiver, tmp_path: Path
) -> None:
    """Published from many goroutines."""
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_GRPC_ADDRESS": f"127.0.0.1:{free_port()}"}
    server = await Process.start(tmp_path / "log", **settings)
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="all", url=receiver.url(), events=["*"])
    await server.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
    file, seconds = tmp_path / "cursor", in_full(6000, short=240)  # a machine that is shared takes half an hour
    command = (programs, "-address", server.address, "-customer", str(CUSTOMER), "-count", str(EVENTS))
    watching = asyncio.create_task(run(*command, "-cursor", file, "watch", seconds=seconds))
    async with slowness.timeout(20):
        while not file.exists():
            assert not watching.done(), watching.result()
            await asyncio.sleep(0.01)  # it has joined the stream
    stops = ",".join(str(EVENTS * kill // (KILLS + 1)) for kill in range(1, KILLS + 1))
    publishing = (*command, "-tasks", "20", "-stops", stops, "publish")
    publisher = await asyncio.create_subprocess_exec(
        *publishing, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    Process.started.append(publisher)  # ended if this test fails
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    async with slowness.timeout(seconds):
        for _ in range(KILLS):
            assert (await publisher.stdout.readline()).startswith(b"reached ")
            await server.end()  # with the last batches on their way
            publisher.stdin.write(b"\n")
            server = await Process.start(tmp_path / "log", **settings)
        published = (await publisher.stdout.read()).decode().split()
        assert await publisher.wait() == 0
    watched = await watching

    assert len(set(published)) == len(published) == EVENTS
    [(count, distinct)] = postgres.rows("SELECT count(*), count(DISTINCT event_id) FROM events")
    assert (count, distinct) == (EVENTS, EVENTS), "each in the log once"
    assert (watched.status, sorted(watched.stdout.split())) == (0, sorted(published)), watched.stderr
    assert {request.event_id for request in receiver.requests} == set(published)
    await server.end()
