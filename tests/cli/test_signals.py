"""Ctrl-C and SIGTERM: no webhook is left behind, the cursor is saved, and a run says how to go on."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import socket
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

import pytest
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.process import hear_signals
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service
from webhook_grpc_cli.listening.temporary import LABEL
from webhook_grpc_cli.session import answered
from webhook_grpc_cli.signals import Interruption, heard, interrupts_once

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def started(service: Service | None, home: Path, *words: str, terminal: int | None = None) -> Process:
    environment = {"WHK_CUSTOMER_ID": str(CUSTOMER), "HOME": str(home)}
    if service is not None:
        environment["WHK_ADDRESS"] = service.address
    program = (sys.executable, "-m", "webhook_grpc_cli", *words)
    return await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.DEVNULL if terminal is None else terminal,
        stdout=PIPE,
        stderr=PIPE if terminal is None else terminal,
        cwd=home,
        env={**os.environ, **environment},
        preexec_fn=hear_signals,
    )


async def until_shown(terminal: int, words: bytes) -> None:
    text, arrived, loop = b"", asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(terminal, arrived.set)
    try:
        async with slowness.timeout(60):
            while words not in text:
                await arrived.wait()
                arrived.clear()
                text += os.read(terminal, 4096)
    finally:
        loop.remove_reader(terminal)


async def line_with(stream: asyncio.StreamReader | None, words: str) -> str:
    assert stream is not None
    async with slowness.timeout(60):
        while words not in (line := (await stream.readline()).decode()):
            assert line, f"it ended without {words}"
    return line


async def put_an_end_to(process: Process) -> None:
    """Kills a process that has not ended: it would go on for an hour."""
    if process.returncode is None:
        process.kill()
        await process.wait()


async def ended(process: Process, number: signal.Signals) -> int:
    process.send_signal(number)
    async with slowness.timeout(60):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


@pytest.mark.slow(6)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_deletes_the_webhook_of_listen(service: Service, home: Path, number: signal.Signals) -> None:
    process = await started(service, home, "listen", "--create", "--listen", "127.0.0.1:0")
    try:
        await line_with(process.stderr, "Ready")
        assert await ended(process, number) == 130
    finally:
        await put_an_end_to(process)
    listed = await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))
    assert not listed.webhooks


@pytest.mark.slow(6)
async def test_ctrl_c_at_a_question_of_listen_ends_it(service: Service, home: Path) -> None:
    left = f"{socket.gethostname()}-{2**22 + 1}"  # above the largest process id
    await service.create_webhook("http://127.0.0.1:8099/", name="left", labels={LABEL: left})
    own, its = pty.openpty()
    process = await started(service, home, "listen", "--create", "--listen", "127.0.0.1:0", terminal=its)
    try:
        await until_shown(own, b"Delete it?")
        assert await ended(process, signal.SIGINT) == 130
    finally:
        await put_an_end_to(process)
        os.close(own)
        os.close(its)
    listed = await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))
    assert [webhook.name for webhook in listed.webhooks] == ["left"]


def asked(ask: Callable[[], bytes]) -> bytes:
    with heard(interrupts_once(), signal.SIGINT):
        return answered(ask)


def waited(wait: Callable[[], bytes]) -> bytes:
    interruption = Interruption()
    with interruption.heard(), interruption.breaks_off():
        return wait()


@pytest.mark.parametrize("in_command", [asked, waited])
async def test_a_signal_that_comes_just_before_a_command_waits_is_not_lost(
    in_command: Callable[[Callable[[], bytes]], bytes],
) -> None:
    """Another thread takes the signal: as when it comes just before the read, it is noted and the read goes on."""
    own, its = os.pipe()
    has_ended, is_late, main = threading.Event(), threading.Event(), threading.get_native_id()

    def press() -> None:
        while f" {own:#x} " not in Path(f"/proc/self/task/{main}/syscall").read_text(encoding="ascii"):
            time.sleep(0.01)  # until the read waits; nothing else says so
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not has_ended.wait(20):
            is_late.set()
            os.write(its, b"no")

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            in_command(lambda: os.read(own, 10))
        assert not is_late.is_set()
    finally:
        has_ended.set()
        thread.join()
        os.close(own)
        os.close(its)


@pytest.mark.slow(6)
@pytest.mark.parametrize("words", [("--create", "--listen", "127.0.0.1:0"), ("--pull", "--forward", "http://a/")])
async def test_ctrl_c_ends_a_listen_that_waits_for_the_service(home: Path, words: tuple[str, ...]) -> None:
    line = ("listen", *words, "--address", "127.0.0.1:1", "--timeout", "1h")
    process = await started(None, home, *line)
    try:
        await line_with(process.stderr, "does not answer; trying for 3600 s")
        assert await ended(process, signal.SIGINT) == 130
    finally:
        await put_an_end_to(process)


@pytest.mark.slow(6)
async def test_sigterm_lets_a_run_finish_what_is_on_its_way_and_a_second_signal_ends_it(home: Path) -> None:
    (home / "events.ndjson").write_text('{"event_type":"job.completed","data":{}}\nwrong\n')
    line = ("events", "publish", "--ndjson", "events.ndjson", "--run", "r1", "--address", "127.0.0.1:1")
    process = await started(None, home, *line, "--timeout", "1h")
    try:
        await line_with(process.stderr, "line 2: LINE_INVALID")  # so the line before is on its way
        process.send_signal(signal.SIGTERM)
        await line_with(process.stderr, "finishing what is on its way")
        process.send_signal(signal.SIGTERM)
        await line_with(process.stderr, "to go on: the same command with --run r1")
        assert await process.wait() == 130
    finally:
        await put_an_end_to(process)


@pytest.mark.slow(6)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_a_watch_whose_next_run_goes_on_there(
    service: Service, receiver: Receiver, home: Path, number: signal.Signals
) -> None:
    await service.create_webhook(receiver.url())
    words = ("watch", "--cursor-file", "cursor", "-o", "id")
    await service.publish()
    for more in (("--since", "5m"), ()):
        process = await started(service, home, *words, *more)
        try:
            assert await line_with(process.stdout, "dlv_")
            async with slowness.timeout(60):
                while not (home / "cursor").exists():  # the line is there a moment before the cursor
                    await asyncio.sleep(0.01)
            assert await ended(process, number) == 130
        finally:
            await put_an_end_to(process)
        await service.publish()
