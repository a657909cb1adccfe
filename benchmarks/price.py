"""`python -m benchmarks.price`: what authentication, limits and the audit cost a call, in µs of CPU.

The pipeline around a call (`server/calls.py`) runs in this process, with a method that does nothing; the statement of a
change runs on a Postgres of its own, with its audit entry and without. With and without take turns; medians of all
turns. Bounded: about half a minute.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import psutil
import psycopg
import structlog
from benchmarks.parts.bench import Bench, Options
from benchmarks.parts.figures import QUICK
from benchmarks.parts.servers import Servers
from google.protobuf.message import Message
from tests.support.tokens import SEALER
from webhook.v1 import service_pb2 as pb
from webhook.v1.webhook_pb2 import Webhook

from webhook_grpc.api.call import Call
from webhook_grpc.api.messages.sharing import SharedDeliveries
from webhook_grpc.api.methods import Methods, Unary
from webhook_grpc.domain.access import Caller, Role
from webhook_grpc.domain.access_tokens import AccessClaims, signed
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.fair_shares import RateLimits, ShareLimits
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.tokens import StoredToken, TokenSpec, hash_of, token_hash
from webhook_grpc.metrics.calls import CallTally
from webhook_grpc.server.admission import TurnLimits, Turns
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.server.call_limits import CallRates, Shares
from webhook_grpc.server.calls import CallLimits, Calls
from webhook_grpc.settings import Token
from webhook_grpc.store.audit import entry_parameters
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.registry.webhooks import SET_WEBHOOK_STATUS, SET_WEBHOOK_STATUS_FOR_CALL

TURNS: Final = 4
CALLS: Final = 2000
CHANGES: Final = 300
MANY: Final = 1_000_000

Counted = Callable[[], Awaitable[float]]


class _Exchange:
    """A call that has come, whole."""

    door, source_address = "grpc", "192.0.2.1"
    _request = pb.GetWebhookRequest(customer_id=1, webhook_id=7)

    def __init__(self, authorization: str) -> None:
        self._authorization = [authorization] if authorization else []

    def header(self, name: str) -> Sequence[str | bytes]:
        return self._authorization if name == "authorization" else []

    def certificate_names(self) -> Sequence[str]:
        return ()

    def begin(self, request_id: str) -> None:
        """Takes the id."""

    async def read(self, request_type: type[Message], bytes_max: int) -> Any:
        del request_type, bytes_max
        return self._request

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        """Takes the response."""


class _Stored:
    """The one token of the database, known already."""

    def __init__(self, token: StoredToken) -> None:
        self._token = token

    async def find(self, token_id: int) -> StoredToken | None:
        return self._token if token_id == self._token.token_id else None

    def used(self, token_id: int) -> None:
        """Notes a use."""

    def holding(self, token_id: int | None, on_revoked: Callable[[], None]) -> AbstractContextManager[None]:
        del token_id, on_revoked
        return nullcontext()

    def note(self, entry: AuditEntry) -> None:
        """Takes a refusal: there are none."""


@dataclass(frozen=True)
class Measured:
    """The medians of some variants of a call: µs of CPU."""

    title: str
    parts: dict[str, float]

    def __str__(self) -> str:
        first = next(iter(self.parts.values()))
        rows = [f"| {name} | {value:.1f} | {value - first:+.1f} |" for name, value in self.parts.items()]
        return "\n".join([f"| {self.title} | µs of CPU | more |", "|---|---|---|", *rows])


async def in_turns(title: str, variants: dict[str, Counted]) -> Measured:
    """Runs all variants forth and back; each returns its µs a call."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(TURNS):
        for name in list(variants)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(await variants[name]())
    return Measured(title, {name: statistics.median(values) for name, values in found.items()})


def pipeline(rate: float, *, with_tokens: bool) -> Calls:
    """Returns the pipeline around calls; a rate of 0 is none."""
    spec = TokenSpec(Role.VIEWER, frozenset({1}))
    stored = _Stored(StoredToken(7, hash_of(b"s" * 43), spec, datetime.now(UTC), None))
    tokens = [Token(name="one", sha256=token_hash("configured"), permissions=("read",), customer_id=1)]
    return Calls(
        cast("Methods", None),
        Authenticator(tokens, stored, SEALER, anonymous_allowed=not with_tokens),
        stored,
        DatabaseClock(),
        CallLimits(
            ShareLimits(MANY, MANY, MANY),
            ShareLimits(MANY, MANY, MANY),
            60.0,
            TurnLimits(200, 1000, MANY, 5.0),
            MANY,
            MANY,
            MANY,
            MANY,
            RateLimits(rate, rate),
        ),
        RetentionPolicy(events_days=30, attempts_days=30, idempotency_keys_hours=168, audit_days=400),
        CallTally(),
    )


