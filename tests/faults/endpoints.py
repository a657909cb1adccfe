"""The receiver's process as a round uses it: started, told how to behave, and its history read."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.process import ROOT

from .history import Request

DELAYS_SECONDS = (0.3, 0.3, 0.3, 0.3, 0.3)  # of the service

Behaviour = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """A webhook that a round registers."""

    customer_id: int
    behaviour: Behaviour = field(default_factory=dict[str, Any])
    address: str = "127.0.0.1"
    host: str | None = None  # a name instead of the address
    in_flight_max: int = 10
    own_delays_seconds: tuple[float, ...] = ()  # at least 1 s each; none: the service's
    timeout_seconds: int = 5
    prompt: bool = False

    @property
    def delays_seconds(self) -> tuple[float, ...]:
        """What holds for it."""
        return self.own_delays_seconds or DELAYS_SECONDS

    def but_prompt(self) -> EndpointPlan:
        """The same, of which the fault is none of its business. One that asks us to wait is not prompt anyway."""
        return replace(self, prompt="retry_after" not in self.behaviour)


# Retry-After may hold up the whole webhook for a second: few are answered so, or it would not keep up with the load.
DEFAULT_PLAN = (
    EndpointPlan(1),
    EndpointPlan(1, {"kind": "fails", "status": 500, "one_in": 5}, "127.0.0.2"),
    EndpointPlan(1, {"delay_seconds": 0.05}, "127.0.0.3", in_flight_max=20),
    EndpointPlan(2, address="127.0.0.4", in_flight_max=2),
    EndpointPlan(2, {"kind": "fails", "status": 503, "one_in": 48, "retry_after": 1}, "127.0.0.2"),
)
# Retries of many webhooks are under way when the load ends: whoever was slow then has to find them.
FLAKY_PLAN = tuple(
    EndpointPlan(1, {"kind": "fails", "status": 500, "one_in": 3}, f"127.0.0.{number}") for number in (1, 2, 3, 4) * 2
)


class Endpoints:
    """Customers' endpoints, in a process that no scenario kills."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "receiver.jsonl"
        self._process: asyncio.subprocess.Process | None = None
        self._webhook_of: dict[str, int] = {}
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Returns when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.receiver", str(self._file), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            self.ports = json.loads(await self._process.stdout.readline())

    async def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            async with asyncio.timeout(10):
                await self._process.wait()

    async def behave(self, path: str, behaviour: Behaviour) -> None:
        """Changes how a path answers; what is held there is answered."""
        url = f"http://127.0.0.1:{self.ports['127.0.0.1']}/control"
        async with aiohttp.ClientSession() as session, session.post(url, json={path: dict(behaviour)}) as answer:
            answer.raise_for_status()

    def url(self, path: str, plan: EndpointPlan) -> str:
        """The URL of a path at the planned address."""
        return f"http://{plan.host or plan.address}:{self.ports[plan.address]}{path}"

    def belongs(self, path: str, webhook_id: int) -> None:
        """Whose path it is. The history goes by the path, not by what requests say of themselves."""
        self._webhook_of[path] = webhook_id

    def requests(self) -> tuple[Request, ...]:
        """What arrived so far."""
        with self._file.open() as lines:
            return tuple(self._request(json.loads(line)) for line in lines if line.endswith("\n"))

    def _request(self, record: dict[str, Any]) -> Request:
        return Request(webhook_id=self._webhook_of[record.pop("path")], **record)
