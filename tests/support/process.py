"""The service as its own process: what an operator starts, and what can be killed."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from webhook.v1 import service_pb2_grpc

from tests.support import pace
from tests.support.service import SECRET_KEY

ROOT = Path(__file__).resolve().parents[2]
CLI = Path(sys.executable).with_name("webhook-grpc")


def environment(**overrides: str) -> dict[str, str]:
    """An environment without settings of this machine's, for calls to loopback addresses."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    return {
        **inherited,
        "WEBHOOK_SECRET_KEYS": base64.b64encode(SECRET_KEY).decode(),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LEASE_SECONDS": str(pace.lengthened(2.0)),
        "WEBHOOK_POLL_SECONDS": "0.1",
        **overrides,
    }


class Process:
    """One `webhook-grpc serve`."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address
        self.channel = grpc.aio.insecure_channel(address)
        self.stub = service_pb2_grpc.WebhookServiceStub(self.channel)

    @classmethod
    async def start(cls, log: Path, command: Sequence[str] = (str(CLI),), **settings: str) -> Process:
        """Starts it and returns when it serves. `command`: of another version. `log`: a file, a pipe, a device."""
        with log.open("ab", buffering=0) as stderr:
            process = await asyncio.create_subprocess_exec(
                *command, "serve", env=environment(**settings), stdout=asyncio.subprocess.PIPE, stderr=stderr
            )
        assert process.stdout is not None
        async with pace.timeout(30):
            first_line = (await process.stdout.readline()).decode()
        match = re.search(r"serves gRPC on (\S+)", first_line)
        assert match, f"{first_line!r}; see {log}"
        return cls(process, match[1])

    async def kill(self) -> None:
        """kill -9. The channel stays open: closing it would look to calls in flight as if we had cancelled them."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def terminate(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        async with pace.timeout(30):
            status = await self.process.wait()
        await self.channel.close()
        return status

    async def end(self) -> None:
        """Makes sure that it is gone."""
        if self.process.returncode is None:
            await self.kill()
        await self.channel.close()


async def run_cli(*arguments: str, **settings: str) -> tuple[int, str, str]:
    """Runs a command to its end: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        CLI,
        *arguments,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with pace.timeout(60):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()
