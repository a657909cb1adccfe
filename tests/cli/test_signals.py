"""Ctrl-C and SIGTERM: no webhook is left behind, and the cursor is saved."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.process import hear_signals
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def started(service: Service, home: Path, *words: str) -> Process:
    environment = {"WHK_ADDRESS": service.address, "WHK_CUSTOMER_ID": str(CUSTOMER), "HOME": str(home)}
    program = (sys.executable, "-m", "webhook_grpc_cli", *words)
    return await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        cwd=home,
        env={**os.environ, **environment},
        preexec_fn=hear_signals,
    )


async def line_with(stream: asyncio.StreamReader | None, words: str) -> str:
    assert stream is not None
    async with slowness.timeout(60):
        while words not in (line := (await stream.readline()).decode()):
            assert line, f"it ended without {words}"
    return line


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
    await line_with(process.stderr, "Ready")
    assert await ended(process, number) == 130
    listed = await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))
    assert not listed.webhooks


@pytest.mark.slow(6)
async def test_ctrl_c_ends_a_watch_whose_next_run_goes_on_there(
    service: Service, receiver: Receiver, home: Path
) -> None:
    await service.create_webhook(receiver.url())
    words = ("watch", "--cursor-file", "cursor", "-o", "id")
    await service.publish()
    process = await started(service, home, *words, "--since", "5m")
    assert await line_with(process.stdout, "dlv_")
    async with slowness.timeout(60):
        while not (home / "cursor").exists():  # the line is there a moment before the cursor
            await asyncio.sleep(0.01)
    assert await ended(process, signal.SIGINT) == 130
    await service.publish()
    process = await started(service, home, *words)
    assert await line_with(process.stdout, "dlv_")
    assert await ended(process, signal.SIGINT) == 130
