"""What has come on one connection and is not looked at yet, cut into frames."""

from __future__ import annotations

from .frames import FRAME_BYTES_MAX, HEAD_BYTES, PREFACE, STREAM_ID_MAX, ConnectionEnds, Reason

Frame = tuple[int, int, int, bytes]
"""Its kind, its flags, the number of its stream, and its payload."""


class NotHttp2(ConnectionEnds):
    """The client speaks something else. `coming`: what it has said."""

    def __init__(self, coming: bytes) -> None:
        super().__init__(Reason.PROTOCOL_ERROR, "this is not HTTP/2")
        self.coming = coming


class Incoming:
    """Bytes of a client, in the order in which they came."""

    __slots__ = ("_at", "_coming", "_has_preface")

    def __init__(self) -> None:
        self._coming = b""
        self._at = 0  # the first byte of the next frame
        self._has_preface = False

    def add(self, data: bytes) -> None:
        """Takes in what has come."""
        self._coming = self._coming + data if self._coming else data

    def has_begun(self) -> bool:
        """Returns whether the client has said that it speaks HTTP/2, which comes before all frames.

        Raises NotHttp2 if it does not.
        """
        if not self._has_preface:
            coming = self._coming
            if not coming.startswith(PREFACE[: len(coming)]):
                raise NotHttp2(coming)
            if len(coming) >= len(PREFACE):
                self._has_preface, self._at = True, len(PREFACE)
        return self._has_preface

    def next(self) -> Frame | None:
        """Returns the next frame, None if none has come whole. Raises ConnectionEnds for one that is too large."""
        coming, at = self._coming, self._at
        if len(coming) - at < HEAD_BYTES:
            return None
        size = int.from_bytes(coming[at : at + 3], "big")
        if size > FRAME_BYTES_MAX:
            raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "a frame is larger than allowed")
        begin = at + HEAD_BYTES
        end = begin + size
        if end > len(coming):
            return None
        self._at = end
        stream_id = int.from_bytes(coming[at + 5 : begin], "big") & STREAM_ID_MAX
        return coming[at + 3], coming[at + 4], stream_id, coming[begin:end]

    def drop_taken(self) -> None:
        """Drops the frames that were returned."""
        self._coming, self._at = self._coming[self._at :], 0

    def clear(self) -> None:
        """Drops everything: nothing is looked at any more."""
        self._coming, self._at = b"", 0
