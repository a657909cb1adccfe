"""HTTP/2 at the gRPC door: what clients may do is served, what costs without end is ended, and nothing ever raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from webhook_grpc.server.grpc.http2 import budgets, connection, frames, lifetime, read_scheduling, sending, streams
from webhook_grpc.server.grpc.http2.bounds import Bounds, Kept
from webhook_grpc.server.grpc.http2.connection import Connection
from webhook_grpc.server.grpc.http2.frames import Kind, Reason, Setting, frame
from webhook_grpc.server.grpc.http2.header_blocks import BLOCK_BYTES_MAX, written
from webhook_grpc.server.grpc.http2.read_scheduling import Reading
from webhook_grpc.server.grpc.http2.stream import Stream, StreamEnded
from webhook_grpc.server.grpc.turning_away import TurningAway
from webhook_grpc.server.wrong_protocol import LINE_SECONDS_MIN, Misdirected

BOUNDS: Final = Bounds(
    streams_max=5, idle_seconds_max=100.0, age_seconds_max=1000.0, kept_bytes_max=100_000, kept_bytes_min=50_000
)
HEAD: Final = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("content-type", "application/grpc")]
HEADERS: Final = frames.END_HEADERS
LAST: Final = frames.END_STREAM

Frame = tuple[int, int, int, bytes]


class Transport:
    """What a connection writes to: TLS in which HTTP/2 was not announced, as some proxies do."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_open = True
        self.is_writable = True
        self.waiting_bytes = 0

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def get_extra_info(self, name: str) -> Any:
        return SimpleNamespace(selected_alpn_protocol=lambda: None) if name == "ssl_object" else None

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def close(self) -> None:
        self.is_open = False

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_writable = False

    def is_closing(self) -> bool:
        return not self.is_open

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Client:
    """The other side of a connection."""

    def __init__(self, serve: Callable[[Stream], None] = lambda _: None) -> None:
        self.kept, self.transport, self.streams = Kept(), Transport(), list[Stream]()

        def begin(_: Connection, stream: Stream) -> None:
            self.streams.append(stream)
            serve(stream)

        turn_away = TurningAway().answer
        self.connection = Connection(BOUNDS, self.kept, Reading(), begin, lambda _: None, lambda _: None, turn_away)
        self.connection.connection_made(cast("Any", self.transport))
        self._encoder = Encoder()

    def begin(self, **settings: int) -> Client:
        announced = {Setting[name]: value for name, value in settings.items()}
        self.send(frames.PREFACE + frames.settings(announced))
        self.got()
        return self

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    def head(self, fields: Sequence[tuple[str, str]] = HEAD) -> bytes:
        return self._encoder.encode(list(fields))

    def call(self, stream_id: int, body: bytes | None = b"", fields: Sequence[tuple[str, str]] = HEAD) -> None:
        """Sends a request; without a body the request goes on."""
        self.send(frame(Kind.HEADERS, HEADERS, stream_id, self.head(fields)))
        if body is not None:
            self.send(frame(Kind.DATA, LAST, stream_id, body))

    def got(self) -> list[Frame]:
        """Returns the frames that have come since the last time."""
        data, self.transport.sent = self.transport.sent, b""
        found = list[Frame]()
        while data:
            size = int.from_bytes(data[:3], "big")
            found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
            data = data[9 + size :]
        return found

    def data(self) -> bytes:
        """Returns the data that has come."""
        return b"".join(payload for kind, _, _, payload in self.got() if kind == Kind.DATA)

    def ended_with(self) -> Reason:
        """Returns why the connection was ended."""
        [payload] = [payload for kind, _, _, payload in self.got() if kind == Kind.GOAWAY]
        assert not self.transport.is_open
        return Reason(int.from_bytes(payload[4:8], "big"))

    def resets(self) -> list[Reason]:
        """Returns why streams were reset."""
        return [Reason(int.from_bytes(payload, "big")) for kind, _, _, payload in self.got() if kind == Kind.RST_STREAM]


RESETS: Final = budgets.BudgetLimits(at_once=20, each_second=0)
EMPTY_FRAMES: Final = budgets.BudgetLimits(at_once=50, each_second=0)


@pytest.fixture(autouse=True)
def bounds_that_do_not_depend_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "RESETS", RESETS)
    monkeypatch.setattr(budgets, "EMPTY_FRAMES", EMPTY_FRAMES)
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(read_scheduling, "TURN_SECONDS", float("inf"))  # the machine may be busy


