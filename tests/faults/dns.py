"""A name server that can fail: a UDP stub on loopback that knows the names of this suite."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from dataclasses import dataclass, field
from enum import IntEnum

ZONE = "faults-example.net"
_A = 1
_ANSWER = 0x8400  # a response, authoritative


class Rcode(IntEnum):
    """RFC 1035 §4.1.1."""

    NO_ERROR = 0
    SERVFAIL = 2
    NXDOMAIN = 3


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers A queries for `<anything>.faults-example.net`, late or not at all if told so."""

    addresses: dict[str, str] = field(default_factory=dict[str, str])
    delay_seconds: float = 0.0
    rcode: Rcode = Rcode.NO_ERROR
    silent: bool = False
    queries: int = 0
    port: int = 0
    _transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Listens on a free port of 127.0.0.1."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]

    def stop(self) -> None:
        """Closes the socket."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self.queries += 1
        if not self.silent:
            asyncio.get_running_loop().call_later(self.delay_seconds, self._reply, self._answer(data), addr)

    def _reply(self, answer: bytes, addr: tuple[str | object, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def _answer(self, query: bytes) -> bytes:
        name, end = _name(query)
        (kind,) = struct.unpack_from("!H", query, end)
        question = query[12 : end + 4]
        address = self.addresses.get(name)
        rcode = Rcode.NXDOMAIN if address is None and self.rcode is Rcode.NO_ERROR else self.rcode
        record = b""
        if address is not None and kind == _A and rcode is Rcode.NO_ERROR:
            packed = ipaddress.IPv4Address(address).packed
            record = struct.pack("!HHHIH", 0xC00C, _A, 1, 0, len(packed)) + packed
        (ident,) = struct.unpack_from("!H", query)
        return struct.pack("!HHHHHH", ident, _ANSWER | rcode, 1, 1 if record else 0, 0, 0) + question + record


def _name(query: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    labels: list[str] = []
    at = 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1
