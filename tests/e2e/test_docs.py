"""Every command and program that the docs show is run here, as it stands there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import service_pb2

from tests.engine.test_keys import NEW_ID, NEW_KEY, OLD_ID
from tests.support import slowness
from tests.support.earlier import checkout, previous
from tests.support.ports import free_port
from tests.support.postgres import FORGET, TestPostgres, query
from tests.support.process import ROOT, Process
from tests.support.receiver import Receiver
from tests.support.service import SECRET, SECRET_KEY, ServiceFactory
from webhook_grpc.domain.signing import SigningKey, signature_headers
from webhook_grpc.domain.signing_keys import PrivateSigningKey
from webhook_grpc.settings import PREFIX
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.migration_files import POST, migration_names

BIN = Path(sys.executable).parent
_DATABASE = "webhook_test_docs"
in_playground = pytest.mark.asyncio(loop_scope="module")  # the loop of the service that they share
BLOCK = re.compile(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)


def blocks(path: str, name: str) -> str:
    """The blocks of a document that carry this mark, joined."""
    found = [body for mark, body in BLOCK.findall((ROOT / path).read_text()) if mark == name]
    assert found, f"{path} has no block marked {name}"
    return "\n".join(found)


async def started(*command: str | Path, **environment: str) -> asyncio.subprocess.Process:
    """Starts a command in the repository's root, in a session of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**inherited, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


async def run(*command: str | Path, seconds: float = 60, status: int = 0, **environment: str) -> str:
    """Runs a command in the repository's root; returns what it prints."""
    process = await started(*command, **environment)
    async with ended(process), slowness.timeout(seconds):
        output = (await process.communicate())[0].decode()
    assert process.returncode == status, output
    return output


async def said_by(command: str, *words: str, **environment: str) -> None:
    """Runs a command in bash that goes on for ever; returns when it has written all of the words, and ends it."""
    process = await started("bash", "-c", command, **environment)
    assert process.stdout is not None
    said = ""
    async with ended(process), slowness.timeout(60):
        while not all(word in said for word in words):
            line = (await process.stdout.readline()).decode()
            assert line, said
            said += line


async def what_it_says_first(process: asyncio.subprocess.Process) -> str:
    """Returns what a command writes up to the line that says how to end it."""
    assert process.stdout is not None
    said = ""
    async with slowness.timeout(60):
        while "Ctrl-C" not in said:
            line = (await process.stdout.readline()).decode()
            assert line, said
            said += line
    return said


@contextlib.asynccontextmanager
async def ended(process: asyncio.subprocess.Process) -> AsyncGenerator[None]:
    """Makes sure that a program and what it had started have ended after the block."""
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(process.pid, signal.SIGTERM)  # so that a service stops its Postgres
            with contextlib.suppress(TimeoutError):
                async with slowness.timeout(10):
                    await process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class Shared(NamedTuple):
    """The service that tests share, and its database."""

    process: Process
    database_url: str


class Playground:
    """The service and the receiver of the README's walk, on free ports."""

    def __init__(self, process: Process, receiver: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.receiver = receiver
        self._port = port

    def here(self, text: str) -> str:
        """The text of a document with this playground's addresses."""
        return (
            text.replace("127.0.0.1:50051", self.process.address)
            .replace("127.0.0.1:8090", f"127.0.0.1:{self._port}")
            .replace("http://127.0.0.1:8080", self.process.http_url)
        )

    async def next_request(self) -> str:
        """What the receiver prints for its next request."""
        assert self.receiver.stdout is not None
        async with slowness.timeout(20):
            while "evt_" not in (line := (await self.receiver.stdout.readline()).decode()):
                assert line, "the receiver ended"
        return line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Shared]:
    """One service for all tests that take `playground`, on a database of its own: other tests empty theirs."""
    url = postgres.create_database(_DATABASE)
    migrate(url)
    log = tmp_path_factory.mktemp("docs") / "log"
    process = await Process.start(log, WEBHOOK_DATABASE_URL=url, WEBHOOK_HTTP_ADDRESS="127.0.0.1:0")
    Process.started.remove(process.process)  # it outlives a test
    yield Shared(process, url)
    await process.end()
    postgres.drop_database(_DATABASE)


