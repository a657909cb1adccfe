"""Names to addresses: in bounded time, never to one that is blocked, and honest about whose fault a failure is.

A name that does not resolve is the customer's matter; a resolver that answers nobody is ours. The two look alike (a
timeout, SERVFAIL), so in doubt the resolver is asked for the name servers of the root, which any that works can tell.
"""

# c-ares' numbers and nodes have no types:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

import aiodns
from aiohttp.abc import AbstractResolver, ResolveResult
from pycares import errno

from ..domain.egress import EgressPolicy, why_address_blocked
from .faults import BlockedDestination, SenderFault

RESOLVE_SECONDS: Final = 1.0
_TRIES: Final = 2
_VERDICT_SECONDS: Final = 2.0  # for so long one answer about the resolver serves all
_OUR_FAULTS: Final = frozenset[int]((errno.ARES_ECONNREFUSED, errno.ARES_EFILE, errno.ARES_ENOMEM))
_IN_DOUBT: Final = frozenset[int]((errno.ARES_ETIMEOUT, errno.ARES_ESERVFAIL))


class ResolverDown(SenderFault):
    """No name at all can be resolved now. Webhooks whose connections are open, or that name an address, go on."""

    is_local = True


class GuardedResolver(AbstractResolver):
    """Gives at most one IPv4 and one IPv6 address, and none that is blocked.

    aiohttp dials n(n+1)/2 times for n addresses. The name is asked as absolute, so that a search domain can't turn it
    into an internal one.
    """

    def __init__(self, policy: EgressPolicy, resolver: aiodns.DNSResolver | None = None) -> None:
        self._policy = policy
        self._resolver = resolver or aiodns.DNSResolver(timeout=RESOLVE_SECONDS, tries=_TRIES)
        self._lock = asyncio.Lock()
        self._judged_at = -_VERDICT_SECONDS
        self._is_down = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError if the name does not resolve, BlockedDestination, or ResolverDown."""
        found = await self._look_up(host, port, family)
        allowed = [result for result in found if why_address_blocked(result["host"], self._policy) is None]
        if found and not allowed:
            raise BlockedDestination
        by_family = {result["family"]: result for result in reversed(allowed)}
        return sorted(by_family.values(), key=lambda result: result["family"])

    async def close(self) -> None:
        """Ends what is under way."""
        await self._resolver.close()

    async def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        try:
            answer = await self._resolver.getaddrinfo(
                host.rstrip(".") + ".", family, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except aiodns.error.DNSError as error:
            code = error.args[0]
            if code in _OUR_FAULTS or (code in _IN_DOUBT and await self._knows_nobody()):
                raise ResolverDown("resolver") from error
            raise OSError(None, "the name does not resolve") from error
        return [
            ResolveResult(
                hostname=host,
                host=node.addr[0].decode("ascii"),
                port=port,
                family=node.family,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for node in answer.nodes
        ]

    async def _knows_nobody(self) -> bool:
        """Whether the resolver can't even name the root's servers. Asked once for all who are in doubt."""
        async with self._lock:
            if time.monotonic() - self._judged_at < _VERDICT_SECONDS:
                return self._is_down
            try:
                await self._resolver.query_dns(".", "NS")
                self._is_down = False
            except aiodns.error.DNSError as error:
                self._is_down = error.args[0] in _OUR_FAULTS | _IN_DOUBT
            self._judged_at = time.monotonic()
            return self._is_down
