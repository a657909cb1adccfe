"""Clients that speak something else than the port does: who sets up a proxy finds why in the log.

Anybody can connect and say anything, so each kind gets one line in a while, with how many there were.
"""

from __future__ import annotations

from typing import Final

import structlog

LINE_SECONDS_MIN: Final = 60.0  # between two lines about the same kind

log = structlog.get_logger("webhook_grpc.connections")


class Misdirected:
    """What the log has said about such clients."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[float, int]] = {}  # by kind: when the last line came, and how many since

    def note(self, kind: str, address: str, remedy: str, now: float) -> None:
        """Says in the log that such a client has come, and what to change, unless that was said lately.

        `kind` is one of a few texts. `now` is in monotonic seconds.
        """
        said_at, count = self._lines.get(kind, (-LINE_SECONDS_MIN, 0))
        if now - said_at < LINE_SECONDS_MIN:
            self._lines[kind] = said_at, count + 1
            return
        self._lines[kind] = now, 0
        log.info(kind, address=address, remedy=remedy, others_since_the_last_line=count)