@pytest_asyncio.fixture(loop_scope="module")
async def playground(shared: Shared) -> AsyncGenerator[Playground]:
    query(shared.database_url, FORGET)
    port = free_port()
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, "-u", ROOT / "examples" / "receiver.py", str(port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert receiver.stdout is not None
        async with slowness.timeout(20):
            await receiver.stdout.readline()  # it says that it runs
        yield Playground(shared.process, receiver, port)
    finally:
        receiver.terminate()
        await receiver.wait()


async def bash(commands: str, status: int = 0) -> str:
    return await run("bash", "-euo", "pipefail", "-c", commands, status=status)


def walk(playground: Playground) -> list[str]:
    """The steps of the README: create, publish, look."""
    steps = [playground.here(body) for mark, body in BLOCK.findall((ROOT / "README.md").read_text()) if mark == "walk"]
    assert [re.findall(r"WebhookService/(\w+)", step) for step in steps] == [
        ["CreateWebhook"],
        ["PublishEvent"],
        ["ListDeliveries", "GetDelivery", "ListDeliveryAttempts"],
    ]
    return steps


@in_playground
async def test_the_walk_with_grpcurl(playground: Playground, tmp_path: Path) -> None:
    create, publish, look = walk(playground)
    assert '"status": "WEBHOOK_STATUS_ACTIVE"' in await bash(create)
    published = await bash(publish)
    assert len(set(re.findall(r"evt_\w+", published))) == 1
    assert published.count('"duplicate": true') == 1
    request = await playground.next_request()
    assert "both signatures are right" in request
    await until_settled(playground)
    looked = await bash(look.replace("/tmp/deliveries", str(tmp_path / "deliveries")))
    assert looked.count('"status": "DELIVERY_STATUS_SUCCEEDED"') == 2
    assert looked.count('"outcome": "ATTEMPT_OUTCOME_SUCCEEDED"') == 3


async def until_settled(playground: Playground) -> None:
    """Watches until the delivery has ended: the receiver knows a moment earlier than the database."""
    request = service_pb2.WatchDeliveriesRequest(customer_id=1, start_time=Timestamp(seconds=0))
    call = playground.process.stub.WatchDeliveries(request)
    async with slowness.timeout(20):
        async for message in call:
            if message.deliveries:
                break
    call.cancel()


@pytest.mark.slow(3)
@in_playground
async def test_the_first_event_arrives_at_a_receiver_of_the_command_line(
    playground: Playground, tmp_path: Path
) -> None:
    settings = {
        "WHK_ADDRESS": playground.process.address,
        "XDG_STATE_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    receive, publish = (
        blocks("README.md", name).replace(".venv/bin", str(BIN)) for name in ("first_receiver", "first_event")
    )
    process = await started("bash", "-c", receive, **settings)
    assert process.stdout is not None
    async with ended(process), slowness.timeout(60):
        while b"Ready" not in (line := await process.stdout.readline()):
            assert line, "listen ended"
        assert "1 of 1 delivered" in await run("bash", "-c", publish, seconds=60, status=0, **settings)
        while b"job.completed" not in line:
            line = await process.stdout.readline()
            assert line, "listen ended"
    assert b'{"webhook-signature":"right","X-Webhook-Signature":"right"}\t200\t' in line


@in_playground
async def test_watching_with_grpcurl(playground: Playground) -> None:
    create, publish, _ = walk(playground)
    await bash(create + publish)
    await until_settled(playground)
    await said_by(playground.here(blocks("README.md", "watch")), "DELIVERY_STATUS_SUCCEEDED", '"cursor"')


@in_playground
async def test_looking_around_with_curl(playground: Playground) -> None:
    shown = await bash(playground.here(blocks("README.md", "curl")))
    webhook, published, deliveries = (orjson.loads(line) for line in shown.replace("}{", "}\n{").splitlines())
    assert (webhook["status"], published["delivery_count"]) == ("active", 1)
    assert [delivery["event_id"] for delivery in deliveries["deliveries"]] == [published["event_id"]]
    await said_by(playground.here(blocks("README.md", "curl_watch")), '"cursor":')
    problem = orjson.loads(await bash(playground.here(blocks("docs/http.md", "problem"))))
    [example] = re.findall("```json\n(.*?)```", (ROOT / "docs/http.md").read_text(), re.DOTALL)
    assert {**problem, "request_id": ""} == {**orjson.loads(example), "request_id": ""}


@in_playground
async def test_describing_the_api(playground: Playground) -> None:
    described = await bash(playground.here(blocks("docs/clients.md", "describe")))
    assert "webhook.v1.WebhookService.PublishEvent is a method:" in described
    assert "webhook.v1.WebhookService/WatchDeliveries" in described


@in_playground
async def test_an_error_with_grpcurl_shows_its_details(playground: Playground) -> None:
    shown = await bash(f"{playground.here(blocks('README.md', 'error')).strip()} || true")
    assert "Code: FailedPrecondition" in shown
    assert "EVENT_TYPE_UNKNOWN" in shown
    assert "google.rpc.PreconditionFailure" in shown


@in_playground
async def test_the_python_program(playground: Playground) -> None:
    await bash(walk(playground)[0])
    printed = await run(sys.executable, "-c", playground.here(blocks("README.md", "python")))
    assert re.search(r"evt_\w+ goes to 1 webhooks\ndlv_\w+ DELIVERY_STATUS_SUCCEEDED 200\n", printed)


@in_playground
async def test_the_program_with_the_python_client(playground: Playground, tmp_path: Path) -> None:
    await bash(walk(playground)[0])
    program = playground.here(blocks("docs/clients.md", "client")).replace("my.cursor", str(tmp_path / "my.cursor"))
    printed = await run(sys.executable, "-c", program, PYTHONPATH=str(ROOT / "clients" / "python"))
    assert re.search(r"evt_\w+ goes to 1 webhooks\nevt_\w+\nEVENT_TYPE_UNKNOWN ", printed)
    assert re.search(r"^dlv_\w+ 1$", printed, re.MULTILINE)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@pytest.mark.slow(9)
@in_playground
async def test_the_program_with_the_go_client(playground: Playground, tmp_path: Path) -> None:
    await bash(walk(playground)[0])
    for file in ("tests/clients/go/go.mod", "clients/go/go.sum"):
        shutil.copy(ROOT / file, tmp_path)
    module = (tmp_path / "go.mod").read_text().replace("../../..", str(ROOT))
    (tmp_path / "go.mod").write_text(module)
    program = playground.here(blocks("docs/clients.md", "goclient")).replace("my.cursor", str(tmp_path / "my.cursor"))
    (tmp_path / "main.go").write_text(program)
    printed = await run("go", "run", "-C", str(tmp_path), "-mod=mod", ".", seconds=110)
    assert re.search(r"evt_\w+ goes to 1 webhooks\nevt_\w+ <nil>\nEVENT_TYPE_UNKNOWN ", printed)
    assert re.search(r"^dlv_\w+ 1$", printed, re.MULTILINE)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@in_playground
async def test_the_go_program(playground: Playground, tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(ROOT / "examples" / "go" / name, tmp_path)
    module = (tmp_path / "go.mod").read_text().replace("../../generated/go", str(ROOT / "generated" / "go"))
    (tmp_path / "go.mod").write_text(module)
    (tmp_path / "main.go").write_text(playground.here(blocks("README.md", "go")))
    printed = await run("go", "run", "-C", str(tmp_path), ".", seconds=110)
    assert re.search(r"evt_\w+ goes to 0 webhooks", printed)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@in_playground
async def test_the_go_example(playground: Playground) -> None:
    printed = await bash(playground.here(blocks("README.md", "goexample")))
    assert "SUCCEEDED after attempt 1" in printed


def test_the_program_for_receivers_with_the_python_client_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scope: dict[str, Any] = {}
    exec(blocks("docs/receiving.md", "client"), scope)  # noqa: S102 - that is the test
    body = b'{"event":"job.completed","timestamp":1,"data":{"n":1}}'
    headers = signature_headers([SigningKey(SECRET)], "evt_1", int(time.time()), body)
    assert scope["genuine_message"]([SECRET], headers, body).data == {"n": 1}
    assert scope["genuine_message"]([SECRET], headers, body + b" ") is None
    assert capsys.readouterr().out == "SIGNATURE_WRONG\n"


def test_the_program_for_receivers_with_public_keys_tells_genuine_from_forged() -> None:
    scope: dict[str, Any] = {}
    exec(blocks("docs/receiving.md", "public"), scope)  # noqa: S102 - that is the test
    body, private_key = b'{"event":"job.completed","timestamp":1,"data":{"n":1}}', PrivateSigningKey(bytes(32))
    public_keys = ["whpk_" + base64.b64encode(private_key.public_key).decode()]
    headers = signature_headers([SigningKey(SECRET)], "evt_1", int(time.time()), body, [private_key])
    assert scope["genuine_message"](public_keys, headers, body).data == {"n": 1}
    assert scope["genuine_message"](public_keys, headers, body + b" ") is None


@pytest.mark.parametrize("name", ["standard", "body"])
def test_the_programs_for_receivers_tell_genuine_from_forged(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(blocks("docs/receiving.md", name), scope)  # noqa: S102 - that is the test
    body = b'{"event":"job.completed"}'
    headers = signature_headers([SigningKey(SECRET)], "evt_1", int(time.time()), body)
    assert scope["is_genuine"](SECRET, headers, body)
    assert not scope["is_genuine"](SECRET, headers, body + b" ")
    assert not scope["is_genuine"]("whsec_" + "A" * 43 + "=", headers, body)
    assert not scope["is_genuine"](SECRET, {}, body)


@pytest.mark.parametrize("name", ["standard", "body"])
def test_the_program_for_a_change_of_the_secret_verifies_before_during_and_after(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(blocks("docs/receiving.md", name) + blocks("docs/receiving.md", "rotated"), scope)  # noqa: S102
    old, new, other = SECRET, "whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "="
    for signing in ([old], [new, old], [new]):
        headers = signature_headers(list(map(SigningKey, signing)), "evt_1", int(time.time()), b"{}")
        assert scope["is_genuine_with_any"]([new, old], headers, b"{}")
        assert not scope["is_genuine_with_any"]([new, old], headers, b"[]")
        assert not scope["is_genuine_with_any"]([other], headers, b"{}")


@in_playground
async def test_the_commands_for_tokens(playground: Playground, shared: Shared) -> None:
    """The playground takes calls without a token, so that revoking needs none."""
    commands = playground.here(blocks("docs/security.md", "tokens"))
    printed = await run("bash", "-ec", commands, WEBHOOK_DATABASE_URL=shared.database_url)
    made, *listed = printed.splitlines()
    token_id = made.split("_")[1]
    roles = [(token["role"], token["description"]) for token in map(orjson.loads, listed)]
    assert roles == [("publisher", "shop"), ("admin", "operators")]

    await run("bash", "-ec", playground.here(blocks("docs/security.md", "revoke")).replace(" 2 ", f" {token_id} "))

    assert query(shared.database_url, "SELECT role FROM tokens") == [("admin",)]


@in_playground
async def test_the_tasks_with_grpcurl(playground: Playground) -> None:
    create, publish, _ = walk(playground)
    await bash(create + publish)
    await until_settled(playground)

    output = await bash(playground.here(blocks("docs/tasks.md", "tasks")))

    for shown in (
        '"response_status": 200',  # find
        '"verdict": "MATCH_VERDICT_MATCHED"',  # explain
        '"success_rate": 1',  # numbers
        '"trigger": "ATTEMPT_TRIGGER_TEST"',
        '"trigger": "ATTEMPT_TRIGGER_MANUAL"',
        '"status": "DELIVERY_STATUS_CANCELLED"',
        '"delivery_count": "1"',  # dry run: what was cancelled
        '"status": "REPLAY_STATUS_(RUNNING|COMPLETED)"',
        "event.data#/amount",
        '"archived": true',
        '"secret": "whsec_',
        '"secret_overlap_end_time"',
        '"complete": true',
    ):
        assert re.search(shown, output), (shown, output)


@in_playground
async def test_cancelling_a_replay_with_grpcurl(playground: Playground) -> None:
    create, publish, _ = walk(playground)
    await bash(create + publish)
    await until_settled(playground)
    names, cancel = blocks("docs/tasks.md", "tasks").split("\n\n")[0], blocks("docs/tasks.md", "cancel_replay")
    start = """
call PauseWebhook '{"customer_id": 1, "webhook_id": '$WEBHOOK'}'
REPLAY_ID=$(call CreateReplay '{"replay": {"customer_id": 1, "start_time": "'$DAY_AGO'",
  "statuses": ["DELIVERY_STATUS_SUCCEEDED"]}}' | grep -om1 '"replay_id": "[0-9]*"' | tr -dc 0-9)
"""
    assert '"status": "REPLAY_STATUS_CANCELLED"' in await bash(playground.here(names + start + cancel))


async def test_publishing_in_a_transaction(
    services: ServiceFactory, postgres: TestPostgres, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    await service.create_webhook(receiver.url())
    page = "docs/sql.md"
    with psycopg.connect(services.database_url, autocommit=True) as admin, postgres.role() as role:
        admin.execute("CREATE TABLE public.orders (order_id bigint PRIMARY KEY, status text NOT NULL)")
        admin.execute(f"GRANT INSERT ON public.orders TO {role}".encode())
        admin.execute(f"REVOKE USAGE ON SCHEMA webhook_grpc FROM {role}".encode())  # only what the document grants
        try:
            admin.execute(blocks(page, "publish_event_grant").replace("orders_app", role).encode())
            monkeypatch.setenv(
                "DATABASE_URL", f"{services.database_url} options='-c role={role} -c search_path=public'"
            )
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as application:
                application.execute(blocks(page, "publish_event_sql").encode())
            printed = await run(sys.executable, "-c", blocks(page, "publish_event_python"))
            requests = await receiver.wait_for(2)
        finally:
            admin.execute("DROP TABLE public.orders")
    assert {orjson.loads(request.body)["data"]["order_id"] for request in requests} == {41, 42}
    assert printed.strip() in {request.event_id for request in requests}
    for request in requests:
        request.verify(SECRET)


# Stops the service as soon as it serves.
SERVE_ONCE = """
serve_once() {
    output=$(mktemp)
    webhook-grpc serve >"$output" 2>&1 &
    until grep -q "serves gRPC" "$output"; do kill -0 $!; sleep 0.1; done
    kill -TERM $!
    wait $!
    cat "$output"
    rm "$output"
}
"""


async def test_the_commands_of_a_deployment(database_url: str) -> None:
    commands = re.sub(
        r'WEBHOOK_DATABASE_URL="[^"]*"',
        f'WEBHOOK_DATABASE_URL="{database_url}"',
        blocks("docs/operations.md", "deploy"),
    )
    printed = await run("bash", "-euo", "pipefail", "-c", blocks("docs/operations.md", "secret_key"))
    key, words = printed.splitlines()[0], "the key from above"
    assert words in commands
    commands = commands.replace(words, key)
    commands = SERVE_ONCE + commands.replace("webhook-grpc serve", "serve_once")
    output = await run(
        "bash", "-euo", "pipefail", "-c", commands, WEBHOOK_GRPC_ADDRESS="127.0.0.1:0", WEBHOOK_HTTP_ADDRESS=""
    )
    assert "nothing to do" in output
    assert "serves gRPC on 127.0.0.1:" in output
    assert '"event":"stopped"' in output


@pytest.mark.slow(6)
async def test_the_commands_of_an_upgrade_and_of_the_way_back(
    postgres: TestPostgres, worker_id: str, tmp_path: Path
) -> None:
    """The version before is a real one; after the upgrade it works on what this one has made of its schema."""
    name = f"webhook_test_upgrade_{worker_id}"
    settings = {
        "WEBHOOK_DATABASE_URL": postgres.create_database(name),
        "WEBHOOK_SECRET_KEYS": base64.b64encode(SECRET_KEY).decode(),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "",
    }

    async def said(block: str, path: str = "") -> str:
        commands = SERVE_ONCE + blocks("docs/operations.md", block).replace("webhook-grpc serve", "serve_once")
        in_path = f"PATH={shlex.quote(path or str(BIN))}:$PATH"
        script = f"{in_path}\n{commands}"
        return await run("bash", "-euo", "pipefail", "-c", script, seconds=60, status=0, **settings)

    with checkout(previous()) as earlier:
        await asyncio.to_thread(earlier.migrate, settings["WEBHOOK_DATABASE_URL"])
        new = migration_names()[len(list(earlier.migrations.glob("*.sql"))) :]
        assert new
        upgrade = await said("upgrade")
        assert all(upgrade.count(one) == 2 for one in new if not one.endswith(POST)), upgrade  # planned, and applied
        program = tmp_path / "webhook-grpc"
        command = " ".join(shlex.quote(word) for word in earlier.program)
        program.write_text(f'#!/bin/sh\nPYTHONPATH={earlier.python_path} exec {command} "$@"\n')
        program.chmod(0o755)
        back = await said("go_back", str(tmp_path))
        last = [f"applied {one}" for one in new if one.endswith(POST)]
        assert (await said("finish")).endswith("\n".join(last or ["nothing to do"]) + "\n")  # it may have waited first
    assert "nothing to do" in back
    assert "serves gRPC on 127.0.0.1:" in back
    assert '"event":"stopped"' in back
    postgres.drop_database(name)


async def test_the_commands_that_change_the_secret_key(database_url: str, services: ServiceFactory) -> None:
    key, new = (base64.b64encode(key).decode() for key in (SECRET_KEY, NEW_KEY))
    service = await services.start()
    await service.create_webhook("https://hooks.example.com/", headers={"X-Own": "value"})

    async def said(status: int) -> list[str]:
        command = ("bash", "-euo", "pipefail", "-c", blocks("docs/operations.md", "rotate_keys"))
        keys = f"{new},{key}"
        output = await run(*command, status=status, WEBHOOK_DATABASE_URL=database_url, WEBHOOK_SECRET_KEYS=keys)
        return output.splitlines()

    refused = (await said(status=1))[-1]
    assert f"1 of 1 running processes lack the key {NEW_ID}, which is to seal" in refused

    await services.stop_one(service)
    await services.start([NEW_KEY, SECRET_KEY])
    *_, count, standing, newest, oldest = await said(status=0)
    assert count == f"2 sealed again, with the key {NEW_ID}"
    assert standing.startswith(f"{OLD_ID}: nothing is sealed with it; it can go at ")
    assert orjson.loads(newest) == {
        "key_id": NEW_ID, "position": 1, "secrets": 1, "previous_secrets": 0, "headers": 1, "signing_keys": 0,
        "queries": 0, "processes": 1, "sealing_processes": 1,
    }  # fmt: skip
    assert orjson.loads(oldest) == {
        "key_id": OLD_ID, "position": 2, "secrets": 0, "previous_secrets": 0, "headers": 0, "signing_keys": 0,
        "queries": 0, "processes": 1, "sealing_processes": 0,
    }  # fmt: skip


@pytest.mark.slow(2)
async def test_the_commands_that_list_settings() -> None:
    output = await run("bash", "-euo", "pipefail", "-c", blocks("docs/settings.md", "settings"))
    assert "WEBHOOK_LEASE_SECONDS=4  # default; seconds from 1 to 60" in output
    assert '"name":"WEBHOOK_LEASE_SECONDS"' in output


@in_playground
@pytest.mark.slow(5)
async def test_the_commands_of_the_runbook(playground: Playground, shared: Shared, tmp_path: Path) -> None:
    await bash(walk(playground)[0])
    [webhook] = (await playground.process.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=1))).webhooks
    await playground.process.stub.PauseWebhook(
        service_pb2.PauseWebhookRequest(customer_id=1, webhook_id=webhook.webhook_id)
    )
    await bash(walk(playground)[1])

    commands = playground.here(blocks("docs/runbook.md", "runbook")).replace("new.secret", str(tmp_path / "new.secret"))
    commands = commands.replace("127.0.0.1:8080", playground.process.http_url.removeprefix("http://"))
    key = base64.b64encode(SECRET_KEY).decode()
    output = await run(
        "bash", "-euo", "pipefail", "-c", commands, WEBHOOK_DATABASE_URL=shared.database_url, WEBHOOK_SECRET_KEYS=key
    )

    for shown in (
        "ready$|the log says why",  # whether it is ready just now does not matter here
        "^webhook_ready [01]",
        "^webhook_shards_owned [0-9]",
        "that of this version",  # doctor
        "^webhook_rpcs_waiting [0-9]",
        "matched|paused",  # explain
        "^process_open_fds",
        '"sealing_processes":1',  # keys list
        "webhook_tls_files_refused",
    ):
        assert re.search(shown, output, re.MULTILINE), (shown, output)
    assert (tmp_path / "new.secret").read_text().startswith("whsec_")


def test_the_queries_of_the_runbook(database_url: str) -> None:
    statements = [one for one in blocks("docs/runbook.md", "runbook_sql").split(";") if one.strip()]
    assert len(statements) == 8
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_the_statements_of_the_runbook_that_end_something(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection, psycopg.connect(database_url) as session:
        connection.execute("SELECT pg_create_physical_replication_slot('unused')")
        text = blocks("docs/runbook.md", "runbook_end").replace("4711", str(session.info.backend_pid))
        for statement in filter(str.strip, text.split(";")):
            connection.execute(statement.encode())
        left = connection.execute("SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'unused'")
        assert not left.fetchall()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


@in_playground
async def test_the_commands_of_the_specification_in_chinese(playground: Playground) -> None:
    shown = await bash(playground.here(blocks("docs/zh-CN/specification.md", "specification")))
    webhook, published = (orjson.loads(line) for line in shown.replace("}{", "}\n{").splitlines())
    assert (type(webhook["webhook_id"]), webhook["status"]) == (int, "active")
    assert (published["delivery_count"], published["duplicate"]) == (1, False)


@in_playground
async def test_reading_the_figures(playground: Playground) -> None:
    assert "webhook_build_info" in await bash(playground.here(blocks("docs/metrics.md", "metrics")))


async def test_make_help_lists_every_command() -> None:
    listed = await run("make", "--no-print-directory", "help")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[0] for line in listed.splitlines()} == targets
    assert set(re.findall(r"`?make ([a-z]+)`?", (ROOT / "README.md").read_text())) <= targets


@pytest.mark.slow
async def test_make_demo_ends_well() -> None:
    output = await run("make", "demo", seconds=100)
    assert "all deliveries arrived and verified: 18 of 18 succeeded, 2 failed attempts were retried" in output


@pytest.mark.slow
async def test_make_run_serves_until_it_is_stopped(data_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "make",
        "run",
        cwd=ROOT,
        env={
            **os.environ,
            "WEBHOOK_DATA_DIR": str(data_dir),
            "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
            "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    async with ended(process):
        await what_it_says_first(process)
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
        async with slowness.timeout(30):
            await process.wait()
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