@pytest.fixture
async def client() -> AsyncGenerator[Client]:
    yield Client().begin()  # noqa: PT022 - in the loop


def answering(data: bytes) -> Callable[[Stream], None]:
    return lambda stream: stream.finish(b"\x88", data, written([(b"grpc-status", b"0")]))


async def test_an_answer_comes_as_the_windows_allow() -> None:
    client = Client(answering(b"x" * 100_000)).begin(INITIAL_WINDOW_SIZE=10)
    client.call(1)
    assert client.data() == b"x" * 10
    client.send(frames.settings({Setting.INITIAL_WINDOW_SIZE: 11}))
    assert [kind for kind, *_ in client.got()] == [Kind.SETTINGS, Kind.DATA], "settings are acknowledged first"
    client.send(frames.window_update(1, 200_000))
    assert len(client.data()) == 65_535 - 11, "the window of the connection"
    client.send(frames.window_update(0, 200_000))
    rest = client.got()
    assert sum(len(payload) for kind, _, _, payload in rest if kind == Kind.DATA) == 100_000 - 65_535
    assert rest[-1][:2] == (Kind.HEADERS, HEADERS | LAST)
    assert Decoder().decode(rest[-1][3]) == [("grpc-status", "0")]


async def test_streams_take_turns_where_the_connection_is_the_limit() -> None:
    client = Client(answering(b"x" * 100_000)).begin(INITIAL_WINDOW_SIZE=1_000_000)
    client.call(1)
    client.call(3)
    client.got()
    client.send(frames.window_update(0, 4 * frames.FRAME_BYTES_MAX))
    assert [stream_id for kind, _, stream_id, _ in client.got() if kind == Kind.DATA] == [1, 3, 1, 3]


async def test_a_large_answer_comes_at_once_where_the_windows_allow() -> None:
    client = Client(answering(b"x" * 60_000)).begin()
    client.call(1)
    assert len(client.data()) == 60_000


async def test_whoever_sends_learns_when_the_client_could_take_it_and_when_it_has_left() -> None:
    client = Client().begin(INITIAL_WINDOW_SIZE=0)
    client.call(1)
    [stream] = client.streams
    sending = asyncio.ensure_future(stream.send(b"hello"))
    await asyncio.sleep(0)
    client.send(frames.window_update(1, 5))
    await sending
    sending = asyncio.ensure_future(stream.send(b"more"))
    await asyncio.sleep(0)
    client.send(frame(Kind.RST_STREAM, 0, 1, Reason.CANCEL.to_bytes(4, "big")))
    with pytest.raises(StreamEnded):
        await sending


async def test_no_more_is_taken_in_than_the_first_window_until_somebody_reads(client: Client) -> None:
    client.call(1, None)
    [stream] = client.streams
    for _ in range(3):
        client.send(frame(Kind.DATA, 0, 1, b"x" * 16_384))
    client.send(frame(Kind.DATA, 0, 1, b"x" * 16_383))
    assert [kind for kind, *_ in client.got() if kind == Kind.WINDOW_UPDATE] == []
    reading = asyncio.ensure_future(stream.read(65_535 + 5))
    await asyncio.sleep(0)
    assert (Kind.WINDOW_UPDATE, 1) in [(kind, stream_id) for kind, _, stream_id, _ in client.got()]
    client.send(frame(Kind.DATA, LAST, 1, b"hello"))
    assert (await reading)[-5:] == b"hello"
    assert client.kept.size_bytes == 0


async def test_more_than_a_window_allows_ends_the_connection(client: Client) -> None:
    client.call(1, None)
    for _ in range(4):
        client.send(frame(Kind.DATA, 0, 1, b"x" * 16_384))
    assert client.ended_with() is Reason.FLOW_CONTROL_ERROR


async def test_what_nobody_reads_is_bounded_in_all_streams_together(client: Client) -> None:
    for stream_id in (1, 3, 5):
        client.call(stream_id, None)
        for _ in range(3):
            client.send(frame(Kind.DATA, 0, stream_id, b"x" * 16_000))
    assert client.resets()[0] is Reason.ENHANCE_YOUR_CALM
    assert client.kept.size_bytes <= BOUNDS.kept_bytes_max
    client.connection.connection_lost(None)
    assert client.kept.size_bytes == 0


def trailers(client: Client, stream_id: int, value: str, flags: int = HEADERS | LAST) -> bytes:
    return frame(Kind.HEADERS, flags, stream_id, client.head([("x-late", value)]))


