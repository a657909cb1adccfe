"""Bounds of what costs work and brings nothing: how much of it a connection may send. It comes back with time."""

from __future__ import annotations

from typing import Final

from webhook_grpc.domain.record import record

from .frames import ConnectionEnds, Reason


@record
class BudgetLimits:
    """So many at once, and so many more in each second."""

    at_once: int
    each_second: int


# Streams that the client resets: a client whose calls have short deadlines resets some (CVE-2023-44487).
RESETS: Final = BudgetLimits(at_once=1000, each_second=200)
# Frames that only need an answer, or bring nothing: pings, settings, empty data, windows, what comes too late.
# (A client of Go sends a ping with each read of data, to learn how far away the server is: see `allow_answers`.)
EMPTY_FRAMES: Final = BudgetLimits(at_once=10_000, each_second=1000)
SMALL_DATA_BYTES: Final = 64  # data of less brings nothing, but the last
ANSWERED_BY: Final = 4  # frames that bring nothing, which a client may send for each call and each frame of data


class Budget:
    """What is left of one kind. `now` is in monotonic seconds."""

    __slots__ = ("_at", "_left", "_limits")

    def __init__(self, limits: BudgetLimits, now: float) -> None:
        self._limits = limits
        self._left = float(limits.at_once)
        self._at = now

    def give(self, count: int) -> None:
        """Gives some back: for what the client may answer, and for calls that end as they should."""
        self._left = min(self._limits.at_once, self._left + count)

    def take(self, now: float) -> bool:
        """Takes one. Returns whether there was one."""
        if self._left < 1:
            self._left = min(self._limits.at_once, self._left + (now - self._at) * self._limits.each_second)
            self._at = now
            if self._left < 1:
                return False
        self._left -= 1
        return True


class Budgets:
    """What is left for one connection. Whoever goes beyond is ended."""

    __slots__ = ("_empty", "_resets")

    def __init__(self, now: float) -> None:
        self._resets = Budget(RESETS, now)
        self._empty = Budget(EMPTY_FRAMES, now)

    def count_reset(self, now: float) -> None:
        """Counts a stream that ended because of what the client did. Raises ConnectionEnds."""
        if not self._resets.take(now):
            raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "too many streams were reset")

    def count_empty(self, now: float) -> None:
        """Counts a frame that brings nothing. Raises ConnectionEnds."""
        if not self._empty.take(now):
            raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def allow_answers(self) -> None:
        """Allows what a client may send for a call that it begins, and for data that it gets."""
        self._empty.give(ANSWERED_BY)

    def allow_reset(self) -> None:
        """Allows one reset more: who has calls that end as they should may reset some."""
        self._resets.give(1)
