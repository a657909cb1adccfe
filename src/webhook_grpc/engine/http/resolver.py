"""Names to addresses: in bounded time, never to one that is blocked, and honest about whose fault a failure is.

The hosts file is read first, as everywhere.

A name that does not resolve is the customer's matter; a resolver that answers nobody is ours. The two look alike (a
timeout, SERVFAIL), so in doubt the resolver is asked about the name servers of the root, which any that works knows.
"""

# c-ares' numbers and nodes have no types:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from random import Random
from typing import Final

import aiodns
from aiohttp.abc import AbstractResolver, ResolveResult
from pycares import errno

from webhook_grpc.domain.egress import EgressPolicy, policy_for, why_address_blocked

from .faults import BlockedDestination, SenderFault
from .hosts_file import HostsFile

RESOLVE_SECONDS: Final = 1.0
_TRIES: Final = 2
_CUT_OFF_MAX: Final = 1000
_VERDICT_SECONDS: Final = 2.0  # for so long one answer about the resolver serves all
_OUR_FAULTS: Final = frozenset[int]((errno.ARES_EFILE, errno.ARES_ENOMEM))
# A refused connection too: an answer too large for UDP is asked for again over TCP, which the resolver may not offer.
_IN_DOUBT: Final = frozenset[int]((errno.ARES_ETIMEOUT, errno.ARES_ESERVFAIL, errno.ARES_ECONNREFUSED))


class ResolverDown(SenderFault):
    """No name at all can be resolved now. Webhooks whose connections are open, or that name an address, go on."""

    is_local = True


class GuardedResolver(AbstractResolver):
    """Gives at most two IPv4 and two IPv6 addresses, and none that is blocked.

    aiohttp dials more often than there are addresses, so these are few: the first, and any other in case that one is
    dead. The name is asked as absolute, so that a search domain can't turn it into an internal one.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        random: Random,
        resolver: aiodns.DNSResolver | None = None,
        hosts_file: HostsFile | None = None,
    ) -> None:
        self._policy = policy
        self._hosts_file = hosts_file or HostsFile()
        self._random = random
        self._resolver = resolver or aiodns.DNSResolver(timeout=RESOLVE_SECONDS, tries=_TRIES)
        self._lock = asyncio.Lock()
        self._judged_at = -_VERDICT_SECONDS
        self._is_down = False
        self._cut_off: dict[str, float] = {}  # look-ups that a request's deadline ended, in order

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError if the name does not resolve, BlockedDestination, or ResolverDown."""
        found = self._in_file(host, port, family) or await self._look_up(host, port, family)
        policy = policy_for(host, self._policy)
        allowed = [result for result in found if why_address_blocked(result["host"], policy) is None]
        if found and not allowed:
            raise BlockedDestination
        families = (socket.AF_INET, socket.AF_INET6)
        return [result for family in families for result in self._two_of(family, allowed)]

    def _two_of(self, family: int, results: Sequence[ResolveResult]) -> list[ResolveResult]:
        """The first, which the name server prefers, and any other: so no dead pair is chosen for ever."""
        different = list({result["host"]: result for result in results if result["family"] == family}.values())
        return different if len(different) < 2 else [different[0], self._random.choice(different[1:])]

    def _in_file(self, host: str, port: int, family: int) -> list[ResolveResult]:
        found = [_result(host, text, port, _family_of(text)) for text in self._hosts_file.addresses_of(host)]
        return [result for result in found if family in {socket.AF_UNSPEC, result["family"]}]

    async def close(self) -> None:
        """Ends what is under way."""
        await self._resolver.close()

    async def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        try:
            answer = await self._resolver.getaddrinfo(
                host.rstrip(".") + ".", family, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except asyncio.CancelledError:
            self._note_cut_off(host)
            raise
        except aiodns.error.DNSError as error:
            code = error.args[0]
            if code in _OUR_FAULTS or (code in _IN_DOUBT and await self.knows_nobody()):
                raise ResolverDown("resolver") from error
            raise OSError(None, "the name does not resolve") from error
        return [_result(host, node.addr[0].decode("ascii"), port, node.family) for node in answer.nodes]

    def was_cut_off(self, host: str, since: float) -> bool:
        """Whether a look-up of the name was ended unanswered since then."""
        return self._cut_off.get(host, -math.inf) >= since

    def _note_cut_off(self, host: str) -> None:
        self._cut_off.pop(host, None)
        self._cut_off[host] = time.monotonic()
        while len(self._cut_off) > _CUT_OFF_MAX:
            del self._cut_off[next(iter(self._cut_off))]

    async def knows_nobody(self) -> bool:
        """Whether the resolver can't even name the root's servers, in a second. Asked once for all who are in doubt."""
        async with self._lock:
            if time.monotonic() - self._judged_at < _VERDICT_SECONDS:
                return self._is_down
            try:
                async with asyncio.timeout(RESOLVE_SECONDS):
                    await self._resolver.query_dns(".", "NS")
                self._is_down = False
            except TimeoutError:
                self._is_down = True
            except aiodns.error.DNSError as error:
                self._is_down = error.args[0] in _OUR_FAULTS | _IN_DOUBT
            self._judged_at = time.monotonic()
            return self._is_down


def _result(host: str, address: str, port: int, family: int) -> ResolveResult:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)


def _family_of(address: str) -> int:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
