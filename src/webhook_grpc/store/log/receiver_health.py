"""How a receiver is treated, for people to see: what its owner last saved in `webhook_health`, as times."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.pace import ReceiverHealth

# Of a row `h` of webhook_health that may be missing, in the order of `receiver_health`.
HEALTH_COLUMNS: Final = "h.breaker, h.probe_at, h.failing_since, h.hold_until, h.throttled_until"


def receiver_health(
    breaker: str | None,
    probe_at: datetime | None,
    failing_since: datetime | None,
    hold_until: datetime | None,
    throttled_until: datetime | None,
) -> ReceiverHealth:
    """Returns what the HEALTH_COLUMNS of a row say. A webhook without a row (`breaker` None) is healthy."""
    if breaker is None:
        return ReceiverHealth()
    return ReceiverHealth(
        breaker=BreakerState(breaker),
        probe_time=probe_at,
        failing_since=failing_since,
        hold_until=hold_until,
        throttled_until=throttled_until,
    )
