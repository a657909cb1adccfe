"""Which statements of a loop are planned each time, and which use a plan that is kept: for a second at most.

Planning one of our statements takes Postgres longer than running it for an event or two. A plan that is kept is not
made for the parameters, nor for what the tables are now, so only statements that stay linear under any plan
(docs/decisions/0019-plans.md) may use one, and only for small batches.
"""

from __future__ import annotations

from typing import Final, LiteralString

KEPT_SECONDS_MAX: Final = 1.0
SMALL: Final = 100  # items in a batch: planning costs more than running it

KEEP: Final = "SET plan_cache_mode = force_generic_plan; DISCARD PLANS"
RENEW: Final = "DISCARD PLANS"
PLAN_EACH_TIME: Final = "SET plan_cache_mode = force_custom_plan"


class Plans:
    """What one session does about plans. A new session plans each time."""

    def __init__(self) -> None:
        self._keeps = False
        self._since = float("-inf")  # monotonic: of the oldest plan that is kept, or of when the last ones were left

    def before(self, now: float, *, keeps_plan: bool) -> LiteralString | None:
        """Returns what has to be run before a statement, None for nothing. `now`: monotonic seconds.

        A session that has just run a statement with a plan of its own goes on so for a second: to change takes a
        round trip.
        """
        if keeps_plan == self._keeps and not (keeps_plan and now - self._since >= KEPT_SECONDS_MAX):
            return None
        if keeps_plan and not self._keeps and now - self._since < KEPT_SECONDS_MAX:
            return None
        first = RENEW if self._keeps and keeps_plan else KEEP if keeps_plan else PLAN_EACH_TIME
        self._keeps, self._since = keeps_plan, now
        return first
