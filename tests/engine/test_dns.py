"""Names that misbehave: a look-up ends in a typed result, in bounded time, and in nobody else's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import aiodns
import pytest

from tests.support import slowness
from tests.support.dns import AAAA, CNAME, NameServer, Query, Says, address_records, wire
from tests.support.receiver import Receiver, answer
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.engine.http.hosts_file import HostsFile
from webhook_grpc.engine.http.resolver import RESOLVE_SECONDS, GuardedResolver, ResolverDown
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

LOCAL = EgressPolicy(allow_http=True, allowed_networks=(IPv4Network("127.0.0.1/32"),))
TIMEOUT_SECONDS = 1.5
ENOUGH_SECONDS = 8.0  # also on a busy machine

SUCCEEDED = {(Outcome.SUCCEEDED, FailureReason.NONE)}
UNRESOLVED = {(Outcome.CONNECTION_ERROR, FailureReason.NAME_NOT_RESOLVED)}
TIMED_OUT = {(Outcome.TIMEOUT, FailureReason.TIMEOUT)}
BLOCKED = {(Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION)}


@pytest.fixture
async def names() -> AsyncGenerator[NameServer]:
    names = NameServer()
    await names.start()
    yield names
    names.stop()


def sender_asking(
    address: str, policy: EgressPolicy = LOCAL, hosts_file: HostsFile | None = None
) -> tuple[Sender, GuardedResolver]:
    """A sender whose resolver is the service's, but for the name server that it asks."""
    resolver = GuardedResolver(
        policy,
        Random(),
        aiodns.DNSResolver(
            nameservers=[address], timeout=RESOLVE_SECONDS, tries=2, domains=["svc.cluster.local"], ndots=5
        ),
        hosts_file or HostsFile(Path("/nonexistent/hosts")),
    )
    return Sender(policy, DatabaseClock(), Random(), SendLimits(100), resolver=resolver), resolver


@pytest.fixture
async def sender(names: NameServer) -> AsyncGenerator[Sender]:
    sender, resolver = sender_asking(names.address)
    yield sender
    await sender.close()
    await resolver.close()


