"""How much each token and each customer may take: values that the settings give, and when a share leaves enough."""

from __future__ import annotations

from .record import record


@record
class ShareLimits:
    """How many calls of one kind may be in progress: in a process, of one token, of one customer (`leaves_enough`)."""

    process_max: int
    token_max: int
    customer_max: int


@record
class RateLimits:
    """How many calls, or events, a second: of one token and of one customer. 0: no limit."""

    token_per_second: float
    customer_per_second: float


def leaves_enough(taken: int, each_max: int, all_taken: int, all_max: int) -> bool:
    """Returns whether one who has `taken` places may have another one, which `all_taken` counts already.

    Alone one may have `each_max`. The more others have, the fewer: what one has stays in the proportion to what is free
    that it has then. So with a half for each, nobody has more than are free, and n customers leave a share of 1/(n+1);
    who has none gets a place as long as there is one.
    """
    if not taken or each_max >= all_max:
        return taken < each_max
    free = all_max - all_taken
    return taken < each_max and (taken + 1) * (all_max - each_max) <= each_max * free
