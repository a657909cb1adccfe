"""The checker: histories in, violations out. Pure; it knows nothing of how a round was made.

Each function below checks one invariant of the service and says in its docstring what is guaranteed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import asked, innocent, poison, resends, streams, switches, timing, view
from .history import ENDINGS, History, LogRow, Request
from .violation import Violation

Delivery = tuple[int, str]  # webhook id, event id
_CLOCK_SECONDS = 0.05  # between the receiver's reading of the clock and the database's


@dataclass(frozen=True, slots=True)
class Report:
    """What a round came to."""

    events: int  # acknowledged
    deliveries: int  # that they make
    requests: int
    lost: int  # deliveries of acknowledged events that did not end, or "succeeded" without a 2xx
    duplicated: int  # requests after a 2xx
    repeated: int  # requests with an attempt number that had been used; duplicates among them
    in_flight: int  # deliveries that were in flight or unsettled during a fault that excuses duplicates
    gaps: int  # changes that a watcher was not told, and holes in the log
    drained_seconds: float | None
    lateness_seconds: float  # 99th percentile of the first attempt, over all webhooks
    lost_to_careful_mode: int  # attempts of deliveries that killed nobody, counted because a process died
    violations: tuple[Violation, ...]


def check(history: History, *, stepped: bool = False) -> Report:
    """Compares the histories of a round. `stepped`: the database's clock is no measure of what the others saw when."""
    invariants = [invariant for invariant in _INVARIANTS if not (stepped and invariant in _BY_THE_DATABASES_CLOCK)]
    found = [violation for invariant in invariants for violation in invariant(history)]
    deliveries = _acknowledged_deliveries(history)
    resent = resends.resends(history)
    return Report(
        events=len({event_id for _, event_id in deliveries}),
        deliveries=len(deliveries),
        requests=len(history.requests),
        lost=len(_unfinished(history)) + sum(1 for _ in _not_received(history)),
        duplicated=sum(resend.after_success for resend in resent),
        repeated=len(resent),
        in_flight=resends.in_flight_at_faults(history),
        gaps=sum(violation.count for violation in found if violation.invariant in {"I10", "I13"}),
        drained_seconds=history.drained_seconds,
        lateness_seconds=timing.lateness(history, [endpoint.webhook_id for endpoint in history.endpoints]),
        lost_to_careful_mode=sum(innocent.lost_attempts(history).values()),
        violations=tuple(found),
    )


def no_acknowledged_loss(history: History) -> Iterator[Violation]:
    """I1: an acknowledged event ends for every webhook that it matched, and the answer counted those webhooks."""
    unfinished = _unfinished(history)
    if unfinished:
        yield Violation("I1", f"acknowledged, but no ending: {_some(unfinished)}", len(unfinished))
    for publish in history.publishes:
        if publish.event_id is None or publish.duplicate:
            continue
        surely, perhaps = switches.matched(history, publish)
        if not len(surely) <= publish.delivery_count <= len(surely | perhaps):
            yield Violation("I1", f"{publish.event_id} was said to go to {publish.delivery_count} webhooks")


def one_event_per_key(history: History) -> Iterator[Violation]:
    """I1: however often a request id is repeated, and whatever became of the calls, it makes at most one event."""
    events: dict[tuple[int, str], set[str]] = defaultdict(set)
    key_of_body = {publish.body_hash: (publish.customer_id, publish.request_id) for publish in history.publishes}
    for publish in history.publishes:
        if publish.event_id is not None:
            events[publish.customer_id, publish.request_id].add(publish.event_id)
    for request in history.requests:  # bodies carry the request id, so unknown outcomes show here
        if request.body_hash in key_of_body:
            events[key_of_body[request.body_hash]].add(request.event_id)
    for (_, request_id), event_ids in events.items():
        if len(event_ids) > 1:
            yield Violation("I1", f"request id {request_id} made {len(event_ids)} events: {sorted(event_ids)}")


def succeeded_was_received(history: History) -> Iterator[Violation]:
    """I2: what the log calls succeeded was answered 2xx by the receiver before that was written, on that attempt."""
    for row in _not_received(history):
        yield Violation("I2", f"{_name(row)} succeeded on attempt {row.attempt_count}, but no 2xx was given before")


def attempts_rise(history: History) -> Iterator[Violation]:
    """I4: the attempts of a delivery are logged once each, in rising order, not beyond its schedule, and then it ends.

    A crash may count an attempt that the receiver never saw; it never makes a number come twice.
    """
    attempts_max = {endpoint.webhook_id: len(endpoint.delays_seconds) + 1 for endpoint in history.endpoints}
    for delivery, rows in _rows_by_delivery(history).items():
        numbers = [row.attempt_count for row in rows if row.outcome is not None]
        scheduled = [row.attempt_count for row in rows if row.outcome is not None and row.trigger == "scheduled"]
        if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
            yield Violation("I4", f"{delivery}: attempts logged as {numbers}")
        if scheduled and max(scheduled) > attempts_max.get(delivery[0], 0):
            yield Violation("I4", f"{delivery}: {max(scheduled)} attempts are more than its schedule has")
        goes_on = [row.status in ENDINGS and not after.is_restart for row, after in itertools.pairwise(rows)]
        if any(goes_on):
            yield Violation("I4", f"{delivery}: the log goes on after its ending: {[row.status for row in rows]}")