async def send(
    sender: Sender, receiver: Receiver, name: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> AttemptResult:
    return await sender.send(Request(f"http://{name}:{receiver.port}/ok", {}, b"{}", timeout_seconds))


def chain(*names: str, to: str) -> Says:
    """One alias after the other, then an address."""

    def says(query: Query) -> bytes:
        owners = [query.name, *names]
        aliases = [(wire(owner), CNAME, wire(alias)) for owner, alias in zip(owners, names, strict=False)]
        return query.answer(*aliases, *address_records(query.kind, [to], wire(owners[-1])))

    return says


def only_to(kind: int, text: str) -> Says:
    return lambda query: query.addresses(text) if query.kind == kind else query.answer()


def in_turn(*turns: Says) -> Says:
    return lambda query: turns[min(query.number, len(turns) - 1)](query)


def says(*texts: str) -> Says:
    return lambda query: query.addresses(*texts)


def fails(query: Query) -> bytes:
    return query.answer(code=2)


def is_silent(_: Query) -> None:
    return None


NAMES: list[tuple[str, Says, float, set[tuple[Outcome, FailureReason]]]] = [
    ("slow", says("127.0.0.1"), 0.3, SUCCEEDED),
    ("silent", lambda _: None, 0, UNRESOLVED | TIMED_OUT),
    ("SERVFAIL", lambda query: query.answer(code=2), 0, UNRESOLVED | TIMED_OUT),
    ("NXDOMAIN", lambda query: query.answer(code=3), 0, UNRESOLVED),
    ("REFUSED", lambda query: query.answer(code=5), 0, UNRESOLVED | TIMED_OUT),
    ("no records", lambda query: query.answer(), 0, UNRESOLVED),
    ("truncated, no TCP", lambda query: query.answer(truncated=True), 0, UNRESOLVED | TIMED_OUT),
    ("garbage", lambda _: b"\0" * 40, 0, UNRESOLVED | TIMED_OUT),
    ("cut off", lambda query: query.addresses("127.0.0.1")[:-2], 0, UNRESOLVED | TIMED_OUT),
    ("forged", lambda query: b"\xff\xff" + query.addresses("127.0.0.1")[2:], 0, UNRESOLVED | TIMED_OUT),
    ("90 times the same", says(*["127.0.0.1"] * 90), 0, SUCCEEDED),
    ("70 internal, one not", says(*(f"10.0.{n}.1" for n in range(70)), "127.0.0.1"), 0, SUCCEEDED),
    ("200 internal", says(*(f"10.0.{n}.1" for n in range(200))), 0, BLOCKED | UNRESOLVED),
    ("metadata", says("169.254.169.254"), 0, BLOCKED),
    ("internal IPv6", only_to(AAAA, "::1"), 0, BLOCKED | UNRESOLVED),
    ("mapped", only_to(AAAA, "::ffff:10.0.0.1"), 0, BLOCKED | UNRESOLVED),
    ("NAT64", only_to(AAAA, "64:ff9b::7f00:1"), 0, BLOCKED | UNRESOLVED),
    ("aliases", chain("a.example.com", "b.example.com", to="127.0.0.1"), 0, SUCCEEDED),
    ("alias to an internal name", chain("redis.internal", to="10.0.0.1"), 0, BLOCKED),
    ("alias of itself", chain("hooks.example.com", to="10.0.0.1"), 0, BLOCKED | UNRESOLVED),
    ("30 aliases", chain(*(f"{n}.example.com" for n in range(30)), to="127.0.0.1"), 0, SUCCEEDED | UNRESOLVED),
]


@pytest.mark.parametrize(
    ("behaviour", "after_seconds", "ends"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES]
)
async def test_a_name_that_misbehaves_ends_in_a_typed_result_in_time(
    sender: Sender, names: NameServer, receiver: Receiver, behaviour: Says, after_seconds: float,
    ends: set[tuple[Outcome, FailureReason]],
) -> None:  # fmt: skip
    names.on("hooks.example.com", behaviour, after_seconds)
    async with slowness.timeout(20):
        result = await send(
            sender, receiver, "hooks.example.com", TIMEOUT_SECONDS if ends >= TIMED_OUT else ENOUGH_SECONDS
        )
    assert (result.outcome, result.reason) in ends
    assert (await send(sender, receiver, "other.example.com", ENOUGH_SECONDS)).outcome is Outcome.SUCCEEDED


async def test_a_name_that_comes_back_is_dialled_again(sender: Sender, names: NameServer, receiver: Receiver) -> None:
    """Nothing is remembered of a failure: the schedule of the retries decides when to ask again."""
    names.on("hooks.example.com", in_turn(lambda query: query.answer(code=3), says("127.0.0.1")))
    results = [await send(sender, receiver, "hooks.example.com") for _ in range(2)]
    assert [result.outcome for result in results] == [Outcome.CONNECTION_ERROR, Outcome.SUCCEEDED]


async def test_a_name_that_is_rebound_is_blocked_from_then_on(
    sender: Sender, names: NameServer, receiver: Receiver
) -> None:
    receiver.on("/ok", answer(200, Connection="close"))
    names.on("hooks.example.com", in_turn(says("127.0.0.1"), says("10.0.0.1")))
    results = [await send(sender, receiver, "hooks.example.com") for _ in range(2)]
    assert [result.outcome for result in results] == [Outcome.SUCCEEDED, Outcome.BLOCKED]


async def test_a_hundred_silent_names_do_not_slow_down_a_good_one(
    sender: Sender, names: NameServer, receiver: Receiver
) -> None:
    """The resolver of the standard library has a few threads, and one silent name holds one for 10 s: too long."""
    silent = [f"silent-{n}.example.com" for n in range(100)]
    for name in silent:
        names.on(name, lambda _: None)
    waiting = [asyncio.create_task(send(sender, receiver, name)) for name in silent]
    async with slowness.timeout(10):
        while not set(names.asked) >= set(silent):
            await asyncio.sleep(0.01)
    assert (await send(sender, receiver, "good.example.com", ENOUGH_SECONDS)).outcome is Outcome.SUCCEEDED
    results = await asyncio.gather(*waiting)
    assert {(result.outcome, result.reason) for result in results} <= UNRESOLVED | TIMED_OUT


async def test_a_name_is_asked_for_as_it_stands(sender: Sender, names: NameServer, receiver: Receiver) -> None:
    """A search domain would make `redis.prod` a service of the operator's cluster."""
    names.on("redis.prod", lambda query: query.answer(code=3))
    result = await send(sender, receiver, "redis.prod")
    assert (result.outcome, result.reason) in UNRESOLVED
    assert set(names.asked) == {"redis.prod"}


@pytest.mark.parametrize("says_of_all", [fails, is_silent], ids=["SERVFAIL", "silent"])
async def test_a_resolver_that_fails_for_the_root_too_is_our_fault(
    sender: Sender, names: NameServer, receiver: Receiver, says_of_all: Says
) -> None:
    """The customer's attempts must not be used up by it."""
    for name in ("hooks.example.com", ""):
        names.on(name, says_of_all)
    with pytest.raises(ResolverDown):
        await send(sender, receiver, "hooks.example.com", timeout_seconds=20)


@pytest.mark.timeout(30)
async def test_without_a_name_server_the_fault_is_ours_and_known_before_the_time_is_over(receiver: Receiver) -> None:
    sender, resolver = sender_asking("127.0.0.1:9")
    with pytest.raises(ResolverDown):
        await send(sender, receiver, "hooks.example.com", 60.0)
    await sender.close()
    await resolver.close()


# --- the hosts file --------------------------------------------------------------------------------------------------


async def test_a_name_that_stands_only_in_the_hosts_file_resolves(
    names: NameServer, receiver: Receiver, tmp_path: Path
) -> None:
    """Compose's `extra_hosts`, and `hostAliases`; the name server is not even asked."""
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 hooks.example.com\n")
    names.on("hooks.example.com", lambda query: query.answer(code=3))
    sender, resolver = sender_asking(names.address, hosts_file=HostsFile(path))
    assert (await send(sender, receiver, "hooks.example.com")).outcome is Outcome.SUCCEEDED
    assert "hooks.example.com" not in names.asked
    path.write_text("127.0.0.1 other.example.com\n")
    result = await send(sender, receiver, "hooks.example.com", timeout_seconds=5)
    assert result.outcome is Outcome.SUCCEEDED  # on the kept connection
    await sender.close()
    await resolver.close()


async def test_what_the_hosts_file_says_is_judged_as_any_other_address(
    names: NameServer, receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.2 hooks.example.com\n")
    sender, resolver = sender_asking(names.address, hosts_file=HostsFile(path))
    assert (await send(sender, receiver, "hooks.example.com")).outcome is Outcome.BLOCKED
    await sender.close()
    await resolver.close()


# --- several addresses -----------------------------------------------------------------------------------------------


async def never_connected(sock: socket.socket, _: Any) -> None:
    """What a dial to an address does behind which nothing is."""
    sock.fileno()
    await asyncio.Event().wait()


@pytest.mark.parametrize("first", ["refused", "dead"])
async def test_when_the_first_address_is_dead_or_refused_the_second_is_dialled_in_the_same_attempt(
    names: NameServer, receiver: Receiver, first: str
) -> None:
    names.on("hooks.example.com", says("127.0.0.77", "127.0.0.1"))
    loopback = EgressPolicy(allow_http=True, allowed_networks=(IPv4Network("127.0.0.0/8"),))
    sender, resolver = sender_asking(names.address, loopback)
    loop = asyncio.get_running_loop()
    really_connect = loop.sock_connect
    dialled: list[str] = []

    async def connect(sock: socket.socket, address: Any) -> None:
        dialled.append(address[0])
        if first == "dead" and address[0] == "127.0.0.77":
            await never_connected(sock, address)
        await really_connect(sock, address)

    with patch.object(loop, "sock_connect", connect):
        result = await send(sender, receiver, "hooks.example.com", timeout_seconds=slowness.scaled(4))
    assert result.outcome is Outcome.SUCCEEDED
    assert dialled == ["127.0.0.77", "127.0.0.1"]
    await sender.close()
    await resolver.close()


async def test_each_of_several_addresses_is_judged(names: NameServer, receiver: Receiver) -> None:
    names.on("hooks.example.com", says("127.0.0.2", "10.0.0.1", "127.0.0.1", "169.254.169.254"))
    sender, resolver = sender_asking(names.address)
    assert (await send(sender, receiver, "hooks.example.com")).outcome is Outcome.SUCCEEDED
    results = await resolver.resolve("hooks.example.com")
    assert results == ["127.0.0.1"]
    await sender.close()
    await resolver.close()


async def test_every_address_of_a_name_gets_its_turn(names: NameServer) -> None:
    """If the first two were always taken, a name with two dead ones would be dead."""
    texts = [f"127.0.0.{n}" for n in range(1, 6)]
    loopback = EgressPolicy(allowed_networks=(IPv4Network("127.0.0.0/8"),))
    names.on("hooks.example.com", says(*texts))
    sender, resolver = sender_asking(names.address, loopback)
    answers = [await resolver.resolve("hooks.example.com") for _ in range(200)]
    assert {len(answer) for answer in answers} == {2}
    assert {answer[0] for answer in answers} == {texts[0]}
    assert {answer[1] for answer in answers} == set(texts[1:])
    await sender.close()
    await resolver.close()


# --- names that the operator allows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "address", "is_dialled"),
    [
        ("svc.shop.svc.cluster.local", "10.1.2.3", True),
        ("receiver", "172.18.0.5", True),
        ("receiver", "127.0.0.1", False),
        ("receiver", "169.254.169.254", False),
        ("receiver", "100.100.100.200", False),
        ("hooks.example.com", "10.1.2.3", False),
    ],
)
async def test_only_a_name_that_the_operator_allows_may_lead_to_a_private_address_and_to_no_other(
    names: NameServer, receiver: Receiver, host: str, address: str, *, is_dialled: bool
) -> None:
    policy = EgressPolicy(allow_http=True, allowed_hosts=("receiver", "*.svc.cluster.local"))
    names.on(host, says(address))
    sender, resolver = sender_asking(names.address, policy)
    dialled: list[str] = []

    async def refuse(_: socket.socket, address: Any) -> None:
        dialled.append(address[0])
        raise ConnectionRefusedError

    with patch.object(asyncio.get_running_loop(), "sock_connect", refuse):
        result = await send(sender, receiver, host)
    assert dialled == ([address] if is_dialled else [])
    assert result.outcome is (Outcome.CONNECTION_ERROR if is_dialled else Outcome.BLOCKED)
    await sender.close()
    await resolver.close()
