"""The systemd unit, and what its manager hears from the service over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import structlog
from structlog.typing import EventDict
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.authority import Authority, MountedSecret
from tests.support.full import in_full
from tests.support.process import CLI, ROOT, Process, run
from tests.support.service import CUSTOMER
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.parent import running
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.settings import Settings

UNIT = ROOT / "deploy" / "systemd" / "webhook-grpc.service"
BEAT = "WATCHDOG=1"


class Manager:
    """Plays systemd: a socket, and what comes there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.setblocking(False)

    async def next_words(self, *, are_beats_wanted: bool = True) -> str:
        """Returns the next datagram."""
        async with slowness.timeout(30):
            while True:
                words = (await asyncio.get_running_loop().sock_recv(self._socket, 1000)).decode()
                if words != BEAT or are_beats_wanted:
                    return words

    async def next_state(self) -> str:
        """Returns the next datagram that is no beat."""
        return await self.next_words(are_beats_wanted=False)

    def waiting(self) -> Iterator[str]:
        """Takes what has come so far."""
        while True:
            try:
                yield self._socket.recv(1000).decode()
            except BlockingIOError:
                return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def kind() -> str:
    return "path"


@pytest.fixture
def manager(kind: str, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if kind == "path" else f"@webhook-grpc-test-{uuid4()}"
    with closing(Manager(address)) as made:
        yield made


def unit() -> dict[str, str]:
    """The section `Service`."""
    section = UNIT.read_text().partition("[Service]\n")[2].partition("\n[")[0]
    lines = (line.partition("=") for line in section.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


@pytest.mark.slow(5)
@pytest.mark.parametrize("kind", in_full(["abstract", "path"], short=["abstract"]))
async def test_systemd_hears_when_it_serves_moves_reloads_and_drains(
    manager: Manager, database_url: str, tmp_path: Path
) -> None:
    """With two processes, whose parent alone speaks, at an abstract address, and with one at a path.

    Files of TLS are read again; that of tokens is not, and what is wrong in it disturbs nobody.
    """
    authority = Authority(tmp_path / "authority")
    secret = MountedSecret(tmp_path / "secret", *authority.issue())
    processes = 2 if manager.address.startswith("@") else 1
    log, tokens = tmp_path / "log", tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"name": "ops", "sha256": token_hash("ops"), "permissions": ["read"]}]))
    starting = Process.start(
        log,
        NOTIFY_SOCKET=manager.address,
        WATCHDOG_USEC="200000",
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_PROCESSES=str(processes),
        WEBHOOK_TLS_LOOK_SECONDS="3600",
        WEBHOOK_TOKENS_FILE=str(tokens),
        **{f"WEBHOOK_{name.upper()}": str(path) for name, path in secret.settings.items()},
    )
    process, words = await asyncio.gather(starting, manager.next_state())
    assert words == "READY=1"
    assert await manager.next_words() == BEAT
    main = psutil.Process(process.process.pid)
    for one in (main, *main.children()):
        assert ("NOTIFY_SOCKET" in one.environ()) == (one == main), "what others say is not the service's state"

    secret.swap(*authority.issue())
    tokens.write_text("no list")
    main.send_signal(signal.SIGUSR1)
    words, _, when = (await manager.next_state()).partition("\n")
    assert words == "RELOADING=1"
    assert 0 < int(when.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert await manager.next_state() == "READY=1"
    async with slowness.timeout(20):
        while log.read_text().count('"new TLS files are served"') < processes:
            list(manager.waiting())  # beats, for which the socket has little room
            await asyncio.sleep(0.05)  # a file gives no signal
    await process.call_over_tls(authority.channel_credentials())
    request = service_pb2.ListWebhooksRequest(customer_id=CUSTOMER)
    await process.stub.ListWebhooks(request, metadata=[("authorization", "Bearer ops")])

    main.send_signal(signal.SIGTERM)
    assert await manager.next_state() == "STOPPING=1"
    assert await process.terminate() == 0
    assert set(manager.waiting()) <= {BEAT}


async def test_no_beat_is_sent_while_the_event_loop_stands_still(manager: Manager) -> None:
    beating = asyncio.create_task(ServiceManager(manager.address, beat_seconds=0.01).run())
    assert await manager.next_words() == BEAT
    assert await manager.next_words() == BEAT
    list(manager.waiting())
    time.sleep(0.2)  # noqa: ASYNC251 - the fault: nothing gives way for twenty beats
    assert list(manager.waiting()) == []
    assert await manager.next_words() == BEAT
    beating.cancel()


async def test_what_a_manager_does_not_read_in_time_is_said_again(manager: Manager) -> None:
    silent = ServiceManager(manager.address, beat_seconds=0.001)  # a socket may have room for 500
    running_it = asyncio.create_task(silent.run())
    with structlog.testing.capture_logs() as lines:
        async with slowness.timeout(20):
            while not lines:  # the socket is full
                await asyncio.sleep(0.01)
        silent.ready()
        silent.reloading()
        silent.ready()
        assert len(lines) == 1, "said once"
    words, _, _ = (await manager.next_state()).partition("\n")
    assert words == "RELOADING=1"
    assert await manager.next_state() == "READY=1"
    running_it.cancel()


@pytest.mark.parametrize(
    ("variables", "beat_seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_wants(variables: dict[str, str], beat_seconds: float | None) -> None:
    environment = {"HOME": "/", "NOTIFY_SOCKET": "/run/notify", **variables}
    assert ServiceManager.taken_from(environment) == ServiceManager("/run/notify", beat_seconds)
    assert environment == {"HOME": "/"}, "children inherit the rest"


@pytest.mark.parametrize("address", ["/nowhere/notify", "vsock:2:1234", "@" + "x" * 200, "with\0zero"])
def test_a_manager_that_can_not_be_reached_changes_nothing_but_the_log(
    address: str, captured_lines: list[EventDict]
) -> None:
    ServiceManager(address).ready()
    assert [line["event"] for line in captured_lines] == ["the service manager can't be reached"]


@pytest.fixture
def captured_lines() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_the_unit_is_one_that_the_service_answers_to() -> None:
    found = unit()
    assert (found["Type"], found["NotifyAccess"], found["KillMode"]) == ("notify", "main", "mixed")
    assert found["ExecReload"] == "/bin/kill -USR1 $MAINPID"
    defaults = Settings.model_fields
    drain_seconds = defaults["shutdown_delay_seconds"].default + defaults["drain_seconds"].default
    assert float(found["TimeoutStopSec"]) == drain_seconds + running.STOP_SECONDS + 5
    assert float(found["WatchdogSec"]) > 2 * 10, "the log says first where the event loop stands"


async def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/webhook-grpc/bin/webhook-grpc", str(CLI)))
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze: there is no systemd here")
    status, stdout, stderr = await run(program, "verify", "--man=no", str(copy), settings={})
    complaints = [line for line in (stdout + stderr).splitlines() if UNIT.name in line]
    assert (status, complaints) == (0, []), stderr
