"""The service with a fault in it: `python -m tests.faults.faulty serve` patches named points, then runs the real CLI.

Production code has no hooks for this. Variables, beside those of the service:

WEBHOOK_TEST_FAULT=<point>:<count>   the process dies, as by kill -9, when it passes the point for the count-th time
WEBHOOK_TEST_POISON=<path> <id>      the process dies when it sends the event of that request id to that path
WEBHOOK_TEST_BROKEN=<names>          what is wrong of `broken.py`, each in a way that the checker must find
WEBHOOK_TEST_SLOW_READS=<seconds>    rows take so long from the database, and acknowledgements half of it
WEBHOOK_TEST_SLOW_LOOK=<seconds>     one look at the table takes so long
WEBHOOK_TEST_DNS_PORT=<port>         names are asked of a server on 127.0.0.1
WEBHOOK_TEST_DATABASE_ADDRESS=<file> the name of the database's host leads to the address in this file, now
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import aiodns
from psycopg import _conninfo_attempts, _conninfo_attempts_async

from tests.faults import broken
from tests.faults.patching import rewrap
from webhook_grpc import cli
from webhook_grpc.engine.http.sender import Sender
from webhook_grpc.store.outbox import due, publishing, settlement
from webhook_grpc.store.ownership import leases

SLOWED = "slowed by the suite:"
KILLED = 137  # what a shell says of a process that was killed by SIGKILL


class DeathAt:
    """Dies at the count-th passage, without a word to anybody: no exit handlers, no flushing, no closing."""

    def __init__(self, count: int) -> None:
        self._left = count

    def passed(self) -> None:
        """Counts one passage."""
        self._left -= 1
        if self._left == 0:
            os._exit(KILLED)

    def before(self, owner: object, name: str) -> None:
        """Passes before each call of an asynchronous function."""

        def dying(function: Any) -> Any:
            async def call(*args: Any, **kwargs: Any) -> Any:
                self.passed()
                return await function(*args, **kwargs)

            return call

        rewrap(owner, name, dying)

    def after(self, owner: object, name: str) -> None:
        """Passes when a call of an asynchronous function has returned."""

        def dying(function: Any) -> Any:
            async def call(*args: Any, **kwargs: Any) -> Any:
                result = await function(*args, **kwargs)
                self.passed()
                return result

            return call

        rewrap(owner, name, dying)


def before_send(death: DeathAt) -> None:
    """The delivery is claimed in memory, nothing was sent."""
    death.before(Sender, "send")


def after_send(death: DeathAt) -> None:
    """The receiver has answered, the result is only in memory."""
    death.after(Sender, "send")


def before_settle(death: DeathAt) -> None:
    """A batch of results is about to be settled."""
    death.before(settlement, "settle")


def after_settle_commit(death: DeathAt) -> None:
    """The batch is settled in the database, the process does not know."""
    death.after(settlement, "settle")


def before_publish_commit(death: DeathAt) -> None:
    """A batch of events was accepted, nothing of it is stored."""
    death.before(publishing, "publish")


def after_publish_commit(death: DeathAt) -> None:
    """The batch is stored, nobody was answered."""
    death.after(publishing, "publish")


def after_take(death: DeathAt) -> None:
    """Shards were taken, nothing was done with them."""
    death.after(leases, "take")


def before_release(death: DeathAt) -> None:
    """Shards are about to be given back."""
    death.before(leases, "release")


POINTS = {
    point.__name__: point
    for point in (
        before_send,
        after_send,
        before_settle,
        after_settle_commit,
        before_publish_commit,
        after_publish_commit,
        after_take,
        before_release,
    )
}


def poison(path: str, request_id: str) -> None:
    """Makes one delivery deadly, every time that it is about to be sent."""
    mark = f'"request":"{request_id}"'.encode()

    def dying(send: Any) -> Any:
        async def call(self: Any, request: Any) -> Any:
            if request.url.endswith(path) and mark in request.body:
                os._exit(KILLED)
            return await send(self, request)

        return call

    rewrap(Sender, "send", dying)


def slow_reads(seconds: float) -> None:
    """Makes the window wide in which a row that was read is settled by somebody who got it from memory."""

    def late(by_seconds: float) -> Any:
        def make(function: Any) -> Any:
            said = once(f"{SLOWED} {function.__name__}")

            async def call(*args: Any, **kwargs: Any) -> Any:
                result = await function(*args, **kwargs)
                await asyncio.sleep(by_seconds)
                said()
                return result

            return call

        return make

    rewrap(due, "with_bodies", late(seconds))
    rewrap(publishing, "publish", late(seconds / 2))


def slow_look(seconds: float) -> None:
    """Makes two looks at the table slow, as a database does that is busy for a moment.

    One may follow a hint and regard some shards; then the next one is surely a look at all of them.
    """

    def once_late(discover: Any) -> Any:
        looks = itertools.count(1)
        said = once(f"{SLOWED} discover")

        async def call(*args: Any) -> Any:
            if next(looks) in {20, 21}:
                await asyncio.sleep(seconds)
                said()
            return await discover(*args)

        return call

    rewrap(due, "discover", once_late)


def once(text: str) -> Callable[[], None]:
    """Returns what writes a line to the process's log at its first call."""
    lines = [f"{text}\n".encode()]

    def said() -> None:
        while lines:
            os.write(sys.stderr.fileno(), lines.pop())

    return said


def ask_names_of(port: int) -> None:
    """Points every resolver to a server on loopback."""

    def at_the_stub(resolver: Any) -> Any:
        return functools.partial(resolver, nameservers=[f"127.0.0.1:{port}"])

    rewrap(aiodns, "DNSResolver", at_the_stub)


def database_is_where(file: Path) -> None:
    """Resolves the name of the database's host to the address in a file, each time that psycopg asks for it."""

    def by_file(_: Any) -> Any:
        def resolved(params: dict[str, Any]) -> list[dict[str, Any]]:
            return [{**params, "hostaddr": file.read_text()}]

        return resolved

    def by_file_later(_: Any) -> Any:
        async def resolved(params: dict[str, Any]) -> list[dict[str, Any]]:
            return [{**params, "hostaddr": file.read_text()}]  # noqa: ASYNC240 - a few bytes

        return resolved

    rewrap(_conninfo_attempts, "_resolve_hostnames", by_file)
    rewrap(_conninfo_attempts_async, "_resolve_hostnames", by_file_later)


def patch(environment: MutableMapping[str, str]) -> None:
    """Applies what the environment asks for, and takes it out of there."""
    if fault := environment.pop("WEBHOOK_TEST_FAULT", ""):
        point, _, count = fault.partition(":")
        POINTS[point](DeathAt(int(count or 1)))
    if victim := environment.pop("WEBHOOK_TEST_POISON", ""):
        poison(*victim.split())
    if seconds := environment.pop("WEBHOOK_TEST_SLOW_READS", ""):
        slow_reads(float(seconds))
    if seconds := environment.pop("WEBHOOK_TEST_SLOW_LOOK", ""):
        slow_look(float(seconds))
    for name in environment.pop("WEBHOOK_TEST_BROKEN", "").split():
        broken.ENGINES[name]()
    if port := environment.pop("WEBHOOK_TEST_DNS_PORT", ""):
        ask_names_of(int(port))
    if file := environment.pop("WEBHOOK_TEST_DATABASE_ADDRESS", ""):
        database_is_where(Path(file))


if __name__ == "__main__":
    patch(os.environ)
    cli.main()
