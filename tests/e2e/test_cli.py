"""The command line: every expected failure is one sentence and a non-zero exit status, never a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString, cast

import click
import grpc
import pytest
from click.testing import CliRunner
from dotenv import dotenv_values
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql
from psycopg.conninfo import make_conninfo
from webhook.v1 import service_pb2

from tests.e2e.test_docs import said_by
from tests.support import slowness
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres, query
from tests.support.process import ROOT, Process, run_cli
from tests.support.receiver import Receiver, answer
from tests.support.service import SECRET_KEY, ServiceFactory
from webhook_grpc.cli import main
from webhook_grpc.commands.examples import HELP_NAMES
from webhook_grpc.domain.sealing import key_id_of, key_id_text
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.process.banner import URL
from webhook_grpc.settings import decode_secret_key
from webhook_grpc.store.schema.migrate import check_schema
from webhook_grpc.store.schema.migration_files import migration_names


async def one_sentence(*arguments: str, **settings: str) -> str:
    """Runs a command that must fail, and returns the one line that it says."""
    status, stdout, stderr = await run_cli(*arguments, **settings)
    assert status != 0
    assert not stdout
    assert "Traceback" not in stderr
    [line] = stderr.strip().splitlines()
    assert line.startswith("webhook-grpc: ")
    return line


async def test_all_wrong_settings_are_told_at_once() -> None:
    line = await one_sentence(
        "serve",
        WEBHOOK_GRPC_ADDRESS="nonsense",
        WEBHOOK_POLL_SECONDS="often",
        WEBHOOK_EGRESS_ALLOW_CIDRS="10.0.0.0/99",
        WEBHOOK_TOKENS="{",
        WEBHOOK_SECRET_KEYS="hunter2hunter2",
    )
    for name in ("GRPC_ADDRESS", "POLL_SECONDS", "EGRESS_ALLOW_CIDRS", "TOKENS", "SECRET_KEYS"):
        assert f"WEBHOOK_{name}" in line
    assert "hunter2" not in line


async def test_a_database_that_is_away_is_one_sentence_without_its_password() -> None:
    line = await one_sentence("serve", WEBHOOK_DATABASE_URL="postgresql://user:hunter2@127.0.0.1:1/db")
    assert "cannot be reached" in line
    assert "hunter2" not in line


async def test_grpc_in_plain_text_that_others_can_reach_is_warned_of_at_the_start() -> None:
    """Before anything else is tried; here no database is there."""
    settings = {
        "WEBHOOK_GRPC_ADDRESS": "0.0.0.0:0",
        "WEBHOOK_ALLOW_ANONYMOUS": "true",
        "WEBHOOK_DATABASE_URL": "postgresql://127.0.0.1:1/db",
    }
    _, _, stderr = await run_cli("serve", **settings)
    warning, failure = stderr.splitlines()
    assert warning.startswith("webhook-grpc: warning: WEBHOOK_GRPC_ADDRESS is reachable from other machines")
    assert "cannot be reached" in failure
    _, _, stderr = await run_cli("serve", WEBHOOK_GRPC_PLAINTEXT="true", **settings)
    assert stderr.splitlines() == [failure]


async def test_a_key_that_is_missing_is_one_sentence_with_its_id_and_what_to_do(
    database_url: str, services: ServiceFactory
) -> None:
    service = await services.start()
    await service.create_webhook("https://hooks.example.com/")
    await services.stop_one(service)
    status, key, stderr = await run_cli("keys", "new")
    assert status == 0
    made = re.search(r"the id of this key is ([0-9a-f]{8})", stderr)
    assert made is not None
    assert decode_secret_key(key.strip())
    status, stdout, stderr = await run_cli("serve", WEBHOOK_DATABASE_URL=database_url, WEBHOOK_SECRET_KEYS=key.strip())
    assert (status, stdout) == (1, "")
    [line] = [line for line in stderr.splitlines() if line.startswith("webhook-grpc: ")]  # after warnings of the log
    assert "Traceback" not in stderr
    missing = key_id_text(key_id_of(SECRET_KEY))
    assert f"lacks the key {missing} (the secrets of 1 webhook are sealed with it): it has {made[1]}; add" in line


async def test_too_few_connections_are_one_sentence_that_says_how_many_are_needed(
    database_url: str, postgres: TestPostgres
) -> None:
    with postgres.role("CONNECTION LIMIT 10") as ten:
        [(owner,)] = postgres.rows("SELECT current_user")
        query(postgres.url, sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(ten)))
        url = make_conninfo(database_url, user=ten)
        line = await one_sentence("serve", WEBHOOK_DATABASE_URL=url, WEBHOOK_GRPC_ADDRESS="127.0.0.1:0")
    assert re.search(r"needs \d+ connections to the database \(8 for calls", line)
    assert "WEBHOOK_DATABASE_POOL_SIZE" in line
    assert f"role `{ten}` allows 10" in line


async def test_a_taken_port_is_one_sentence(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = await one_sentence("serve", WEBHOOK_DATABASE_URL=database_url, WEBHOOK_GRPC_ADDRESS=address)
    assert f"cannot listen on {address}" in line


async def test_a_schema_that_does_not_fit_is_one_sentence(postgres: TestPostgres, worker_id: str) -> None:
    url = postgres.create_database(f"webhook_test_cli_{worker_id}")
    assert "no schema yet; run `webhook-grpc migrate`" in await one_sentence("serve", WEBHOOK_DATABASE_URL=url)
    status, stdout, _ = await run_cli("migrate", WEBHOOK_DATABASE_URL=url)
    assert (status, stdout) == (0, "".join(f"applied {name}\n" for name in migration_names()))
    assert (await run_cli("migrate", WEBHOOK_DATABASE_URL=url))[:2] == (0, "nothing to do\n")
    query(url, "INSERT INTO webhook_migrations VALUES ('9999-later.pre', 1, 1, 9999)")
    for command in ("serve", "migrate"):
        assert "run a newer version" in await one_sentence(command, WEBHOOK_DATABASE_URL=url)
    query(url, "DELETE FROM webhook_migrations WHERE name = '9999-later.pre'")
    query(url, "ALTER SCHEMA webhook_grpc RENAME TO ours")
    line = await one_sentence("serve", WEBHOOK_DATABASE_URL=url, WEBHOOK_DATABASE_SCHEMA="ours")
    _, statements = line.split("as their owner, run: ")
    assert statements.count("ALTER FUNCTION ours.") == 6
    for statement in statements.split("; "):
        query(url, cast("LiteralString", statement))
    for options in ("", "-c quote_all_identifiers=on"):
        assert check_schema(make_conninfo(url, options=options), schema="ours").schema == "ours"
    postgres.drop_database(f"webhook_test_cli_{worker_id}")


async def test_an_address_that_others_can_reach_needs_tokens() -> None:
    line = await one_sentence("serve", WEBHOOK_GRPC_ADDRESS="0.0.0.0:0", WEBHOOK_DATABASE_URL="x")
    assert "webhook-grpc token" in line


async def test_made_keys_and_tokens_are_what_the_settings_take() -> None:
    _, key, _ = await run_cli("keys", "new")
    assert len(decode_secret_key(key.strip())) == 32
    assert len(decode_secret_key(CliRunner().invoke(main, ["secret-key"]).stdout.strip())) == 32, "its name before"
    _, made, _ = await run_cli("token", "--name", "ci", "--customer-id", "7", "--permission", "read")
    match = re.fullmatch(r"token: (\S+)\nWEBHOOK_TOKENS='\[(\{.*\})\]'\n", made)
    assert match
    assert json.loads(match[2]) == {
        "name": "ci",
        "sha256": token_hash(match[1]),
        "customer_id": 7,
        "permissions": ["read"],
    }


async def test_what_the_commands_print_is_what_compose_takes_and_the_banner_works_with_it(
    database_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """The printed line stands in .env as it is; the commands of the banner are run as they are, but for the URL."""
    token, line = (await run_cli("token", "--name", "ci"))[1].splitlines()
    key = (await run_cli("keys", "new"))[1]
    compose = as_compose_would(tmp_path, f"POSTGRES_PASSWORD=any\nWEBHOOK_SECRET_KEYS={key}{line}\n")
    assert compose["WEBHOOK_GRPC_ADDRESS"] == "0.0.0.0:50051"
    assert compose["WEBHOOK_HTTP_ADDRESS"] == "0.0.0.0:8080"
    http_address = f"0.0.0.0:{free_port()}"
    own = {
        "WEBHOOK_GRPC_ADDRESS": "0.0.0.0:0",
        "WEBHOOK_HTTP_ADDRESS": http_address,
        "WEBHOOK_DATABASE_URL": database_url,
    }
    process = await Process.start(tmp_path / "log", **{**compose, **own})
    secret = token.removeprefix("token: ")
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await process.stub.ListWebhooks(service_pb2.ListWebhooksRequest())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        *calls, watch = await commands_of_banner(process)
        for call in calls:
            status, said = await typed(call.replace(URL, receiver.url("/hook")), TOKEN=secret)
            assert status == 0, said
        await receiver.wait_for(1, "/hook")
        assert await health_check_of_the_image(WEBHOOK_HTTP_ADDRESS=http_address) == 0
        await said_by(watch, '"cursor"', TOKEN=secret)
    finally:
        await process.end()
    assert await health_check_of_the_image(WEBHOOK_HTTP_ADDRESS=http_address) != 0
    assert secret not in (tmp_path / "log").read_text()


def as_compose_would(folder: Path, env: str) -> dict[str, str]:
    """The environment of the service as compose.yaml makes it from a file .env."""
    file = folder / ".env"
    file.write_text(env)
    known = dotenv_values(file)
    block = re.search(r"environment: &environment\n(.*?)\n  init:", (ROOT / "compose.yaml").read_text(), re.DOTALL)
    assert block
    lines = re.findall(r"^    ([A-Z_]+): (.*)$", block[1], re.MULTILINE)
    assert len(lines) == 10
    return {
        name: re.sub(
            r"\$\{(\w+):(?:\?|-([^}]*))[^}]*\}", lambda found: known.get(found[1]) or found[2] or "", text.strip('"')
        )
        for name, text in lines
    }


async def health_check_of_the_image(**settings: str) -> int | None:
    """Runs the health check of the Dockerfile and returns its exit status."""
    found = re.search(
        r'HEALTHCHECK .*?CMD \["python", "-c", "\\\n(.*?)"\]', (ROOT / "Dockerfile").read_text(), re.DOTALL
    )
    assert found
    status, _ = await typed(
        '"$PYTHON" -c "$CODE"', PYTHON=sys.executable, CODE=found[1].replace("\\\n", ""), **settings
    )
    return status


async def commands_of_banner(process: Process) -> list[str]:
    """What it shows to try."""
    assert process.process.stdout is not None
    text = ""
    async with slowness.timeout(10):
        while "Ctrl-C" not in text:
            text += (await process.process.stdout.readline()).decode()
    commands = re.findall(r"^  (\S*grpcurl .*(?:\n    .*)*)", text, re.MULTILINE)
    assert len(commands) == 4
    return commands


async def typed(command: str, **environment: str) -> tuple[int | None, str]:
    """Runs a command in bash, as a person would."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with slowness.timeout(30):
        said, _ = await process.communicate()
    return process.returncode, said.decode()


