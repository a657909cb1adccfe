"""TLS handshakes: one begins in a turn of the loop, when its greeting has come whole, and no crowd holds up others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import trustme

from tests.support import slowness
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.server import accepting
from webhook_grpc.server.accepting import Accepting, Lost
from webhook_grpc.server.client_hello import RECORDS_MAX, NoGreeting, until_greeted, whole_bytes

CROWD = 12


def greeting() -> bytes:
    """What a client sends first."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def in_records(whole: bytes, size: int) -> bytes:
    """Returns the same greeting in several records."""
    parts = [whole[5:][at : at + size] for at in range(0, len(whole) - 5, size)]
    return b"".join(whole[:3] + len(part).to_bytes(2, "big") + part for part in parts)


def test_a_greeting_is_whole_with_its_last_byte() -> None:
    whole = greeting()
    for coming in (whole, in_records(whole, 100)):
        wanted = list[int]((5,))
        while wanted[-1]:
            wanted.append(whole_bytes(coming[: wanted[-1]]))
        assert wanted[:-1] == sorted(set(wanted[:-1]))
        assert wanted[-2] == len(coming)


@pytest.mark.parametrize("other", [b"GET / HTTP/1.1\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x01\xff\xff"])
def test_what_is_no_greeting_is_judged_at_once(other: bytes) -> None:
    assert whole_bytes(other) == 0


def test_a_greeting_in_crumbs_is_refused() -> None:
    with pytest.raises(NoGreeting, match="pieces"):
        whole_bytes(in_records(greeting(), 1)[: 6 * RECORDS_MAX])


async def test_a_greeting_stays_at_the_socket_and_who_leaves_is_noticed() -> None:
    whole = greeting()
    for sent, is_whole in ((whole, True), (whole[:-1], False), (b"", False)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(sent)
            if not is_whole:
                theirs.shutdown(socket.SHUT_WR)
            async with slowness.timeout(10):
                if is_whole:
                    await until_greeted(ours)
                    assert ours.recv(65_536) == whole
                else:
                    with pytest.raises(NoGreeting, match="left"):
                        await until_greeted(ours)


class Door:
    """An address with TLS. `begun`: from which address each handshake began, and in which turn of the loop."""

    def __init__(self) -> None:
        self.begun = list[tuple[str, int]]()
        self.turn = 0
        self.greeted = 0  # connections whose greeting is whole
        self.all_greeted = asyncio.Event()


@contextlib.asynccontextmanager
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Door, Callable[[str], socket.socket]]]:
    seen = Door()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate: Any = trustme.CA().issue_cert("localhost")
    certificate.configure_cert(context)
    loop = asyncio.get_running_loop()
    connect = loop.connect_accepted_socket

    async def connected(make: Callable[[], asyncio.Protocol], connection: socket.socket, **options: object) -> object:
        seen.begun.append((connection.getpeername()[0], seen.turn))
        return await connect(make, connection, **options)  # pyright: ignore[reportArgumentType] - as it was called

    async def greeted(connection: socket.socket) -> None:
        await until_greeted(connection)
        seen.greeted += 1
        await seen.all_greeted.wait()  # so that it does not matter when each is noticed

    monkeypatch.setattr(loop, "connect_accepted_socket", connected)
    monkeypatch.setattr(accepting, "until_greeted", greeted)

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            seen.turn += 1

    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as opened:
        port = listening.getsockname()[1]

        def client(address: str) -> socket.socket:
            return opened.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(address, 0)))

        def make(_: Lost) -> asyncio.Protocol:
            return asyncio.Protocol()

        doorkeeper = Accepting(make, 10 * CROWD, lambda: context)
        doorkeeper.start(listening.dup())
        counting = asyncio.create_task(count())
        try:
            yield seen, client
        finally:
            counting.cancel()
            await doorkeeper.stop()


