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
from pycares import errno

from webhook_grpc.domain.egress import EgressPolicy, policy_for, why_address_blocked

from .faults import BlockedDestination, NameNotResolved, SenderFault
from .hosts_file import HostsFile

RESOLVE_SECONDS: Final = 1.0
_TRIES: Final = 2
_CUT_OFF_MAX: Final = 1000
_VERDICT_SECONDS: Final = 2.0  # for so long one answer about the resolver serves all
_OUR_FAULTS: Final = frozenset[int]((errno.ARES_EFILE, errno.ARES_ENOMEM))
# ECONNREFUSED too: after an answer too large for UDP, c-ares tries TCP, which the resolver may not offer.
_IN_DOUBT: Final = frozenset[int]((errno.ARES_ETIMEOUT, errno.ARES_ESERVFAIL, errno.ARES_ECONNREFUSED))


class ResolverDown(SenderFault):
    """No name at all can be resolved now. Webhooks whose connections are open, or that name an address, go on."""

    is_local = True


class GuardedResolver:
    """Gives at most two IPv4 and two IPv6 addresses, and none that is blocked.

    Each may be dialled within one attempt, so these are few: the first, and any other in case that one is dead. The
    name is asked as absolute, so that a search domain can't turn it into an internal one.
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

    async def resolve(self, host: str) -> Sequence[str]:
        """Returns addresses of a name. Raises NameNotResolved, BlockedDestination or ResolverDown."""
        found = self._hosts_file.addresses_of(host) or await self._look_up(host)
        policy = policy_for(host, self._policy)
        allowed = [text for text in found if why_address_blocked(text, policy) is None]
        if found and not allowed:
            raise BlockedDestination
        return [text for version in (4, 6) for text in self._two_of(version, allowed)]

    def _two_of(self, version: int, texts: Sequence[str]) -> Sequence[str]:
        """Returns the first address, which the name server prefers, and any other one: so no dead pair stays chosen."""
        different = list(dict.fromkeys(text for text in texts if ip_address(text).version == version))
        return different if len(different) < 2 else [different[0], self._random.choice(different[1:])]

    async def close(self) -> None:
        """Ends what is under way."""
        await self._resolver.close()

    async def _look_up(self, host: str) -> Sequence[str]:
        try:
            answer = await self._resolver.getaddrinfo(
                host.rstrip(".") + ".", socket.AF_UNSPEC, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except asyncio.CancelledError:
            self._note_cut_off(host)
            raise
        except aiodns.error.DNSError as error:
            code = error.args[0]
            if code in _OUR_FAULTS or (code in _IN_DOUBT and await self.knows_nobody()):
                raise ResolverDown("resolver") from error
            raise NameNotResolved("the name does not resolve") from error
        addresses: list[bytes] = [node.addr[0] for node in answer.nodes]
        return [address.decode("ascii") for address in addresses]

    def was_cut_off(self, host: str, since: float) -> bool:
        """Whether a look-up of the name was ended unanswered since then."""
        return self._cut_off.get(host, -math.inf) >= since

    def _note_cut_off(self, host: str) -> None:
        self._cut_off.pop(host, None)
        self._cut_off[host] = time.monotonic()
        while len(self._cut_off) > _CUT_OFF_MAX:
            del self._cut_off[next(iter(self._cut_off))]

    async def knows_nobody(self) -> bool:
        """Returns whether the resolver finds no root name servers within a second. An answer serves for 2 s."""
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