def answered_early(client: Client) -> None:
    client.call(1, None)
    answering(b"no")(client.streams[-1])
    assert client.resets() == [Reason.NO_ERROR]


def reset_early(client: Client) -> None:
    client.call(1, None)
    client.streams[-1].reset(Reason.CANCEL)


def malformed(client: Client) -> None:
    client.call(1, None, HEAD[1:])


@pytest.mark.parametrize("end", [answered_early, reset_early, malformed])
async def test_trailers_of_a_stream_that_we_ended_are_dropped_and_the_connection_goes_on(
    client: Client, end: Callable[[Client], None]
) -> None:
    """The client could not know (RFC 9113, section 5.1). They are read: the next block may stand on their fields."""
    end(client)
    client.streams.clear()
    client.send(frame(Kind.DATA, 0, 1, b"x" * 100) + trailers(client, 1, "seen"))
    client.call(3, None, [*HEAD, ("x-late", "seen")])
    assert client.transport.is_open
    assert [dict(stream.head.fields)[b"x-late"] for stream in client.streams] == [b"seen"]
    client.send(trailers(client, 1, "again"))
    assert client.ended_with() is Reason.STREAM_CLOSED, "nothing may come behind the last frame"


@pytest.mark.parametrize(
    "end",
    [frame(Kind.RST_STREAM, 0, 1, bytes(4)), frame(Kind.DATA, LAST, 1)],
    ids=["reset by the client", "all was sent"],
)
@pytest.mark.parametrize("is_answered", [True, False])
async def test_trailers_behind_the_end_of_what_the_client_sends_end_the_connection(
    client: Client, end: bytes, *, is_answered: bool
) -> None:
    client.call(1, None)
    if is_answered:
        answering(b"no")(client.streams[-1])
    client.send(end + trailers(client, 1, "late"))
    assert client.ended_with() is Reason.STREAM_CLOSED


async def test_late_trailers_are_borne_of_a_bounded_number_of_streams_and_are_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ENDED_EARLY_MAX", 2)
    for stream_id in (1, 3, 5):
        client.call(stream_id, None)
        client.streams[-1].reset(Reason.CANCEL)
    for _ in range(EMPTY_FRAMES.at_once - 10):
        client.send(trailers(client, 5, "late", HEADERS))
    assert client.transport.is_open
    for _ in range(20):
        client.send(trailers(client, 5, "late", HEADERS))
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM
    client = Client().begin()
    for stream_id in (1, 3, 5):
        client.call(stream_id, None)
        client.streams[-1].reset(Reason.CANCEL)
    client.send(trailers(client, 1, "late"))
    assert client.ended_with() is Reason.STREAM_CLOSED


async def test_streams_beyond_the_bound_are_refused_so_that_clients_try_them_again(client: Client) -> None:
    for stream_id in range(1, 15, 2):
        client.call(stream_id, None)
    assert client.resets() == [Reason.REFUSED_STREAM] * 2
    assert len(client.streams) == BOUNDS.streams_max


async def test_a_client_that_resets_without_end_is_ended(client: Client) -> None:
    for number in range(RESETS.at_once + 1):
        client.call(1 + 2 * number, None)
        client.send(frame(Kind.RST_STREAM, 0, 1 + 2 * number, bytes(4)))
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_streams_that_lived_for_a_while_may_all_be_reset(client: Client) -> None:
    """A proxy has the calls of all its clients on one connection, and many of them give up when it is slow.

    Some after 300 ms. What is reset at once, so that it costs nothing to begin thousands, is another thing.
    """
    assert streams.QUICK_SECONDS <= 0.1
    for number in range(2 * RESETS.at_once):
        client.call(1 + 2 * number, None)
        client.streams[-1].began_at -= streams.QUICK_SECONDS
        client.send(frame(Kind.RST_STREAM, 0, 1 + 2 * number, bytes(4)))
    assert client.transport.is_open