def oddly_named(folder: Path) -> Path:
    """A folder below this one, which the user of Postgres has to be able to enter."""
    folder.chmod(0o755)
    return folder / '100%25 of=R&D\'s "data" $HOME `id` (1)'


async def test_without_a_database_url_it_brings_its_own_and_says_what_to_try(tmp_path: Path, data_dir: Path) -> None:
    """In a folder of any name: what is in it reaches neither a shell nor a URI."""
    log = tmp_path / "log"
    data_dir = oddly_named(data_dir)
    settings = {"WEBHOOK_DATA_DIR": str(data_dir), "WEBHOOK_SECRET_KEYS": ""}
    process = await Process.start(log, **settings)
    assert process.process.stdout is not None
    said = ""
    async with slowness.timeout(20):
        while "Ctrl-C" not in said:
            said += (await process.process.stdout.readline()).decode()
    assert said.count("grpcurl -plaintext") == 4
    async with grpc.aio.insecure_channel(process.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its types lack the aio form
        answer = await health.Check(health_pb2.HealthCheckRequest(service="webhook.v1.WebhookService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    assert await process.terminate() == 0
    killed = await Process.start(log, **settings)
    await killed.kill()  # leaves Postgres running, which the next process finds and its last user stops
    await killed.end()
    again = await Process.start(log, **settings)
    assert await again.terminate() == 0
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


async def test_a_signal_ends_it_and_the_log_is_one_json_object_a_line(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = await Process.start(log, WEBHOOK_DATABASE_URL=database_url, WEBHOOK_POLL_SECOND="1")
    await process.stub.ListWebhooks(service_pb2.ListWebhooksRequest())
    assert await process.terminate() == 0
    warning, *lines = log.read_text().splitlines()
    assert "WEBHOOK_POLL_SECOND is not a setting" in warning
    records = [json.loads(line) for line in lines]
    [rpc] = [record for record in records if record["event"] == "rpc"]
    assert {"method", "code", "duration_ms", "caller", "customer_id", "request_id"} <= rpc.keys()
    assert [record["event"] for record in records][-1] == "stopped"


async def invoke(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Runs a command of ours in this process, which is cheaper: exit status, stdout, stderr."""
    result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments), env=settings)
    return result.exit_code, result.stdout, result.stderr


async def test_tokens_of_the_database_are_made_without_a_server_and_managed_at_one(
    database_url: str, tmp_path: Path
) -> None:
    """The first token for admins from the database itself; the rest as an admin does it, with that token."""
    here = {"WEBHOOK_DATABASE_URL": database_url}
    status, made, _ = await invoke("tokens", "create", "--role", "admin", "--all-customers", "--database", **here)
    assert status == 0
    admin = made.strip()
    noted = "SELECT caller, resources, source_address FROM audit_entries WHERE method = %s"
    by_hand = "webhook-grpc tokens --database"
    assert query(database_url, noted, ["CreateToken"]) == [(by_hand, [f"token:{admin.split('_')[1]}"], "")]
    services = ServiceFactory(database_url, tmp_path)
    service = await services.start(allow_anonymous=False, http_address="127.0.0.1:0")
    there = {"WHK_HTTP_URL": f"http://127.0.0.1:{service.app.http_port}", "WHK_TOKEN": admin}
    try:
        arguments = ("--role", "viewer", "--customer-id", "7", "--description", "a screen", "--expires-in", "90d")
        screen = (await invoke("tokens", "create", *arguments, **there))[1].strip()
        token_id = screen.split("_")[1]
        for where in ((), ("--database",)):
            listed = (await invoke("tokens", "list", *where, **here, **there))[1].splitlines()
            first, second = map(json.loads, listed)
            assert (first["role"], first["customer_ids"], first["description"]) == ("viewer", [7], "a screen")
            assert first["expire_time"] > first["create_time"]
            assert (second["role"], second["all_customers"]) == ("admin", True)
            assert not {screen, admin} & set(re.findall(r"whk_\w+", "".join(listed)))
        spare = (await invoke("tokens", "create", *arguments, "--database", **here))[1].split("_")[1]
        assert (await invoke("tokens", "revoke", spare, "--database", **here))[0] == 0
        assert query(database_url, noted, ["RevokeToken"]) == [(by_hand, [f"token:{spare}"], "")]
        assert (await invoke("tokens", "revoke", token_id, **there))[0] == 0
        for words, arguments, settings in (
            ("does not exist", ("revoke", token_id), there),
            ("does not exist", ("revoke", token_id, "--database"), here),
            ("is not known", ("list",), {**there, "WHK_TOKEN": screen}),
        ):
            status, stdout, stderr = await invoke("tokens", *arguments, **settings)
            assert (status, stdout) == (1, "")
            assert words in stderr
    finally:
        await services.stop()
    assert "did not answer" in (await invoke("tokens", "list", **there))[2]


async def test_the_token_of_an_admin_is_not_sent_where_an_answer_leads(receiver: Receiver) -> None:
    there = {"WHK_HTTP_URL": receiver.url("").rstrip("/"), "WHK_TOKEN": "whk_1_of_an_admin"}
    for status in (301, 302, 303, 307, 308):
        for path in ("/v1/tokens", "/v1/tokens/7"):
            receiver.on(path, answer(status, Location=receiver.url("/elsewhere")))
        for arguments in (("list",), ("revoke", "7"), ("create", "--role", "viewer", "--customer-id", "7")):
            failed, stdout, stderr = await invoke("tokens", *arguments, **there)
            assert (failed, stdout) == (1, "")
            assert f"answered {status}, which leads elsewhere" in stderr
    assert not receiver.at("/elsewhere")


async def test_a_new_token_begins_with_its_kind_and_may_be_an_admins() -> None:
    _, made, _ = await run_cli("token", "--name", "root", "--permission", "read", "--permission", "admin")
    assert made.startswith("token: whk_")
    assert '"permissions":["read","admin"]' in made


def commands_of(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands_of(command, (*words, name))


def examples_in(text: str) -> list[str]:
    return [line.strip() for line in text.partition("Examples:\n")[2].splitlines()]


def test_the_help_of_each_of_the_services_own_commands_ends_with_examples_that_it_takes() -> None:
    for words, command in [((), main), *commands_of(main)]:
        short, long = [CliRunner().invoke(main, [*words, name]) for name in ("-h", "--help")]
        assert (short.exit_code, short.stdout) == (0, long.stdout), words
        examples = examples_in(long.stdout)
        assert examples, words
        for example in examples:
            given = shlex.split(example.partition("webhook-grpc ")[2].partition(" | ")[0].partition(" > ")[0])
            place: click.Command = main
            # A command remembers from the first context how it is asked for help.
            context = click.Context(main, help_option_names=HELP_NAMES["help_option_names"])
            while isinstance(place, click.Group):
                place = place.commands[given.pop(0)]
            if "--help" not in given:
                place.make_context(example, given, parent=context)  # raises what a person would be told
        assert command is main or isinstance(command, click.Group) or " ".join(words) in " ".join(examples)


@pytest.mark.parametrize(
    ("line", "said", "remedy"),
    [
        ("serve --proceses 2", "No such option '--proceses'. Did you mean '--processes'?", "webhook-grpc serve"),
        ("serve --processes", "Option '--processes' requires an argument.", "webhook-grpc"),
        ("tokens revok 3", "No such command 'revok'. Did you mean 'revoke'?", "webhook-grpc tokens"),
        (
            "tokens create --role admin",
            "name customers with --customer-id, or give --all-customers",
            "webhook-grpc tokens create",
        ),
        ("keys rotate now", "Got unexpected extra argument (now)", "webhook-grpc keys rotate"),
    ],
)
def test_a_wrong_line_is_one_sentence_that_says_where_to_look(line: str, said: str, remedy: str) -> None:
    done = CliRunner().invoke(main, shlex.split(line), prog_name="webhook-grpc")
    assert (done.exit_code, done.stderr) == (2, f"error: {said}\n  try: {remedy} --help\n")
