"""A name server on loopback, for names that misbehave."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final, cast

A: Final = 1
CNAME: Final = 5
AAAA: Final = 28
_QR_AA_RD_RA: Final = 0x8580
_TRUNCATED: Final = 0x0200
_SAME_NAME: Final = b"\xc0\x0c"  # a pointer to the name of the question

Record = tuple[bytes, int, bytes]  # whose (as on the wire), type, data


class Query:
    """A question, and what can be said to it."""

    def __init__(self, packet: bytes, number: int) -> None:
        self.number = number  # how many look-ups of this name and type came before
        self.name, end = _name_at(packet, 12)
        (self.kind,) = struct.unpack_from("!H", packet, end)
        self._id = packet[:2]
        self._question = packet[12 : end + 4]

    def answer(self, *records: Record, code: int = 0, truncated: bool = False) -> bytes:
        """A message with these records. Code 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED."""
        flags = _QR_AA_RD_RA | code | (_TRUNCATED if truncated else 0)
        head = struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
        body = b"".join(owner + struct.pack("!HHIH", kind, 1, 0, len(data)) + data for owner, kind, data in records)
        return self._id + head + self._question + body

    def addresses(self, *texts: str) -> bytes:
        """Those of the addresses that were asked for: IPv4 to A, IPv6 to AAAA."""
        return self.answer(*address_records(self.kind, texts))


Says = Callable[[Query], bytes | None]


def address_records(kind: int, texts: Sequence[str], owner: bytes = _SAME_NAME) -> list[Record]:
    """Records of one type for those of the addresses that fit it."""
    version = 4 if kind == A else 6
    return [(owner, kind, address.packed) for address in map(ip_address, texts) if address.version == version]


def wire(name: str) -> bytes:
    """A name as on the wire."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".")) + b"\0"


class NameServer(asyncio.DatagramProtocol):
    """Answers as each name was told to; all others have the address 127.0.0.1."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._behaviours: dict[str, tuple[Says, float]] = {}
        self._counts: Counter[tuple[str, int]] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))

    def stop(self) -> None:
        """Answers nothing more."""
        assert self._transport is not None
        self._transport.close()

    @property
    def address(self) -> str:
        """As a resolver wants it."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def on(self, name: str, says: Says, after_seconds: float = 0.0) -> None:
        """Tells a name what to answer; None is no answer at all."""
        self._behaviours[name] = (says, after_seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        query = Query(data, 0)
        query.number = self._counts[query.name, query.kind]
        self._counts[query.name, query.kind] += 1
        self.asked.append(query.name)
        says, after_seconds = self._behaviours.get(query.name, (lambda query: query.addresses("127.0.0.1"), 0.0))
        reply = says(query)
        if reply is not None:
            asyncio.get_running_loop().call_later(after_seconds, self._send, reply, addr)

    def _send(self, reply: bytes, addr: tuple[str | Any, int]) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.sendto(reply, addr)


def _name_at(packet: bytes, start: int) -> tuple[str, int]:
    labels: list[str] = []
    while length := packet[start]:
        labels.append(packet[start + 1 : start + 1 + length].decode("ascii"))
        start += 1 + length
    return ".".join(labels), start + 1


class Leading:
    """A resolver in a customer's hands, in place of the service's: each look-up gives the next list of addresses."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(self, _: str) -> Sequence[str]:
        """Gives the next list; the last one again and again."""
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def close(self) -> None:
        """Has nothing to close."""
