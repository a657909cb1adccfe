"""The receiver's process as a round uses it: started, told how to behave, and its history read."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from tests.invariants.history import Request
from tests.support import slowness

from .nursery import Child, first_line, nursery

DELAYS_SECONDS = (0.3, 0.3, 0.3, 0.3, 0.3)  # of the service

Behaviour = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """A webhook that a round registers."""

    customer_id: int
    behaviour: Behaviour = field(default_factory=dict[str, Any])
    address: str = "127.0.0.1"
    host: str | None = None  # a name instead of the address
    query: str = ""
    in_flight_max: int = 10
    own_delays_seconds: tuple[float, ...] = ()  # at least 1 s each; none: the service's
    timeout_seconds: int = 5
    prompt: bool = False
    rate_limit: int | None = None

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
        self._process: Child | None = None
        self._webhook_of: dict[str, int] = {}
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Returns when it listens."""
        stdout, stderr = self._file.with_suffix(".out"), self._file.with_suffix(".log")
        self._process = nursery().fork("receive", {**os.environ, "RECEIVER_FILE": str(self._file)}, stdout, stderr)
        async with slowness.timeout(30):
            self.ports = json.loads(await first_line(stdout, self._process))

    async def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            async with slowness.timeout(10):
                await self._process.wait()

    def stand_still(self) -> None:
        """SIGSTOP: connections are made, and nothing is read from them."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def behave(self, behaviours: Mapping[str, Behaviour]) -> None:
        """Changes how paths answer; what is held there is answered."""
        url = f"http://127.0.0.1:{self.ports['127.0.0.1']}/control"
        async with aiohttp.ClientSession() as session, session.post(url, json=dict(behaviours)) as answer:
            answer.raise_for_status()

    def url(self, path: str, plan: EndpointPlan) -> str:
        """The URL of a path at the planned address."""
        return f"http://{plan.host or plan.address}:{self.ports[plan.address]}{path}{plan.query}"

    def belongs(self, path: str, webhook_id: int) -> None:
        """Whose path it is. The history goes by the path, not by what requests say of themselves."""
        self._webhook_of[path] = webhook_id

    def requests(self) -> tuple[Request, ...]:
        """What arrived so far."""
        with self._file.open() as lines:
            return tuple(self._request(json.loads(line)) for line in lines if line.endswith("\n"))

    def _request(self, record: dict[str, Any]) -> Request:
        return Request(webhook_id=self._webhook_of[record.pop("path")], **record)