async def test_handshakes_that_could_begin_together_begin_one_in_a_turn_and_a_crowd_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = greeting()
    async with door(monkeypatch) as (seen, client), slowness.timeout(20):
        crowd = [client("127.0.0.2") for _ in range(CROWD)]
        other = client("127.0.0.1")
        for one in crowd:
            one.sendall(whole[:-1])
        await _turns(seen, 4 * CROWD)
        assert seen.greeted == 0
        for one in (*crowd, other):
            one.sendall(whole if one is other else whole[-1:])
        while seen.greeted <= CROWD:
            await asyncio.sleep(0)
        assert seen.begun == []
        seen.all_greeted.set()
        while len(seen.begun) <= CROWD:
            await asyncio.sleep(0)
    turns = [turn for _, turn in seen.begun]
    assert len(set(turns)) == len(turns), "one in a turn"
    assert [address for address, _ in seen.begun].index("127.0.0.1") <= 2, "whoever has begun none lately comes first"


async def test_who_leaves_before_its_turn_leaves_its_place_and_one_address_leaves_places_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(_turns: LoopTurns, _address: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LoopTurns, "wait", never)
    monkeypatch.setattr(accepting, "TURN_SECONDS_MAX", 600.0)  # it is no bound that frees the places here
    whole, doorkeeper = greeting(), Accepting(lambda _: asyncio.Protocol(), CROWD, ssl.create_default_context)
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as opened:

        def client(address: str) -> socket.socket:
            made = socket.create_connection(listening.getsockname(), source_address=(address, 0))
            made.sendall(whole)
            return opened.enter_context(made)

        doorkeeper.start(listening.dup())
        try:
            async with slowness.timeout(20):
                crowd = [client("127.0.0.2") for _ in range(2 * CROWD)]
                while sum(map(_is_closed, crowd)) < 2 * CROWD - CROWD // 2:
                    await asyncio.sleep(0.001)
                left = doorkeeper.connection_count
                assert 0 < left <= CROWD // 2
                client("127.0.0.1")
                while doorkeeper.connection_count <= left:
                    await asyncio.sleep(0.001)
                opened.close()
                while doorkeeper.connection_count:
                    await asyncio.sleep(0.001)
        finally:
            await doorkeeper.stop()


class Echo(asyncio.Protocol):
    """Stops the door in the moment in which its connection is made, and sends back what comes after that."""

    def __init__(self, stop: Callable[[], Any], lost: Lost) -> None:
        self._stop = stop
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self.stopping = asyncio.ensure_future(self._stop())

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._lost()


async def test_what_serves_a_connection_begins_with_the_end_of_its_handshake_and_is_not_ended_as_one() -> None:
    """A door that stopped in that moment closed the connection: its client had no chance to hear of the stop."""
    made, opened = list[Echo](), asyncio.Event()
    authority: Any = trustme.CA()
    context, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(client)

    def make(lost: Lost) -> asyncio.Protocol:
        made.append(Echo(doorkeeper.stop, lost))
        return made[-1]

    def its_context() -> ssl.SSLContext:
        opened.set()
        return context

    doorkeeper = Accepting(make, CROWD, its_context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        doorkeeper.start(listening.dup())
        async with slowness.timeout(20):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            writer.write(outgoing.read())
            incoming.write(await reader.read(65_536))
            assert opened.is_set()
            assert not made, "the times that it gives its client have begun during the handshake"
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                incoming.write(await reader.read(65_536))
            writer.write(outgoing.read())
            while not made:
                await asyncio.sleep(0)
            await made[0].stopping
            tls.write(b"still there")
            writer.write(outgoing.read())
            answer = b""
            while not answer:
                came = await reader.read(65_536)
                assert came, "the connection was closed"
                incoming.write(came)
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer = tls.read()
            assert answer == b"still there"
            writer.close()
            while doorkeeper.connection_count:
                await asyncio.sleep(0.001)


def _is_closed(connection: socket.socket) -> bool:
    """Returns whether the other side has closed it. Nothing is ever sent on it."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def _turns(seen: Door, count: int) -> None:
    until = seen.turn + count
    while seen.turn < until:
        await asyncio.sleep(0)