def requests_are_genuine(history: History) -> Iterator[Violation]:
    """I9: every request verifies, and carries byte for byte what was published to its webhook's customer."""
    body_of_event = {publish.event_id: publish.body_hash for publish in history.publishes if publish.event_id}
    customers_of_body = {publish.body_hash: publish.customer_id for publish in history.publishes}
    for request in history.requests:
        what = f"attempt {request.attempt} of {_name(request)}"
        if not request.verified:
            yield Violation("I9", f"{what} does not verify")
        if request.body_hash not in customers_of_body:
            yield Violation("I9", f"{what} carries what nobody published")
        elif customers_of_body[request.body_hash] != history.customer_of.get(request.webhook_id):
            yield Violation("I9", f"{what} carries another customer's event")
        elif body_of_event.get(request.event_id, request.body_hash) != request.body_hash:
            yield Violation("I9", f"{what} carries another event's body")


def signatures_are_new(history: History) -> Iterator[Violation]:
    """I9: no receiver that follows the specification refuses a request because it was signed at another time."""
    for request in history.requests:
        if not request.timely:
            yield Violation("I9", f"attempt {request.attempt} of {_name(request)} was signed at another time")


def nothing_is_stuck(history: History) -> Iterator[Violation]:
    """I11, I12: a bounded time after fault and load have ended nothing is pending."""
    if history.pending:
        some = _some([(row.webhook_id, row.event_id) for row in history.pending])
        yield Violation("I11", f"still pending: {some}", len(history.pending))
    if history.drained_seconds is None or history.drained_seconds > history.drain_seconds_max:
        yield Violation("I12", f"not drained within {history.drain_seconds_max:g} s")


def processes_are_well(history: History) -> Iterator[Violation]:
    """I14: a process that lived through it holds about what it held before; one that got SIGTERM left with status 0.

    Kept connections to receivers stay open for 20 s, so only what is far off counts.
    """
    for vitals in history.vitals:
        before, after = vitals.descriptors
        if after > before + 200:
            yield Violation("I14", f"{vitals.name} holds {after} descriptors, before the load {before}")
        before, after = vitals.resident_bytes
        if after > before * 2 + 100_000_000:
            yield Violation("I14", f"{vitals.name} holds {after >> 20} MiB, before the load {before >> 20} MiB")
    for name, status in history.exit_statuses.items():
        if status:
            yield Violation("I14", f"{name} ended with status {status} after SIGTERM")


_INVARIANTS: Sequence[Callable[[History], Iterator[Violation]]] = (
    no_acknowledged_loss,
    one_event_per_key,
    succeeded_was_received,
    resends.only_after_faults,
    attempts_rise,
    timing.not_too_early,
    poison.fails_alone,
    innocent.loses_one_attempt_at_most,
    timing.in_flight_is_limited,
    timing.rate_is_limited,
    timing.others_are_prompt,
    timing.watchers_are_prompt,
    switches.is_left_alone,
    switches.what_is_pending_is_cancelled,
    asked.is_done_once,
    asked.cancelled_is_left_alone,
    view.shows_each_attempt,
    requests_are_genuine,
    signatures_are_new,
    streams.log_is_dense,
    nothing_is_stuck,
    streams.watchers_were_told_the_log,
    processes_are_well,
)


_BY_THE_DATABASES_CLOCK = frozenset(
    (
        succeeded_was_received,
        resends.only_after_faults,
        timing.not_too_early,
        timing.others_are_prompt,
        timing.watchers_are_prompt,
        switches.is_left_alone,
        asked.is_done_once,
        signatures_are_new,
    )
)


def _acknowledged_deliveries(history: History) -> set[Delivery]:
    return {
        (webhook_id, publish.event_id)
        for publish in history.publishes
        if publish.event_id is not None
        for webhook_id in switches.matched(history, publish)[0]
    }


def _unfinished(history: History) -> list[Delivery]:
    ended = {(row.webhook_id, row.event_id) for row in history.log if row.status in ENDINGS}
    return sorted(_acknowledged_deliveries(history) - ended)


def _not_received(history: History) -> Iterator[LogRow]:
    answered: dict[tuple[int, str, int], float] = {}
    for request in history.requests:
        if 200 <= request.status <= 299:
            key = (request.webhook_id, request.event_id, request.attempt)
            answered[key] = min(request.ended_at, answered.get(key, request.ended_at))
    for row in history.log:
        key = (row.webhook_id, row.event_id, row.attempt_count)
        if row.status == "succeeded" and not (key in answered and answered[key] <= row.created_at + _CLOCK_SECONDS):
            yield row


def _rows_by_delivery(history: History) -> dict[Delivery, list[LogRow]]:
    rows: dict[Delivery, list[LogRow]] = defaultdict(list)
    for row in history.log:
        rows[row.webhook_id, row.event_id].append(row)
    return rows


def _name(of: LogRow | Request) -> str:
    return f"{of.event_id} to webhook {of.webhook_id}"


def _some(deliveries: Sequence[Delivery]) -> str:
    names = ", ".join(f"{event_id} to webhook {webhook_id}" for webhook_id, event_id in deliveries[:3])
    return names + (f" and {len(deliveries) - 3} more" if len(deliveries) > 3 else "")
