"""The checker: histories in, violations out. Pure; it knows nothing of how a round was made.

Each function below checks one invariant of the service and says in its docstring what is guaranteed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.invariants import asked, publications, requests, resends, switches
from tests.invariants.history import History, Request
from tests.invariants.shared import SHARED, Invariant
from tests.invariants.violation import Violation

from . import innocent, poison, streams, switched_off, timing, view
from .scenario import DRAIN_PATIENCE


@dataclass(frozen=True, slots=True)
class Report:
    """What a round came to."""

    events: int  # acknowledged
    deliveries: int  # that they make
    requests: int
    lost: int  # deliveries of acknowledged events that did not end, or "succeeded" without a 2xx; if it has drained
    duplicated: int  # requests after a 2xx
    repeated: int  # requests with an attempt number that had been used; duplicates among them
    in_flight: int  # deliveries that were in flight or unsettled during a fault that excuses duplicates
    gaps: int  # changes that a watcher was not told, and holes in the log
    drained_seconds: float | None
    lateness_seconds: float  # 99th percentile of the first attempt, over all webhooks
    lost_to_careful_mode: int  # attempts of deliveries that killed nobody, counted because a process died
    violations: tuple[Violation, ...]


def check(history: History, *, stepped: bool = False) -> Report:
    """Compares the histories of a round. `stepped`: the database's clock is no measure of what the others saw when.

    Of a round that has not drained only those invariants are checked that hold while deliveries are on their way.
    """
    is_drained = history.drained_seconds is not None
    left_out = (_BY_THE_DATABASES_CLOCK if stepped else _NONE) | (_NONE if is_drained else _OF_A_DRAINED_ROUND)
    invariants = [invariant for invariant in _INVARIANTS if invariant not in left_out]
    found = [violation for invariant in invariants for violation in invariant(history)]
    deliveries = publications.acknowledged_deliveries(history)
    resent = resends.resends(history)
    return Report(
        events=len({event_id for _, event_id in deliveries}),
        deliveries=len(deliveries),
        requests=len(history.requests),
        lost=_lost(history, stepped=stepped) if is_drained else 0,
        duplicated=sum(resend.after_success for resend in resent),
        repeated=len(resent),
        in_flight=resends.in_flight_at_faults(history),
        gaps=sum(violation.count for violation in found if violation.invariant in {"I10", "I13"}),
        drained_seconds=history.drained_seconds,
        lateness_seconds=0.0 if stepped else timing.lateness(history, [one.webhook_id for one in history.endpoints]),
        lost_to_careful_mode=sum(innocent.lost_attempts(history).values()),
        violations=tuple(found),
    )


def one_event_per_key(history: History) -> Iterator[Violation]:
    """I1: however often a request id is repeated, and whatever became of the calls, it makes at most one event."""
    events: dict[tuple[int, str], set[str]] = defaultdict(set)  # that the database has
    key_of_body = {publish.body_hash: (publish.customer_id, publish.request_id) for publish in history.publishes}
    for publish in history.publishes:
        if publish.event_id is not None:
            events[publish.customer_id, publish.request_id].add(publish.event_id)
    for request in history.requests:  # bodies carry the request id, so unknown outcomes show here
        if request.body_hash in key_of_body:
            events[key_of_body[request.body_hash]].add(request.event_id)
    for (_, request_id), made in events.items():
        event_ids = made - history.gone
        if len(event_ids) > 1:
            yield Violation("I1", f"request id {request_id} made {len(event_ids)} events: {sorted(event_ids)}")


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
    """I11, I12: after fault and load have ended more and more ends, until nothing is pending."""
    if history.drained_seconds is None:
        stuck = f"not drained: nothing more ended for {history.drain_seconds_max:g} s, or it takes too long"
        yield Violation("I12", "; ".join((stuck, *history.undone)))
    elif history.pending:
        yield Violation("I11", f"still pending, the first {history.pending[:3]}", len(history.pending))
    elif history.drained_seconds > (seconds_max := DRAIN_PATIENCE * history.drain_seconds_max):
        yield Violation("I12", f"drained after {history.drained_seconds:.1f} s, not {seconds_max:g} s")


def processes_hold_no_more(history: History) -> Iterator[Violation]:
    """I14: a process that lived through it holds about what it held before, when nothing is pending.

    Kept connections to receivers stay open for 20 s, so only what is far off counts.
    """
    for vitals in history.vitals:
        before, after = vitals.descriptors
        if after > before + 200:
            yield Violation("I14", f"{vitals.name} holds {after} descriptors, before the load {before}")
        before, after = vitals.resident_bytes
        if after > before * 2 + 100_000_000:
            yield Violation("I14", f"{vitals.name} holds {after >> 20} MiB, before the load {before >> 20} MiB")


def processes_end_well(history: History) -> Iterator[Violation]:
    """I14: a process that got SIGTERM left with status 0."""
    for name, status in history.exit_statuses.items():
        if status:
            yield Violation("I14", f"{name} ended with status {status} after SIGTERM")


_INVARIANTS: Sequence[Invariant] = (
    *SHARED,
    one_event_per_key,
    poison.fails_alone,
    innocent.loses_one_attempt_at_most,
    innocent.faults_of_ours_cost_no_attempt,
    timing.in_flight_is_limited,
    timing.others_are_prompt,
    timing.watchers_are_prompt,
    switched_off.ends_soon,
    view.shows_each_attempt,
    requests_are_genuine,
    signatures_are_new,
    nothing_is_stuck,
    streams.watchers_were_told_the_log,
    processes_hold_no_more,
    processes_end_well,
)


_NONE = frozenset[Invariant]()
_BY_THE_DATABASES_CLOCK = frozenset(
    (
        requests.succeeded_was_received,
        requests.not_too_early,
        resends.only_after_faults,
        timing.others_are_prompt,
        timing.watchers_are_prompt,
        switches.is_left_alone,
        switches.only_what_is_off_is_cancelled,
        switched_off.ends_soon,
        asked.is_done_once,
        signatures_are_new,
    )
)

# Before that a history has been read while things happened, its parts one after the other.
_OF_A_DRAINED_ROUND = frozenset(
    (
        publications.nothing_is_lost,
        requests.succeeded_was_received,
        asked.is_done_once,
        poison.fails_alone,
        view.shows_each_attempt,
        streams.watchers_were_told_the_log,
        processes_hold_no_more,
    )
)


def _lost(history: History, *, stepped: bool) -> int:
    """Returns how many deliveries did not end, or ended without that they were received, if clocks can tell."""
    not_received = () if stepped else requests.not_received(history)
    return len(publications.unfinished(history)) + sum(1 for _ in not_received)


def _name(of: Request) -> str:
    return f"{of.event_id} to webhook {of.webhook_id}"