async def _answer(request: Any, call: Call) -> Message:
    call.customer_id = request.customer_id
    return _WEBHOOK


_WEBHOOK: Final = Webhook(webhook_id=7)
_METHOD: Final[Any] = Unary("GetWebhook", "read", pb.GetWebhookRequest, Webhook, lambda _: _answer)


def through(calls: Calls, token: str = "") -> Counted:
    """Returns what makes CALLS calls with a token, and says what one costs."""

    async def made() -> float:
        exchange: Any = _Exchange(f"Bearer {token}" if token else "")
        begun = time.thread_time()
        for _ in range(CALLS):
            if await calls.serve(_METHOD, exchange) is not None:
                raise RuntimeError("a call was refused")
        return (time.thread_time() - begun) / CALLS * 1e6

    return made


async def limits() -> float:
    """Returns what shares of process, token and customer, rates and a turn cost a call, alone."""
    shares, turns = Shares(ShareLimits(MANY, MANY, MANY), "", ""), Turns(TurnLimits(200, 1000, MANY, 5.0))
    rates, caller = CallRates(RateLimits(MANY, MANY)), Caller("one", frozenset({1}), frozenset())
    begun = time.thread_time()
    for _ in range(CALLS):
        with shares.place() as place:
            rates.take_of_token(caller)
            place.take_of_caller(caller)
            rates.take_of_customer(1)
            place.take_of_customer(1)
            turns.take()
            turns.leave()
    return (time.thread_time() - begun) / CALLS * 1e6


async def nothing() -> float:
    """Returns what the loop itself costs."""
    begun = time.thread_time()
    for _ in range(CALLS):
        pass
    return (time.thread_time() - begun) / CALLS * 1e6


class Change:
    """The statement of a call that pauses or resumes a webhook, with its audit entry or without."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], statement: Any) -> None:
        self.ours: list[float] = []
        self._connection = connection
        self._statement = statement
        self._backend = psutil.Process(connection.info.backend_pid)

    async def postgres(self) -> float:
        """Makes some changes; returns what one costs the backend, and notes what it costs this process."""
        entry = AuditEntry("PauseWebhook", "one", None, "192.0.2.1", "r" * 32, 1, ("webhook:1",), ("status",))
        given = {"reason": "", "id": 1, "version": None, "from_statuses": ["active", "paused"]}
        given |= entry_parameters(entry)
        before, begun = self._backend.cpu_times(), time.thread_time()
        for number in range(CHANGES):
            status = ("paused", "active")[number % 2]
            cursor = await self._connection.execute(self._statement, {**given, "status": status})
            assert len(await cursor.fetchall()) == 1
        after = self._backend.cpu_times()
        self.ours.append((time.thread_time() - begun) / CHANGES * 1e6)
        return (after.user + after.system - before.user - before.system) / CHANGES * 1e6


async def main() -> None:
    """Measures and prints."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # lines of the log apart
    expire_time = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    access = signed(AccessClaims("one", 1, frozenset({"read"}), expire_time), SEALER)
    without, with_tokens = pipeline(0, with_tokens=False), pipeline(0, with_tokens=True)
    with_rates = pipeline(MANY, with_tokens=True)
    variants = {
        "no tokens, no rates": through(without),
        "a configured token": through(with_tokens, "configured"),
        "a token of the database, known already": through(with_tokens, f"whk_7_{'s' * 43}"),
        "an access token": through(with_tokens, access),
        "a configured token, and rates of token and customer": through(with_rates, "configured"),
    }
    print(await in_turns("the pipeline around a call", variants))
    print(await in_turns("limits alone", {"an empty loop": nothing, "shares, rates and a turn": limits}))
    servers, program = Servers({}), Path(sys.executable).with_name("webhook-grpc")
    try:
        async with Bench(Options(QUICK, program), servers) as bench:
            await audit(bench)
    finally:
        servers.close()


async def audit(bench: Bench) -> None:
    """Measures the statement of a change."""
    service = await bench.service()
    [publisher] = await bench.publishers(service.address)
    await publisher.ask("webhooks", url="http://127.0.0.1:9999/", customers=1)
    async with await psycopg.AsyncConnection.connect(service.database, autocommit=True) as connection:
        kinds = {"without an audit entry": SET_WEBHOOK_STATUS, "with one": SET_WEBHOOK_STATUS_FOR_CALL}
        changes = {name: Change(connection, statement) for name, statement in kinds.items()}
        for change in changes.values():
            await change.postgres()  # so that it is prepared
        found = await in_turns("a change of a webhook: Postgres", {name: c.postgres for name, c in changes.items()})
    print(found)
    print(Measured("a change of a webhook: the driver", {n: statistics.median(c.ours) for n, c in changes.items()}))


if __name__ == "__main__":
    asyncio.run(main())
