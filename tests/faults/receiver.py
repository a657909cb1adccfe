"""Customers' endpoints as a process of their own, so that their history is independent of whatever else is killed.

`python -m tests.faults.receiver FILE` listens on several loopback addresses and writes one JSON line for each request,
flushed to disk before the answer is sent: what it says was answered, was decided before the sender could know. How a
path behaves is told to `/control`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.support.service import SECRET

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")


class HistoryFile:
    """Append-only; a line is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)

    def write(self, record: Mapping[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(record).encode() + b"\n")
        os.fsync(self._descriptor)


@dataclass
class Behaviour:
    """How a path answers.

    kind: `ok`; `fails` (the first attempt of one event in `one_in` gets `status`); `always` (everything gets it);
    `hangs` (never answers what comes while it hangs); `held` (one event in `one_in` is answered when the path's
    behaviour is changed).
    """

    kind: str = "ok"
    one_in: int = 1
    status: int = 200
    retry_after: int | None = None
    delay_seconds: float = 0.0
    body_bytes: int = 2
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, event_id: str, attempt: int) -> tuple[int, int | None]:
        """The status and Retry-After, when it is time for them."""
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.kind == "hangs":
            await asyncio.Event().wait()
        chosen = hashlib.sha256(event_id.encode()).digest()[0] % self.one_in == 0
        if self.kind == "held" and chosen:
            await self.changed.wait()
        if self.kind == "always" or (self.kind == "fails" and chosen and attempt == 1):
            return self.status, self.retry_after
        return 200, None


class FaultReceiver:
    """All paths of all addresses."""

    def __init__(self, history: HistoryFile) -> None:
        self._history = history
        self._behaviours: dict[str, Behaviour] = {}
        self.runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=2**20)
        app.router.add_post("/control", self._control)
        app.router.add_post("/{path:.+}", self._receive)
        return app

    async def _control(self, request: web.Request) -> web.Response:
        for path, fields in (await request.json()).items():
            if path in self._behaviours:
                self._behaviours[path].changed.set()
            self._behaviours[path] = Behaviour(**fields)
        return web.Response()

    async def _receive(self, request: web.Request) -> web.Response:
        arrived_at = time.time()
        body = await request.read()
        event_id, attempt = request.headers["webhook-id"], int(request.headers["X-Webhook-Attempt"])
        behaviour = self._behaviours.setdefault(request.path, Behaviour())
        status, retry_after = 0, None
        try:
            status, retry_after = await behaviour.answer(event_id, attempt)
        finally:  # also when the sender has left
            self._history.write(
                {
                    "path": request.path,
                    "event_id": event_id,
                    "attempt": attempt,
                    "arrived_at": arrived_at,
                    "ended_at": time.time(),
                    "status": status,
                    "retry_after": retry_after,
                    "verified": is_genuine(request.headers, body),
                    "timely": is_timely(request.headers, body),
                    "signed_at": int(request.headers["webhook-timestamp"]),
                    "body_hash": hashlib.sha256(body).hexdigest(),
                }
            )
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return web.Response(status=status, body=b"x" * behaviour.body_bytes, headers=headers)


def is_genuine(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether both signatures are right, whenever they were made: one computed here, one by an independent library."""
    expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    standard = StandardWebhook(SECRET).sign(headers["webhook-id"], signed_at, body.decode())
    return headers.get("X-Webhook-Signature") == expected and standard in headers["webhook-signature"].split()


def is_timely(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a receiver that follows the specification takes it: the same, and it was signed just now."""
    try:
        StandardWebhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()})
    except WebhookVerificationError:
        return False
    return True


async def serve(path: Path) -> None:
    """Prints the port of each address as JSON when it listens; runs until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    receiver = FaultReceiver(HistoryFile(path))
    await receiver.runner.setup()
    for address in ADDRESSES:
        await web.TCPSite(receiver.runner, address, 0, backlog=1024).start()
    sys.stdout.write(json.dumps(dict(receiver.runner.addresses)) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await receiver.runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
