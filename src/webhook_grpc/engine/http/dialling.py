"""Dialling: the addresses of a name are judged, dialled by their numbers, and the peer is looked at again.

The event loop is given only addresses that were judged, never names. So it cannot dial another address, whatever a URL
or a name server says.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import ssl
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from webhook_grpc.domain.egress import EgressPolicy, why_address_blocked
from webhook_grpc.domain.record import record

from .connection import Connection
from .faults import BlockedDestination, NameNotResolved
from .pool import Pool
from .racing import first_of
from .target import Origin

Address = IPv4Address | IPv6Address


class Resolver(Protocol):
    """Names to addresses."""

    async def resolve(self, host: str, /) -> Sequence[str]:
        """Returns addresses of a name. Raises NameNotResolved, BlockedDestination or SenderFault."""
        ...

    async def close(self) -> None:
        """Ends what is under way."""
        ...


@record
class ConnectionLimits:
    """The bounds of a connection and of the answers on it."""

    connect_seconds_max: float
    body_seconds_max: float
    body_bytes_max: int


class Dialler(Protocol):
    """Makes connections to origins."""

    async def dial(self, origin: Origin, policy: EgressPolicy, /) -> Connection:
        """Returns a new connection, over TLS for https.

        Raises TimeoutError, OSError (ssl.SSLError, NameNotResolved, BlockedDestination) or SenderFault.
        """
        ...


class DirectDialler:
    """Dials the addresses of a name."""

    def __init__(self, resolver: Resolver, context: ssl.SSLContext, limits: ConnectionLimits, pool: Pool) -> None:
        self._resolver = resolver
        self._context = context
        self._limits = limits
        self._pool = pool

    async def dial(self, origin: Origin, policy: EgressPolicy) -> Connection:
        """Returns a new connection; what it raises: Dialler."""
        addresses = admitted(await self._addresses_of(origin.host), policy)
        async with asyncio.timeout(self._limits.connect_seconds_max):
            connection = await first_of(
                [functools.partial(self._connect, address, origin.port, policy) for address in addresses]
            )
            if origin.scheme == "https":
                await self.start_tls(connection, origin.host)
        return connection

    async def start_tls(self, connection: Connection, host: str) -> None:
        """Speaks TLS on a connection, which is closed if that fails. Raises OSError, ssl.SSLError too."""
        try:
            await connection.start_tls(self._context, host)
        except BaseException:
            connection.abort()
            self._pool.ended(connection)  # asyncio does not always call connection_lost when TLS fails
            raise

    async def _addresses_of(self, host: str) -> Sequence[str]:
        try:
            return [str(ip_address(host))]
        except ValueError:
            return await self._resolver.resolve(host)

    async def _connect(self, address: Address, port: int, policy: EgressPolicy) -> Connection:
        connection = Connection(policy, self._limits.body_bytes_max, self._limits.body_seconds_max, self._pool.ended)
        self._pool.opened(connection)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, str(address), port)
            connection.raise_if_refused()
        except BaseException:
            connection.abort()
            self._pool.ended(connection)
            raise
        return connection


def admitted(texts: Iterable[str], policy: EgressPolicy) -> Sequence[Address]:
    """Returns the addresses that may be dialled, in turns of the families (RFC 8305 4). Raises OSError if none may."""
    found = list(texts)
    if not found:
        raise NameNotResolved("the name has no address")
    addresses = [ip_address(text) for text in found if why_address_blocked(text, policy) is None]
    if not addresses:
        raise BlockedDestination
    families = [[address for address in addresses if address.version == version] for version in (4, 6)]
    pairs = itertools.zip_longest(*families)
    return [address for pair in pairs for address in pair if address is not None]
