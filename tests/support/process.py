"""The service as its own process: what an operator starts, and what can be killed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import grpc
from webhook.v1 import service_pb2_grpc

from tests.support import roles, slowness
from tests.support.service import SECRET_KEY

ROOT = Path(__file__).resolve().parents[2]
CLI = Path(sys.executable).with_name("webhook-grpc")


def environment(**overrides: str) -> dict[str, str]:
    """An environment without settings of this machine's, for calls to loopback addresses."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    if "WEBHOOK_DATABASE_URL" in overrides:
        overrides["WEBHOOK_DATABASE_URL"] = roles.of_service(overrides["WEBHOOK_DATABASE_URL"])
    return {
        **inherited,
        "WEBHOOK_SECRET_KEYS": base64.b64encode(SECRET_KEY).decode(),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LEASE_SECONDS": str(slowness.lengthened(2.0)),
        "WEBHOOK_POLL_SECONDS": "0.2",
        **overrides,
    }


def hear_signals() -> None:
    """Puts back the default in a child, which inherits what whoever runs the tests ignores.

    That is SIGHUP under `nohup`, and SIGINT in the background of a shell.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Process:
    """One `webhook-grpc serve`."""

    started: ClassVar[list[asyncio.subprocess.Process]] = []

    def __init__(self, process: asyncio.subprocess.Process, address: str, http_url: str = "") -> None:
        self.process = process
        self.address = address
        self.http_url = http_url
        self.channel = grpc.aio.insecure_channel(address)
        self.stub = service_pb2_grpc.WebhookServiceStub(self.channel)

    @classmethod
    async def start(cls, log: Path, command: Sequence[str] = (str(CLI),), **settings: str) -> Process:
        """Starts it and returns when it serves. `command`: of another version. `log`: a file, a pipe, a device."""
        with log.open("ab", buffering=0) as stderr:
            process = await asyncio.create_subprocess_exec(
                *(*command, "serve"),
                env=environment(**settings),
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                preexec_fn=hear_signals,
            )
        cls.started.append(process)
        assert process.stdout is not None
        async with slowness.timeout(30):
            lines = b"".join([await process.stdout.readline() for _ in range(2)]).decode()
        match = re.search(r"serves gRPC on (\S+)", lines)
        assert match, f"{lines!r}; see {log}"
        http = re.search(r"^HTTP: (https?://\S+)", lines, re.MULTILINE)
        return cls(process, match[1], http[1] if http else "")

    async def call_over_tls(self, credentials: grpc.ChannelCredentials) -> None:
        """Has calls made over TLS from now on."""
        await self.channel.close()
        self.channel = grpc.aio.secure_channel(self.address, credentials)
        self.stub = service_pb2_grpc.WebhookServiceStub(self.channel)

    async def kill(self) -> None:
        """kill -9. The channel stays open: closing it would look to calls in flight as if we had cancelled them."""
        with contextlib.suppress(ProcessLookupError):  # it died of something else a moment ago
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with slowness.timeout(30):
            status = await self.process.wait()
        await self.channel.close()
        return status

    async def end(self) -> None:
        """Makes sure that it is gone."""
        if self.process.returncode is None:
            await self.kill()
        await self.channel.close()


def end_what_is_left() -> None:
    """Kills what a test that failed has left running: it would take shards in the tests that follow."""
    for process in Process.started:
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
    Process.started.clear()


async def run_cli(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Runs a command of ours to its end: exit status, stdout, stderr."""
    return await run(str(CLI), *arguments, settings=settings)


async def run(*command: str, settings: Mapping[str, str], cwd: Path | None = None) -> tuple[int, str, str]:
    """Runs a command to its end: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=hear_signals,
    )
    Process.started.append(process)
    async with slowness.timeout(60):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()
