"""How much each token and each customer may take: values that the settings give."""

from __future__ import annotations

from .record import record


@record
class ShareLimits:
    """How many calls of one kind may be in progress: in a process, of one token and of one customer."""

    process_max: int
    token_max: int
    customer_max: int


@record
class RateLimits:
    """How many calls, or events, a second: of one token and of one customer. 0: no limit."""

    token_per_second: float
    customer_per_second: float