@pytest.mark.parametrize(
    "empty",
    [
        frame(Kind.PING, 0, 0, bytes(8)),
        frames.settings({}),
        frame(Kind.PRIORITY, 0, 9, bytes(5)),
        frames.window_update(0, 1),
        frames.window_update(1, 100_000),
        frames.window_update(3, 100_000),
        frame(cast("Kind", 99), 0, 0),
        frame(Kind.DATA, 0, 1),
        frame(Kind.DATA, 0, 1, b"x"),
        frame(Kind.DATA, frames.PADDED, 1, b"\xff" + bytes(255)),
        frame(Kind.DATA, 0, 3, bytes(100)),
        frame(Kind.RST_STREAM, 0, 3, bytes(4)),
        frame(Kind.GOAWAY, 0, 0, bytes(8)),
    ],
    ids=[
        "pings",
        "settings",
        "priorities",
        "small windows",
        "windows that nothing waits for",
        "windows of what has ended",
        "unknown",
        "empty data",
        "crumbs",
        "padding",
        "data of what has ended",
        "resets of what has ended",
        "goaways",
    ],
)
async def test_frames_that_bring_nothing_end_the_connection_when_there_are_too_many(
    client: Client, empty: bytes
) -> None:
    client.call(1, None)
    client.call(3, None)
    client.streams[1].reset(Reason.CANCEL)
    client.got()
    client.send(empty * (EMPTY_FRAMES.at_once - 10))
    assert client.transport.is_open
    client.send(empty * 20)
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_whoever_is_sent_much_may_answer_with_as_many_pings_and_windows() -> None:
    client = Client().begin(INITIAL_WINDOW_SIZE=1_000_000)
    client.call(1)
    for _ in range(3 * EMPTY_FRAMES.at_once):
        await client.streams[0].send(b"x")
        client.send(frame(Kind.PING, 0, 0, bytes(8)) + frames.window_update(1, 1))
    assert client.transport.is_open


async def test_a_client_that_takes_an_answer_in_crumbs_is_ended() -> None:
    """A window of a byte makes a frame of data, and was paid with the next four."""
    client = Client(answering(b"x" * 1000)).begin(INITIAL_WINDOW_SIZE=0)
    client.call(1)
    for _ in range(EMPTY_FRAMES.at_once + 10):
        client.send(frames.window_update(1, 1))
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_an_answer_of_which_a_byte_is_taken_now_and_then_is_ended() -> None:
    client = Client(answering(b"x" * 100_000)).begin(INITIAL_WINDOW_SIZE=0)
    client.call(1)
    now = asyncio.get_running_loop().time()
    for increment, resets in ((20_000, []), (100, [Reason.CANCEL])):
        client.streams[0].taken_at = now - lifetime.UNTAKEN_SECONDS_MAX - 1
        client.send(frames.window_update(1, increment))
        client.connection.look(now)
        assert client.resets() == resets


