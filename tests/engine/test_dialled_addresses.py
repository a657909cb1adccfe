"""Which addresses are really dialled: whatever URL is accepted and whatever its name answers, none that is blocked.

Every dial is caught in the loop's `sock_connect`, below all guards, and refused there: nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import ssl
import struct
from collections.abc import Generator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import patch

import aiodns
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import slowness
from tests.support.dns import Leading
from tests.support.full import in_full
from tests.support.raw import OK, says
from tests.support.receiver import Receiver
from tests.unit.test_egress import HOSTS_REFUSED, PARSER_TRICKS_REFUSED
from webhook_grpc.domain.egress import EgressPolicy, why_address_blocked, why_url_blocked
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.engine.http.faults import NameNotResolved
from webhook_grpc.engine.http.resolver import GuardedResolver
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

POLICY: Final = EgressPolicy(allow_http=True)
LOOPBACK: Final = (IPv4Network("127.0.0.0/8"),)
CONTEXT: Final = ssl.create_default_context()  # takes longer to make than all the rest
ARES_ENOTFOUND: Final = 4
DIALS_MAX: Final = 4  # two IPv4 and two IPv6


class Answers:
    """A name server in a customer's hands: each look-up is answered with the next list."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self._asked = 0

    async def resolve(self, _: str) -> list[str]:
        answer = self._answers[self._asked % len(self._answers)]
        self._asked += 1
        if not answer:
            raise NameNotResolved
        return answer

    async def close(self) -> None:
        """Has nothing to close."""


