"""I8: what becomes of the deliveries that were pending when their webhook was switched off."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.invariants.history import History
from tests.invariants.switches import by_webhook, periods
from tests.invariants.violation import Violation


def ends_soon(history: History) -> Iterator[Violation]:
    """What was pending for a webhook that was deleted or disabled ends as cancelled.

    What was in flight then may still end in another way, for as long as a request may take.
    """
    switches_of = by_webhook(history)
    for row in history.log:
        if row.status == "cancelled":
            continue
        for switch, following in periods(switches_of[row.webhook_id]):
            until = math.inf if following is None else following.asked_at
            since = switch.answered_at + history.slowness * history.reaction_seconds + history.attempt_seconds_max
            if switch.ends and since < row.created_at < until:
                name = f"{row.event_id} to webhook {row.webhook_id}"
                yield Violation("I8", f"{name} became {row.status} long after its webhook was {switch.kind}")
