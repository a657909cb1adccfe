"""Requests through a company's forward proxy, by CONNECT (RFC 9110 9.3.6).

The proxy dials for us and looks names up: what is judged here is the URL, and the address if one stands in it.
"""

from __future__ import annotations

import asyncio
import base64
import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from webhook_grpc.domain.egress import EgressPolicy, why_address_blocked
from webhook_grpc.domain.proxy import Proxy

from .connection import Connection
from .dialling import DirectDialler
from .faults import BlockedDestination, SenderFault
from .racing import OWN_FAULTS
from .target import Origin

ANYWHERE: Final = EgressPolicy(allow_http=True, allowed_networks=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
"""Where the proxy may be: the operator has named it."""

_HEAD_BYTES_MAX: Final = 16_384  # of its answer
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_FORBIDDEN: Final = 403
_AUTHENTICATION_REQUIRED: Final = 407


class ProxyDown(SenderFault):
    """The proxy cannot be reached, or does not take us for one of its users. No webhook is to blame."""


class TunnelRefused(ConnectionError):
    """The proxy could not reach the receiver."""


class ProxyDialler:
    """Makes connections to origins through the proxy."""

    def __init__(self, proxy: Proxy, direct: DirectDialler, connect_seconds_max: float) -> None:
        """`direct` reaches the proxy. Both the way to it and the way from there on may take so many seconds."""
        self._origin = Origin(proxy.scheme, proxy.host, proxy.port)
        self._credentials = _credentials(proxy)
        self._direct = direct
        self._connect_seconds_max = connect_seconds_max

    async def dial(self, origin: Origin, policy: EgressPolicy) -> Connection:
        """Returns a new connection; what it raises: Dialler."""
        if _is_address(origin.host) and why_address_blocked(origin.host, policy) is not None:
            raise BlockedDestination
        connection = await self._reached()
        try:
            async with asyncio.timeout(self._connect_seconds_max):
                raise_if_refused(await connection.read_head(self._connect_head(origin), _HEAD_BYTES_MAX))
                if origin.scheme == "https":
                    await self._direct.start_tls(connection, origin.host)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _reached(self) -> Connection:
        try:
            return await self._direct.dial(self._origin, ANYWHERE)
        except OSError as error:
            if error.errno in OWN_FAULTS:
                raise
            raise ProxyDown("proxy") from error

    def _connect_head(self, origin: Origin) -> bytes:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        authority = f"{host}:{origin.port}".encode("ascii")
        return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, self._credentials)


def raise_if_refused(head: bytes) -> None:
    """Judges the head of the proxy's answer. Raises what a status means that opens no tunnel."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise ProxyDown("the proxy does not speak HTTP")
    status = int(line[1])
    if status == _AUTHENTICATION_REQUIRED:
        raise ProxyDown("the proxy wants another user or password")
    if status == _FORBIDDEN:
        raise BlockedDestination
    if not 200 <= status <= 299:
        raise TunnelRefused


def _credentials(proxy: Proxy) -> bytes:
    if proxy.user is None:
        return b""
    return b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(f"{proxy.user}:{proxy.password}".encode())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