class CustomersNameServer:
    """The same answers as they come from c-ares."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def getaddrinfo(self, host: str, *_: Any, **__: Any) -> SimpleNamespace:
        try:
            texts = await self._answers.resolve(host)
        except OSError as error:
            raise aiodns.error.DNSError(ARES_ENOTFOUND) from error
        return SimpleNamespace(nodes=[SimpleNamespace(addr=(text.encode(), 0)) for text in texts])

    async def close(self) -> None:
        """Has nothing to close."""


class Dials:
    """What reaches the operating system."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    async def refuse(self, _: socket.socket, address: tuple[str, int]) -> None:
        self.addresses.append(address[0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "caught by the test")


def guarded(answers: Answers) -> GuardedResolver:
    """The service's resolver before a name server that a customer controls."""
    return GuardedResolver(POLICY, Random(), cast(aiodns.DNSResolver, CustomersNameServer(answers)))


async def dial(
    url: str, answers: Answers, *, guard_answers: bool = True, requests: int = 1
) -> tuple[list[AttemptResult], list[str]]:
    """Sends, with the URL unchecked. Returns the results and the addresses dialled."""
    dials = Dials()
    resolver = guarded(answers) if guard_answers else answers
    sender = Sender(POLICY, DatabaseClock(), Random(), SendLimits(100), resolver=resolver, ssl_context=CONTEXT)
    try:
        with patch.object(asyncio.get_running_loop(), "sock_connect", dials.refuse):
            results = [await sender.send(Request(url, {}, b"{}", 5.0)) for _ in range(requests)]
    finally:
        await sender.close()
    return results, dials.addresses


async def dial_unchecked(url: str, answers: Answers) -> list[str]:
    """Sends what `why_url_blocked` refuses, with nothing in the way but the guard of the dialler."""
    [result], addresses = await dial(url, answers, guard_answers=False)
    assert result.outcome in {Outcome.CONNECTION_ERROR, Outcome.BLOCKED, Outcome.INTERNAL_ERROR}
    return addresses


def blocked(addresses: list[str]) -> list[str]:
    return [address for address in addresses if why_address_blocked(address, POLICY) is not None]


# --- generated URLs and answers --------------------------------------------------------------------------------------


def carried(carrier: int, address: IPv4Address) -> IPv6Address:
    return IPv6Address(carrier | int(address))


def six_to_four(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0x2002 << 112 | int(address) << 80)


def many(answers: list[str], times: int) -> list[str]:
    return answers * times


ipv4 = st.one_of(
    st.sampled_from(["8.8.8.8", "127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0"]),  # noqa: S104
    st.ip_addresses(v=4).map(str),
).map(IPv4Address)
# ways in which an IPv6 address carries an IPv4 address
carriers = st.sampled_from(
    [0, 0xFFFF << 32, 0xFFFF << 48, 0x64FF9B << 96, 0x64FF9B0001 << 80, 0x26064700 << 96 | 0x5EFE << 32]
)
ipv6 = st.one_of(
    st.sampled_from(["2606:4700:4700::1111", "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1"]).map(IPv6Address),
    st.ip_addresses(v=6, network="2000::/3"),
    st.builds(carried, carriers, ipv4),
    ipv4.map(six_to_four),
)
zones = st.sampled_from(["%eth0", "%1", "%25lo"])
answer: st.SearchStrategy[str] = st.one_of(
    ipv4.map(str),
    ipv6.map(str),
    st.builds("{}{}".format, ipv6, zones),
    st.sampled_from(["127.1", "0x7f000001", "localhost", "", "/var/run/docker.sock"]),
)
answer_lists = st.one_of(
    st.lists(answer, max_size=3),
    st.builds(many, st.lists(answer, min_size=1, max_size=4), st.sampled_from([13, 50])),
)


def spellings(address: IPv4Address) -> st.SearchStrategy[str]:
    """The ways in which inet_aton reads an address: parts missing, each in any radix."""
    number, octets = int(address), address.packed
    parts = [
        [number],
        [octets[0], number & 0xFFFFFF],
        [octets[0], octets[1], number & 0xFFFF],
        list(octets),
    ]
    radix = st.sampled_from(["{:d}", "{:#x}", "0{:o}", "0x000{:X}", "{:03d}"])
    return st.sampled_from(parts).flatmap(
        lambda chosen: st.lists(radix, min_size=len(chosen), max_size=len(chosen)).map(
            lambda forms: ".".join(form.format(part) for form, part in zip(forms, chosen, strict=True))
        )
    )


labels = st.one_of(
    st.text("aZ0-_", min_size=1, max_size=6), st.sampled_from(["xn--bcher-kva", "0x7f", "127", "a" * 63, "a" * 64])
)
hosts = st.one_of(
    st.sampled_from(["hooks.example.com", "HOOKS.example.COM."]),
    st.lists(labels, min_size=1, max_size=5).map(".".join),
    ipv4.map(str),
    ipv4.flatmap(spellings),
    ipv6.map("[{}]".format),
    ipv6.map(lambda address: f"[{address.exploded.upper()}]"),
    st.builds("[{}{}]".format, ipv6, zones),
    st.builds("[::ffff:{}]".format, ipv4),
    st.sampled_from(["１２７.0.0.1", "127。0。0。1", "%31%32%37.0.0.1", "127.0.0.1%2e", "localhost", "①②⑦.0.0.1"]),
    st.sampled_from(["127.0.0.1.nip.io", "localtest.me", "metadata.google.internal"]),
)
schemes = st.sampled_from(["https://", "http://", "HTTPS://", "https:", "//", "https:/\\", "ftp://", "unix://", ""])
prefixes = st.sampled_from(["", "", "", "user@", "user:pw@", "8.8.8.8@", "8.8.8.8\\@", "8.8.8.8#@", "8.8.8.8?@", "."])
suffixes = st.sampled_from(
    ["", "", "", ":443", ":8443", ":080", ":22", ":0", ":65536", ":", ".", "..", "%00", "\t", "@8.8.8.8"]
)
paths = st.sampled_from(["/", "", "/a%2fb?x=@127.0.0.1", "?x", "#x", "//127.0.0.1/", "/\\127.0.0.1"])
good_urls = st.builds(
    "{}{}{}{}".format, st.sampled_from(["https://", "http://"]), hosts, st.sampled_from(["", ":8443"]), paths
)
urls = st.one_of(good_urls, st.builds("{}{}{}{}{}".format, schemes, prefixes, hosts, suffixes, paths))


@settings(max_examples=in_full(400, short=150), deadline=None, derandomize=True)
@given(urls, answer_lists, answer_lists)
def test_whatever_url_is_accepted_and_whatever_its_name_answers_no_blocked_address_is_dialled(
    url: str, first: list[str], second: list[str]
) -> None:
    if why_url_blocked(url, POLICY) is not None:
        return
    results, addresses = asyncio.run(dial(url, Answers(first, second), requests=2))
    assert not blocked(addresses)
    assert len(addresses) <= DIALS_MAX * len(results)
    assert {result.outcome for result in results} <= {Outcome.CONNECTION_ERROR, Outcome.BLOCKED}


@settings(max_examples=in_full(200, short=75), deadline=None, derandomize=True)
@given(st.lists(answer, max_size=6))
def test_where_addresses_are_dialled_no_blocked_one_passes_even_if_the_resolver_lets_it(answers: list[str]) -> None:
    """Each layer stands alone: this is the one that counts."""
    results, addresses = asyncio.run(dial("https://hooks.example.com/", Answers(answers), guard_answers=False))
    assert not blocked(addresses)
    assert {result.outcome for result in results} <= {Outcome.CONNECTION_ERROR, Outcome.BLOCKED}


@settings(max_examples=in_full(200, short=75), deadline=None, derandomize=True)
@given(urls)
def test_even_an_unchecked_url_leads_to_no_blocked_address(url: str) -> None:
    """As if the check of the URL were bypassed, with all names leading to this machine."""
    assert not blocked(asyncio.run(dial_unchecked(url, Answers(["127.0.0.1", "::1"]))))


@pytest.mark.parametrize("url", [*(f"https://{host}/" for host in HOSTS_REFUSED), *PARSER_TRICKS_REFUSED], ids=ascii)
async def test_a_url_that_must_be_refused_would_lead_nowhere_if_it_were_not(url: str) -> None:
    assert not blocked(await dial_unchecked(url, Answers(["127.0.0.1"])))


# --- how often -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 50, 200])
async def test_however_many_addresses_a_name_has_four_are_dialled_the_families_in_turns(count: int) -> None:
    answers = [f"8.8.{n // 250}.{n % 250}" for n in range(count)] + [f"2606:4700::{n + 1:x}" for n in range(count)]
    [result], addresses = await dial("https://hooks.example.com/", Answers(answers))
    assert result.outcome is Outcome.CONNECTION_ERROR
    assert len(set(addresses)) == len(addresses) == min(2 * count, DIALS_MAX)
    assert [":" in address for address in addresses] == [False, True] * (len(addresses) // 2)


async def test_of_a_mixed_answer_only_the_public_address_is_dialled() -> None:
    answers = Answers(["127.0.0.1", "8.8.8.8", "::1", "::ffff:10.0.0.1"])
    _, addresses = await dial("https://hooks.example.com/", answers)
    assert set(addresses) == {"8.8.8.8"}


async def test_a_name_that_changes_to_an_internal_address_is_not_dialled_again() -> None:
    answers = Answers(["8.8.8.8"], ["127.0.0.1"])
    results, addresses = await dial("https://hooks.example.com/", answers, requests=2)
    assert set(addresses) == {"8.8.8.8"}
    assert [result.outcome for result in results] == [Outcome.CONNECTION_ERROR, Outcome.BLOCKED]


def bound_to_both_families() -> tuple[tuple[socket.socket, socket.socket], int]:
    """Two sockets on the loopback addresses, with one port; what is free in one family need not be in the other."""
    while True:
        six, four = socket.socket(socket.AF_INET6), socket.socket()
        try:
            six.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = six.getsockname()[1]
        with contextlib.suppress(OSError):
            four.bind(("127.0.0.1", port))
            return (six, four), port
        six.close()
        four.close()


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1"], ["127.0.0.77", "::1"], ["127.0.0.1", "::2"]], ids=" and ".join
)
async def test_a_host_of_one_family_or_with_a_dead_address_gets_its_request(addresses: list[str]) -> None:
    """127.0.0.77 refuses, and ::2 has no route."""
    sockets, port = bound_to_both_families()
    servers = [await asyncio.start_server(says(OK), sock=sock) for sock in sockets]
    local = EgressPolicy(allow_http=True, allowed_networks=(*LOOPBACK, IPv6Network("::/126")))
    sender = Sender(local, DatabaseClock(), Random(), SendLimits(100), resolver=Leading(addresses), ssl_context=CONTEXT)
    result = await sender.send(Request(f"http://hooks.example.com:{port}/", {}, b"{}", slowness.scaled(5)))
    await sender.close()
    for server in servers:
        server.close()
    assert result.outcome is Outcome.SUCCEEDED


# --- the third layer -------------------------------------------------------------------------------------------------


async def test_a_connection_that_leads_elsewhere_than_it_was_dialled_gets_no_byte(receiver: Receiver) -> None:
    """The address of the peer is looked at too: what was dialled need not be what answers."""
    loop = asyncio.get_running_loop()
    really_connect = loop.sock_connect

    async def connect_inside(sock: socket.socket, _: tuple[str, int]) -> None:
        await really_connect(sock, ("127.0.0.1", receiver.port))

    sender = Sender(POLICY, DatabaseClock(), Random(), SendLimits(100))
    with patch.object(loop, "sock_connect", connect_inside):
        result = await sender.send(Request("http://8.8.8.8/", {}, b"{}", 5.0))
    await sender.close()
    assert (result.outcome, result.reason) == (Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION)
    assert not receiver.requests


async def test_a_receiver_that_is_gone_before_it_is_looked_at_is_not_called_a_forbidden_address() -> None:
    """A connection that was reset has no peer: nothing may be sent, but the customer's URL is not to blame."""
    loop = asyncio.get_running_loop()
    really_connect = loop.sock_connect
    listener = socket.create_server(("127.0.0.1", 0))

    async def connect_and_be_reset(sock: socket.socket, address: tuple[str, int]) -> None:
        await really_connect(sock, address)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        await asyncio.sleep(0.05)  # until the RST has crossed the loopback

    local = EgressPolicy(allow_http=True, allowed_networks=LOOPBACK)
    sender = Sender(local, DatabaseClock(), Random(), SendLimits(100))
    with patch.object(loop, "sock_connect", connect_and_be_reset):
        result = await sender.send(Request(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}", 5.0))
    await sender.close()
    listener.close()
    assert result.outcome is Outcome.CONNECTION_ERROR


@pytest.mark.slow
def test_a_refused_connection_closes_no_descriptor_but_its_own(receiver_port: int) -> None:
    """On uvloop a socket object of ours could close the number once more, whoever has it by then."""

    async def refuse_many() -> None:
        sender = Sender(POLICY, DatabaseClock(), Random(), SendLimits(100))
        for _ in range(20):
            result = await sender.send(Request(f"http://127.0.0.1:{receiver_port}/", {}, b"{}", 5.0))
            assert result.outcome is Outcome.BLOCKED
            await asyncio.sleep(0.1)  # until it is closed
            victims = [os.pipe() for _ in range(4)]
            gc.collect()
            for number in (end for pipe in victims for end in pipe):
                os.fstat(number)
                os.close(number)
        await sender.close()

    admits = patch("webhook_grpc.engine.http.dialling.why_address_blocked", return_value=None)
    with admits, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # only the guard of the peer refuses
        runner.run(refuse_many())


@pytest.fixture
def receiver_port() -> Generator[int]:
    """A port that takes connections and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield listener.getsockname()[1]
    listener.close()