async def test_what_ends_a_stream_from_here_counts_as_a_reset_of_the_client() -> None:
    """Made you reset (CVE-2025-8671): the client resets nothing itself."""
    too_much = frames.window_update(1, frames.WINDOW_BYTES_MAX)
    for bad in (frame(Kind.DATA, 0, 1, bytes(100)), too_much):
        client = Client().begin()
        for stream_id in range(1, 2 * RESETS.at_once + 2, 2):
            client.call(stream_id, None if bad is too_much else b"")
            client.send(bad[:5] + stream_id.to_bytes(4, "big") + bad[9:])
        assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_settings_that_change_the_windows_of_many_streams_count_as_several(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_OF_A_CHANGE", 1)
    for stream_id in (1, 3, 5, 7, 9):
        client.call(stream_id, None)
    for window in range(EMPTY_FRAMES.at_once // 2):
        client.send(frames.settings({Setting.INITIAL_WINDOW_SIZE: window}))
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_a_header_block_has_a_bound_in_bytes_and_in_frames(client: Client) -> None:
    client.send(frame(Kind.HEADERS, 0, 1, b"\x82"))
    for _ in range(BLOCK_BYTES_MAX // 10_000 + 1):
        client.send(frame(Kind.CONTINUATION, 0, 1, b"\x82" * 10_000))
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_a_header_list_that_grows_as_it_is_read_ends_the_connection(client: Client) -> None:
    large = client.head([*HEAD, ("x-large", "x" * 3000)])
    client.send(frame(Kind.HEADERS, HEADERS, 1, large))
    client.send(frame(Kind.HEADERS, HEADERS, 3, b"\xbe" * 100))  # the newest field of the table, a hundred times
    assert client.ended_with() is Reason.COMPRESSION_ERROR


async def test_a_number_in_a_header_block_has_an_end(client: Client) -> None:
    """It took hpack a time that grew with the square of its length."""
    frames_of_it = [frame(Kind.CONTINUATION, 0, 1, b"\xff" * 10_000)] * (BLOCK_BYTES_MAX // 10_000 - 1)
    client.send(frame(Kind.HEADERS, 0, 1, b"\x00\x7f") + b"".join(frames_of_it))
    began = time.process_time()
    client.send(frame(Kind.CONTINUATION, HEADERS, 1))
    assert client.ended_with() is Reason.COMPRESSION_ERROR
    assert time.process_time() - began < 0.1


async def test_the_same_block_means_something_else_when_the_table_has_changed(client: Client) -> None:
    first, same = client.head([*HEAD, ("x-a", "1")]), client.head([*HEAD, ("x-a", "1")])
    for stream_id, block in ((1, first), (3, same), (5, same)):
        client.send(frame(Kind.HEADERS, HEADERS | LAST, stream_id, block))
    assert [dict(stream.head.fields)[b"x-a"] for stream in client.streams] == [b"1"] * 3
    for stream in client.streams:
        stream.reset(Reason.CANCEL)
    client.send(frame(Kind.HEADERS, HEADERS | LAST, 7, client.head([*HEAD, ("x-b", "2")])))
    client.send(frame(Kind.HEADERS, HEADERS | LAST, 9, same))
    assert dict(client.streams[-1].head.fields) != dict(client.streams[0].head.fields)


async def test_many_frames_are_looked_at_in_several_turns_of_the_loop(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FRAMES_AT_ONCE", 10)
    client.send(frame(Kind.PING, 0, 0, bytes(8)) * (3 * connection.FRAMES_AT_ONCE))
    assert len(client.got()) == connection.FRAMES_AT_ONCE
    await asyncio.sleep(0)
    assert len(client.got()) == connection.FRAMES_AT_ONCE
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(client.got()) == connection.FRAMES_AT_ONCE


async def test_header_blocks_are_looked_at_for_a_bounded_time_in_one_turn_of_the_loop(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_scheduling, "TURN_SECONDS", 0.0)
    block = client.head()
    client.send(b"".join(frame(Kind.HEADERS, HEADERS, stream_id, block) for stream_id in (1, 3)))
    counts = [len(client.streams)]
    while counts[-1] < 2:
        await asyncio.sleep(0)
        counts.append(len(client.streams))
    assert counts[0] < 2
    assert max(after - before for before, after in pairwise(counts)) == 1


async def test_answers_to_pings_that_nobody_takes_end_the_connection(client: Client) -> None:
    client.connection.pause_writing()
    client.transport.waiting_bytes = sending.CONTROL_BYTES_MAX + 1
    client.send(frame(Kind.PING, 0, 0, bytes(8)))
    assert not client.transport.is_open


async def test_a_client_that_takes_nothing_holds_its_answer_and_no_more_is_written() -> None:
    client = Client(answering(b"answer")).begin()
    client.connection.pause_writing()
    client.call(1)
    assert client.data() == b""
    client.connection.resume_writing()
    assert client.data() == b"answer"


async def test_an_answer_of_which_nothing_is_taken_is_ended() -> None:
    client = Client(answering(b"x" * 20)).begin(INITIAL_WINDOW_SIZE=10)
    client.call(1)
    client.got()
    begun = asyncio.get_running_loop().time()
    client.connection.look(begun + lifetime.UNTAKEN_SECONDS_MAX - 1)
    assert client.resets() == []
    client.connection.look(begun + lifetime.UNTAKEN_SECONDS_MAX + 1)
    assert client.resets() == [Reason.CANCEL]
    assert client.transport.is_open


async def test_a_connection_is_drained_without_losing_a_stream(client: Client) -> None:
    client.connection.drain()
    [leave, asked] = client.got()
    assert leave[0] == Kind.GOAWAY
    assert int.from_bytes(leave[3][:4], "big") == frames.STREAM_ID_MAX
    client.call(1)  # it was on its way
    assert len(client.streams) == 1
    client.send(frame(Kind.PING, frames.ACK, 0, asked[3]))
    [last] = client.got()
    assert int.from_bytes(last[3][:4], "big") == 1
    client.call(3, None)
    assert client.resets() == [Reason.REFUSED_STREAM]
    answering(b"")(client.streams[0])
    while client.transport.is_open:  # the client has a moment to close first
        await asyncio.sleep(0)


async def test_a_connection_that_ends_takes_what_still_comes_until_its_client_has_left(client: Client) -> None:
    """A socket that is closed under bytes that come resets, and proxies then lose answers that they have not read."""
    client.call(1)
    answering(b"answer")(client.streams[0])
    client.connection.close(Reason.NO_ERROR)
    assert (client.transport.is_writable, client.transport.is_open) == (False, True)
    client.send(frame(Kind.PING, 0, 0, bytes(8)))
    assert [kind for kind, *_ in client.got()][-1] == Kind.GOAWAY, "nothing is answered any more"
    while client.transport.is_open:
        await asyncio.sleep(0)


async def test_calls_on_a_connection_that_is_too_old_end_with_a_status_that_says_call_again() -> None:
    """Of a stream that breaks off proxies make INTERNAL, which no client tries again."""
    client = Client().begin()
    client.call(1)
    client.call(3)
    client.streams[0].on_leave(lambda: answering(b"")(client.streams[0]))
    now = asyncio.get_running_loop().time()
    client.connection.drain()
    client.connection.look(now + lifetime.AGE_GRACE_SECONDS - 1)
    assert all(stream.is_open for stream in client.streams)
    client.got()
    client.connection.look(now + lifetime.AGE_GRACE_SECONDS + 1)
    got = [(kind, stream_id) for kind, flags, stream_id, _ in client.got() if kind == Kind.RST_STREAM or flags & LAST]
    assert got == [(Kind.HEADERS, 1), (Kind.RST_STREAM, 3)]
    while client.transport.is_open:
        await asyncio.sleep(0)


async def test_silent_idle_and_old_connections_end_and_others_stay(client: Client) -> None:
    now = asyncio.get_running_loop().time()
    client.connection.look(now + lifetime.SILENT_SECONDS_MAX + 1)
    [ping] = client.got()
    assert ping[0] == Kind.PING
    client.connection.look(now + lifetime.SILENT_SECONDS_MAX + lifetime.PING_SECONDS_MAX + 2)
    assert not client.transport.is_open

    idle = Client().begin()
    idle.connection.look(now + BOUNDS.idle_seconds_max - 1)
    assert Kind.GOAWAY not in [kind for kind, *_ in idle.got()]
    idle.send(frame(Kind.PING, frames.ACK, 0, bytes(8)))
    idle.connection.look(now + BOUNDS.idle_seconds_max + 1)
    assert Kind.GOAWAY in [kind for kind, *_ in idle.got()]

    unused = Client()
    unused.connection.look(now + lifetime.SETTINGS_SECONDS_MAX + 1)
    assert not unused.transport.is_open


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (frame(Kind.HEADERS, 0, 1, b"\x82"), frame(Kind.CONTINUATION, 0, 1, b"\x84")),
        (frame(Kind.PING, 0, 0, bytes(8))[:4], b"\0"),
    ],
    ids=["a header block", "a frame"],
)
async def test_whoever_trickles_what_has_to_come_whole_is_silent(
    client: Client, monkeypatch: pytest.MonkeyPatch, begun: bytes, more: bytes
) -> None:
    begun_at = now = asyncio.get_running_loop().time()
    monkeypatch.setattr(client.connection, "_loop", SimpleNamespace(time=lambda: now))
    client.send(begun)
    while client.transport.is_open and now < begun_at + 5 * lifetime.SILENT_SECONDS_MAX:
        now += 5
        client.send(more)
        client.connection.look(now)
    assert now == pytest.approx(begun_at + lifetime.SILENT_SECONDS_MAX + lifetime.PING_SECONDS_MAX, abs=10)


@pytest.mark.parametrize(
    "fields",
    [
        HEAD[1:],
        [*HEAD, (":path", "/b")],
        [*HEAD, (":odd", "1")],
        [*HEAD, ("Upper", "1")],
        [*HEAD, ("connection", "close")],
        [*HEAD, ("te", "gzip")],
        [*HEAD, ("a", "b\r\nc")],
        [(":method", "POST"), (":scheme", "http"), (":path", "")],
    ],
    ids=["no method", "behind others", "unknown", "upper case", "of HTTP/1", "te", "line break", "no path"],
)
async def test_a_malformed_request_is_reset_and_the_connection_goes_on(
    client: Client, fields: Sequence[tuple[str, str]]
) -> None:
    client.call(1, None, fields)
    assert client.resets() == [Reason.PROTOCOL_ERROR]
    client.call(3)
    assert len(client.streams) == 1


async def test_a_head_that_was_kept_is_forgotten_when_a_malformed_one_changes_the_table(client: Client) -> None:
    """Behind a proxy the next caller's block may have the same bytes, which mean another token by then."""
    mine = [*HEAD, ("authorization", "Bearer mine")]
    client.head(mine)
    first, again = client.head(mine), client.head(mine)
    client2 = Client().begin()
    client2.send(frame(Kind.HEADERS, HEADERS | LAST, 1, Encoder().encode(mine)))
    client2.send(frame(Kind.HEADERS, HEADERS | LAST, 3, first))
    other = Encoder()
    other.encode(mine)
    malformed = other.encode([*HEAD, ("authorization", "Bearer other"), ("te", "x")])
    client2.send(frame(Kind.HEADERS, HEADERS | LAST, 5, malformed))
    client2.send(frame(Kind.HEADERS, HEADERS | LAST, 7, again))
    heads = [dict(stream.head.fields).get(b"authorization") for stream in client2.streams]
    assert heads[:2] == [b"Bearer mine"] * 2
    assert heads[2:] != [b"Bearer mine"]


async def test_the_size_of_the_table_changes_at_most_twice_in_a_block(client: Client) -> None:
    client.send(frame(Kind.HEADERS, HEADERS, 1, b"\x3f\xe1\x0f\x20" + client.head()))
    client.send(frame(Kind.HEADERS, HEADERS, 3, b"\x20" * 3))
    assert len(client.streams) == 1
    assert client.ended_with() is Reason.COMPRESSION_ERROR


async def test_a_client_that_wants_a_smaller_table_is_told_once_that_none_is_used(client: Client) -> None:
    """Some end the connection if the next header block does not begin with it (RFC 7541, section 4.2)."""
    client.send(frames.settings({Setting.HEADER_TABLE_SIZE: 0}))
    client.got()
    for stream_id, prefix in ((1, sending.SIZE_UPDATE), (3, b"")):
        client.call(stream_id)
        answering(b"x")(client.streams[-1])
        blocks = [payload for kind, _, _, payload in client.got() if kind == Kind.HEADERS]
        assert blocks == [prefix + b"\x88", written([(b"grpc-status", b"0")])]


async def test_who_waits_for_the_window_of_the_connection_holds_up_no_status() -> None:
    client = Client().begin(INITIAL_WINDOW_SIZE=1_000_000)
    client.call(1)
    client.call(3)
    client.connection.pause_writing()
    answering(b"x" * 100_000)(client.streams[0])
    answering(b"")(client.streams[1])
    client.connection.resume_writing()
    assert [stream_id for kind, _, stream_id, _ in client.got() if kind == Kind.HEADERS][-1] == 3
    assert client.connection.sending.window == 0


async def test_an_answer_whose_turn_has_not_come_is_not_ended_while_others_are_taken() -> None:
    client = Client().begin(INITIAL_WINDOW_SIZE=1_000_000)
    client.call(1)
    client.call(3)
    answering(b"x" * 500_000)(client.streams[0])
    answering(b"x" * 500_000)(client.streams[1])
    now = asyncio.get_running_loop().time()
    client.connection.sending.sent_at = now + lifetime.UNTAKEN_SECONDS_MAX
    client.connection.look(now + lifetime.UNTAKEN_SECONDS_MAX + 1)
    assert client.resets() == []
    client.connection.sending.sent_at = now
    client.connection.look(now + lifetime.UNTAKEN_SECONDS_MAX + 1)
    assert client.resets() == [Reason.CANCEL] * 2


async def test_the_settings_are_the_first_frame_also_of_a_connection_that_is_drained_before_it_has_begun() -> None:
    client = Client()
    client.connection.drain()
    assert [kind for kind, *_ in client.got()] == [Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.GOAWAY, Kind.PING]
    client.send(frames.PREFACE + frames.settings({}))
    assert [kind for kind, *_ in client.got()] == [Kind.SETTINGS]


async def test_the_number_of_the_last_stream_never_grows(client: Client) -> None:
    client.connection.drain()
    [_, asked] = client.got()
    client.call(1)
    client.send(frame(Kind.PING, frames.ACK, 0, asked[3]))
    client.call(3, None)
    client.connection.close(Reason.NO_ERROR)
    numbers = [int.from_bytes(payload[:4], "big") for kind, _, _, payload in client.got() if kind == Kind.GOAWAY]
    assert numbers == [1, 1]


async def test_settings_have_a_bound(client: Client) -> None:
    client.send(frame(Kind.SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x01" * (frames.SETTINGS_MAX + 1)))
    assert client.ended_with() is Reason.ENHANCE_YOUR_CALM


async def test_connections_share_the_time_for_frames_in_a_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_scheduling, "TURN_SECONDS", 0.0)
    clients, shared = [Client() for _ in range(4)], Reading()
    for client in clients:
        client.connection._reading = shared  # pyright: ignore[reportPrivateUsage]
        client.connection.data_received(frames.PREFACE + frames.settings({}))
    answered = [bool(client.transport.sent.count(frame(Kind.SETTINGS, frames.ACK, 0))) for client in clients]
    assert sum(answered) <= 1
    for _ in range(20):
        await asyncio.sleep(0)
    assert all(client.transport.sent.count(frame(Kind.SETTINGS, frames.ACK, 0)) for client in clients)


async def test_what_is_not_http2_is_ended() -> None:
    client = Client()
    client.send(b"\0\0\0")
    assert client.ended_with() is Reason.PROTOCOL_ERROR


async def test_http1_gets_an_answer_that_says_what_the_port_speaks_and_the_log_a_line() -> None:
    client = Client()
    with capture_logs() as logs:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    status, _, words = client.transport.sent.partition(b"\r\n")
    assert status == b"HTTP/1.1 505 HTTP Version Not Supported"
    assert words.endswith(
        b"\r\n\r\nThis port speaks gRPC, which is HTTP/2. HTTP/1.1 is served at WEBHOOK_HTTP_ADDRESS.\n"
    )
    assert not client.transport.is_writable
    [line] = [entry for entry in logs if entry["log_level"] == "info"]
    assert line["event"] == "HTTP/1 came to the gRPC port"


async def test_tls_at_a_port_in_plain_text_gets_a_line_in_the_log() -> None:
    client = Client()
    with capture_logs() as logs:
        client.send(b"\x16\x03\x01\x02\x00\x01")
    assert client.ended_with() is Reason.PROTOCOL_ERROR
    [line] = [entry for entry in logs if entry["log_level"] == "info"]
    assert line["event"] == "TLS came to the gRPC port, which speaks plain text"
    assert "WEBHOOK_TLS_CERTIFICATE_FILE" in line["remedy"]


def test_misdirected_of_a_kind_get_one_line_in_a_while_with_how_many_there_were() -> None:
    misdirected = Misdirected()
    with capture_logs() as logs:
        for now in (0.0, 1.0, 2.0, LINE_SECONDS_MIN):
            misdirected.note("a kind", "127.0.0.1", "nothing", now)
        misdirected.note("another kind", "127.0.0.1", "nothing", 1.0)
    assert [entry["others_since_the_last_line"] for entry in logs] == [0, 2, 0]


@hypothesis_settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_it_does_not_matter_where_bytes_are_cut(data: st.DataObject) -> None:
    async def tried() -> None:
        whole, cut = Client(answering(b"answer")), Client(answering(b"answer"))
        sent = frames.PREFACE + frames.settings({}) + frame(Kind.PING, 0, 0, bytes(8))
        sent += frame(Kind.HEADERS, HEADERS, 1, whole.head()) + frame(Kind.DATA, LAST, 1, b"request")
        sent += frame(Kind.HEADERS, 0, 3, whole.head()[:2]) + frame(Kind.CONTINUATION, HEADERS, 3, whole.head()[2:])
        whole.send(sent)
        while sent:
            size = data.draw(st.integers(1, len(sent)))
            cut.send(sent[:size])
            sent = sent[size:]
        assert whole.got() == cut.got()
        assert [stream.head for stream in whole.streams] == [stream.head for stream in cut.streams]

    asyncio.run(tried())


def any_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return frame(cast("Kind", kind), flags, stream_id, payload)


PAYLOADS: Final = st.one_of(st.binary(max_size=40), st.sampled_from([bytes(4), bytes(8), b"\x83\x86\x84\x41\x01a"]))
FRAMES: Final = st.builds(any_frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 8), PAYLOADS)


@hypothesis_settings(max_examples=100, deadline=None)
@given(sent=st.lists(FRAMES, max_size=30), junk=st.binary(max_size=50))
def test_whatever_is_sent_nothing_raises_and_nothing_is_kept(sent: list[bytes], junk: bytes) -> None:
    async def tried() -> None:
        client = Client()
        client.send(frames.PREFACE + frames.settings({}) + b"".join(sent) + junk)
        await asyncio.sleep(0)
        assert client.connection.stream_count <= BOUNDS.streams_max
        assert all(not stream.is_open for stream in client.streams) or client.transport.is_open
        client.connection.connection_lost(None)
        assert client.kept.size_bytes == 0
        assert not any(stream.is_open for stream in client.streams)

    asyncio.run(tried())
