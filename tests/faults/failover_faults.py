"""The database is read-only for a while, or the primary dies and its standby becomes the primary.

The standby replicates synchronously, so nothing that was acknowledged is lost. One process has the addresses of both
servers (`target_session_attrs=read-write`), the other one has a name that is moved to the standby before that is
promoted: so it meets a server that takes no writes.
"""

from __future__ import annotations

import asyncio
from functools import partial

import grpc

from .harness import Round
from .refusals import until_refused, until_taken
from .replicated import ReplicatedServer
from .scenario import Scenario

_until_refused = partial(
    until_refused,
    code=grpc.StatusCode.UNAVAILABLE,
    reason="STORAGE_UNAVAILABLE",
    words="the database takes no writes now",
)


async def read_only(round_: Round) -> None:
    """Somebody sets default_transaction_read_only for the whole server, and takes it back."""
    await asyncio.sleep(round_.seconds / 3)
    names = sorted(round_.cluster.running)
    with round_.outage("read-only"):
        await asyncio.to_thread(round_.server.set_read_only, is_read_only=True)
        try:
            await asyncio.gather(*(_until_refused(round_, name) for name in names))
        finally:
            await asyncio.to_thread(round_.server.set_read_only, is_read_only=False)
        await asyncio.gather(*(until_taken(round_, name) for name in names))
    await asyncio.sleep(round_.seconds / 3)


async def promote(round_: Round) -> None:
    """The primary dies under load; the standby is reachable before it is promoted."""
    server = round_.server
    assert isinstance(server, ReplicatedServer)
    by_addresses, by_name = sorted(round_.cluster.running)
    await asyncio.sleep(round_.seconds / 3)
    with round_.outage("failover"):
        await asyncio.to_thread(server.crash)
        server.move_name()
        await _until_refused(round_, by_name)
        await asyncio.to_thread(server.promote)
        await asyncio.gather(*(until_taken(round_, name) for name in (by_addresses, by_name)))
    await asyncio.sleep(round_.seconds / 2)


SCENARIOS = (
    Scenario("read-only", read_only),
    Scenario("standby promoted", promote, replicated=True),
)
