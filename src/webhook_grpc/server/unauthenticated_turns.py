"""Answers that need no known caller (pages, refusals, probes): they take turns of the loop, addresses in turn.

A page, a refused call and a probe take as much of the loop as a call does, count for no customer and have no rate. So
one answer is given in a turn of the loop, and an address that had another answer lately gets only one turn in SPACING:
a flood of one address delays only that address, not other calls. Behind a proxy all have one address, and
take its turns together: 1/SPACING.seconds_max a second, and less while other addresses are crowds, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from webhook_grpc.domain.crowds import Spacing
from webhook_grpc.hub.turns import LoopTurns

SPACING: Final = Spacing(turns=4, seconds_max=0.005)
WAITING_MAX: Final = 2000  # who comes beyond that is answered at once: to wait takes memory
WAIT_SECONDS_MAX: Final = 2.0  # clients have deadlines, and have to learn that their token has expired


class Strangers:
    """Those who wait for their answers."""

    def __init__(self) -> None:
        self._turns = LoopTurns(SPACING)
        self._waiting_count = 0

    async def wait(self, whose: Hashable) -> None:
        """Returns when it is the turn of `whose`: an address, or another key that those in one line share."""
        if self._waiting_count >= WAITING_MAX:
            return
        self._waiting_count += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await self._turns.wait(whose)
        except TimeoutError:
            return
        finally:
            self._waiting_count -= 1
