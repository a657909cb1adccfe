"""A delivery that kills whoever sends it: it must end like any other, and alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.invariants.history import History
from tests.invariants.violation import Violation

LEASE_RAN_OUT: Final = "lease ran out"
"""What a process logs that lives on: see `cluster.lost_leases`."""


def fails_alone(history: History) -> Iterator[Violation]:
    """I4, I7: a poison delivery ends as failed, no more processes die of it than it has attempts and three, and only
    it fails.

    Of the first death nobody knows what it was: nothing is noted before a process has died. The second one says which
    deliveries were in flight then, and from then on each of them is sent alone. The third may be chance; each that
    follows is found by the mark, and counts as an attempt. A process that is stopped between its last look at its lease
    and the request costs no death more: what it has written by then counts, as if it had died.
    """  # noqa: D205
    poison = history.poison
    if poison is None:
        return
    event_ids = {publish.event_id for publish in history.publishes if publish.request_id == poison.request_id} - {None}
    delivery = f"poison {poison.request_id} to webhook {poison.webhook_id}"
    [endpoint] = [endpoint for endpoint in history.endpoints if endpoint.webhook_id == poison.webhook_id]
    attempts_max = len(endpoint.delays_seconds) + 1
    if poison.deaths > attempts_max + 3:
        lost = sum(fault.kind == LEASE_RAN_OUT for fault in history.faults)
        yield Violation(
            "I4",
            f"{poison.deaths} processes died of {delivery}, whose schedule has {attempts_max} attempts; "
            f"of processes that lived {lost} leases ran out",
        )
    rows = [row for row in history.log if row.webhook_id == poison.webhook_id and row.event_id in event_ids]
    if not rows or rows[-1].status != "failed":
        yield Violation("I4", f"{delivery} has not failed, but stands at {rows[-1].status if rows else 'nothing'}")
    others = [row for row in rows if (row.outcome, row.reason) != ("internal_error", "interrupted")]
    if others:
        yield Violation("I4", f"{delivery}: {others[0].outcome}, {others[0].reason} where it was interrupted")
    failed = [row for row in history.log if row.status == "failed" and row not in rows]
    if failed:
        yield Violation("I7", f"{len(failed)} deliveries failed beside the {delivery}: {failed[0]}", len(failed))
