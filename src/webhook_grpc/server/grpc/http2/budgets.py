"""How much of what costs work and brings nothing a connection may send: it comes back with time."""

from __future__ import annotations

from typing import Final

from webhook_grpc.domain.record import record


@record
class BudgetLimits:
    """So many at once, and so many more in each second."""

    at_once: int
    each_second: int


# Streams that the client resets: a client whose calls have short deadlines resets some (CVE-2023-44487).
RESETS: Final = BudgetLimits(at_once=1000, each_second=200)
# Frames that only need an answer, or bring nothing: pings, settings, empty data, windows, what comes too late.
# (A client of Go sends a ping with each read of data, to learn how far away the server is: see `give`.)
EMPTY_FRAMES: Final = BudgetLimits(at_once=10_000, each_second=1000)


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
