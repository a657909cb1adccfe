"""I1: what was acknowledged is neither lost nor made twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .history import ENDINGS, Delivery, History, Publish
from .switches import matched
from .violation import Violation


def nothing_is_lost(history: History) -> Iterator[Violation]:
    """I1: an acknowledged event ends for every webhook that it matched, or is pending; never both.

    And the answer counted those webhooks. What is gone from the database was acknowledged while it could be forgotten.
    """
    for publish in history.publishes:
        if publish.event_id in history.gone and not _may_be_forgotten(history, publish):
            yield Violation("I1", f"{publish.event_id} was acknowledged before the database was copied, and is gone")
    pending = {(row.webhook_id, row.event_id) for row in history.pending}
    lost = sorted(unfinished(history) - pending)
    if lost:
        yield Violation("I1", f"acknowledged, but no ending: {_some(lost)}", len(lost))
    ended = {delivery for delivery, rows in history.rows_by_delivery().items() if rows[-1].status in ENDINGS}
    if both := sorted(ended & pending):
        yield Violation("I1", f"ended, and still pending: {_some(both)}", len(both))
    if len(pending) < len(history.pending):
        yield Violation("I1", "a delivery is pending twice")
    for publish in history.publishes:
        if publish.event_id is None or publish.duplicate:
            continue
        surely, perhaps = matched(history, publish)
        if not len(surely) <= publish.delivery_count <= len(surely | perhaps):
            yield Violation("I1", f"{publish.event_id} was said to go to {publish.delivery_count} webhooks")
        if history.matched is not None and publish.event_id not in history.matched:
            yield Violation("I1", f"{publish.event_id} was acknowledged, and is not stored")


def acknowledged_deliveries(history: History) -> set[Delivery]:
    """Those of acknowledged events; if it is known what is stored, those of all events."""
    if history.matched is not None:
        return {(webhook_id, event_id) for event_id, ids in history.matched.items() for webhook_id in ids}
    return {
        (webhook_id, publish.event_id)
        for publish in history.publishes
        if publish.event_id is not None and publish.event_id not in history.gone
        for webhook_id in matched(history, publish)[0]
    }


def unfinished(history: History) -> set[Delivery]:
    """Those that never ended."""
    ended = {row.delivery for row in history.log if row.status in ENDINGS}
    return acknowledged_deliveries(history) - ended


def _may_be_forgotten(history: History, publish: Publish) -> bool:
    return any(
        fault.may_forget and fault.started_at <= publish.answered_at and publish.asked_at <= fault.ended_at
        for fault in history.faults
    )


def _some(deliveries: Sequence[Delivery]) -> str:
    names = ", ".join(f"{event_id} to webhook {webhook_id}" for webhook_id, event_id in deliveries[:3])
    return names + (f" and {len(deliveries) - 3} more" if len(deliveries) > 3 else "")
