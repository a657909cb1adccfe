"""Frames of HTTP/2: their numbers, how they are written, and what their payloads say (RFC 9113, sections 4, 6, 7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
FRAME_BYTES_MAX: Final = 16_384  # of a frame's payload: what everybody takes without being asked, and what we take
WINDOW_BYTES: Final = 65_535  # of a stream and of a connection, at their begin
WINDOW_BYTES_MAX: Final = 2**31 - 1
STREAM_ID_MAX: Final = 2**31 - 1
SETTINGS_MAX: Final = 32  # in one frame


class Kind(IntEnum):
    """The kinds of frames. Others are ignored (section 5.5)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20


class Setting(IntEnum):
    """The settings that matter to a server."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Reason(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionEnds(Exception):
    """The other side did what ends the whole connection."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class StreamEnds(Exception):
    """The other side did what ends one stream. The connection goes on."""

    def __init__(self, reason: Reason, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


def frame(kind: Kind, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Returns a frame as it is sent."""
    return b"%b%b%b%b" % (
        len(payload).to_bytes(3, "big"),
        bytes((kind, flags)),
        stream_id.to_bytes(4, "big"),
        payload,
    )


def settings(values: dict[Setting, int]) -> bytes:
    """Returns the frame that announces settings."""
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    return frame(Kind.SETTINGS, 0, 0, payload)


def window_update(stream_id: int, increment: int) -> bytes:
    """Returns the frame that lets the other side send so many bytes more; stream 0 is the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def reset(stream_id: int, reason: Reason) -> bytes:
    """Returns the frame that ends a stream."""
    return frame(Kind.RST_STREAM, 0, stream_id, reason.to_bytes(4, "big"))


def goaway(last_id: int, reason: Reason, problem: str = "") -> bytes:
    """Returns the frame that ends a connection: streams after the last one were not looked at."""
    payload = last_id.to_bytes(4, "big") + reason.to_bytes(4, "big") + problem.encode("ascii", "replace")
    return frame(Kind.GOAWAY, 0, 0, payload)


def header_frames(stream_id: int, block: bytes, *, is_last: bool) -> bytes:
    """Returns the frames of a header block."""
    end = END_STREAM if is_last else 0
    if len(block) <= FRAME_BYTES_MAX:
        return frame(Kind.HEADERS, END_HEADERS | end, stream_id, block)
    parts = [block[start : start + FRAME_BYTES_MAX] for start in range(0, len(block), FRAME_BYTES_MAX)]
    middle = [frame(Kind.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    last = frame(Kind.CONTINUATION, END_HEADERS, stream_id, parts[-1])
    return b"".join([frame(Kind.HEADERS, end, stream_id, parts[0]), *middle, last])


def unpadded(flags: int, payload: bytes) -> bytes:
    """Returns the payload of a frame without its padding. Raises ConnectionEnds."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def check_size(payload: bytes, size: int) -> None:
    """Raises ConnectionEnds for a payload of another size."""
    if len(payload) != size:
        raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "a frame has a wrong size")


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Returns the settings in a frame, in order: those that are not known, too. Raises ConnectionEnds."""
    if len(payload) % 6:
        raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "settings that are not whole")
    if len(payload) > 6 * SETTINGS_MAX:
        raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "too many settings in a frame")
    found = list[tuple[int, int]]()
    for at in range(0, len(payload), 6):
        key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
        _judge_setting(key, value)
        found.append((key, value))
    return found


def _judge_setting(key: int, value: int) -> None:
    """Raises ConnectionEnds for a value that a setting can't have (section 6.5.2)."""
    if key == Setting.ENABLE_PUSH and value > 1:
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
    if key == Setting.INITIAL_WINDOW_SIZE and value > WINDOW_BYTES_MAX:
        raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
    if key == Setting.MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 2**24:
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
