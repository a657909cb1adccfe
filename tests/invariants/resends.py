"""I3: which requests came again, and whether a fault excuses them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .asked import restarted_at
from .history import Fault, History, Request
from .violation import Violation

# A row of the log bears the time at which its statement began: what is settled before a fault begins, an earlier one.
_CLOCK_SECONDS = 0.02
# The log has whole milliseconds, and timers of the loop may be early by one: a second is 999 ms then.
_ROUNDED_SECONDS = 0.002
_GONE = 410
_TIMED_OUT = "timeout"

Attempt = tuple[int, str, int]
"""Names an attempt: webhook, event and number."""


@dataclass(frozen=True, slots=True)
class Resend:
    """A request that came again, the one that should have made it needless, and the one just before it.

    The last two differ if what was sent because of one fault was in flight during the next one.
    """

    request: Request
    earlier: Request
    latest: Request

    @property
    def after_success(self) -> bool:
        """Whether the receiver had answered 2xx: what a customer calls a duplicate."""
        return 200 <= self.earlier.status <= 299

    @property
    def is_of_one_owner(self) -> bool:
        """Whether it is known that the same process sent both, for which nothing is an excuse: it remembers."""
        return self.request.owner is not None and self.request.owner == self.earlier.owner

    @property
    def is_second_question(self) -> bool:
        """Whether a 410 was made sure of: one that came on a kept connection is believed when a new one repeats it."""
        return self.latest.status == _GONE and self.latest.attempt == self.request.attempt


def resends(history: History, *, unheard: Collection[Attempt] = ()) -> list[Resend]:
    """Requests after a 2xx, and requests that bear an attempt number which had been used.

    `unheard` attempts are those whose answers make nothing needless.
    """
    found: list[Resend] = []
    restarted = restarted_at(history)
    for requests in _by_delivery(history).values():
        for index, request in enumerate(requests):
            since = restarted.get((request.webhook_id, request.event_id, request.attempt))
            own = _sent_by_same_owner(request, requests[:index], restarted_at=since)
            earlier = own or _made_needless_by(request, requests[:index], unheard, restarted_at=since)
            if earlier is not None:
                found.append(Resend(request, earlier, requests[index - 1]))
    return found


def only_after_faults(history: History) -> Iterator[Violation]:
    """I3: exactly once without a fault; and each fault excuses one more request for what it found in flight.

    In flight is what had been sent and was not settled: from the arrival of its request, or from its signature if that
    is known, until its row in the log. A receiver that is kept from its work takes in what a process had sent long
    after that has died. What was settled before the fault is never sent again, however the process ended. A process
    that sends again what it has sent itself has no excuse. An answer for which the sender has waited in vain, for as
    long as the webhook allows, makes nothing needless: the receiver was late, and the log says so.
    """
    settled_at = _settled_at(history)
    arrival_seconds = history.slowness * history.arrival_seconds
    spent: dict[tuple[int, str], set[Fault]] = defaultdict(set)
    asked_twice = set[tuple[int, str, int]]()
    for resend in resends(history, unheard=waited_for_in_vain(history)):
        request, earlier = resend.request, resend.earlier
        delivery = (request.webhook_id, request.event_id)
        if resend.is_second_question and (*delivery, request.attempt) not in asked_twice:
            asked_twice.add((*delivery, request.attempt))
            continue
        in_flight = [
            (_sent_at(one, arrival_seconds), settled_at.get((*delivery, one.attempt), math.inf))
            for one in (earlier, resend.latest)
        ]
        excuses = [
            fault
            for fault in history.faults
            if fault.may_duplicate
            and any(_overlaps(fault, since, until) for since, until in in_flight)
            and (fault.is_many or fault not in spent[delivery])
        ]
        if resend.is_of_one_owner:
            excuses = []
        if excuses:
            spent[delivery].add(excuses[0])
        else:
            answered = f"answered {earlier.status}" if earlier.status else "left unanswered"
            yield Violation(
                "I3",
                f"{request.event_id} came to webhook {request.webhook_id} again as attempt {request.attempt} after "
                f"attempt {earlier.attempt} was {answered}, and no fault had found it in flight",
            )


def in_flight_at_faults(history: History) -> int:
    """How many deliveries the faults that excuse duplicates found in flight: what duplicates are compared with."""
    settled_at = _settled_at(history)
    return sum(
        len(
            {
                (request.webhook_id, request.event_id)
                for request in history.requests
                if _overlaps(
                    fault,
                    request.arrived_at,
                    settled_at.get((request.webhook_id, request.event_id, request.attempt), math.inf),
                )
            }
        )
        for fault in history.faults
        if fault.may_duplicate
    )


def waited_for_in_vain(history: History) -> Mapping[Attempt, float]:
    """The attempts that timed out by the log, and not before their time; and when that was.

    A receiver that stands still answers what it finds in its sockets when it goes on, and does not see that the sender
    has left: its own history says 200.
    """
    timeout_seconds = {endpoint.webhook_id: endpoint.timeout_seconds for endpoint in history.endpoints}
    return {
        (row.webhook_id, row.event_id, row.attempt_count): row.created_at
        for row in history.log
        if row.reason == _TIMED_OUT
        and row.latency_seconds is not None
        and row.latency_seconds >= timeout_seconds.get(row.webhook_id, math.inf) - _ROUNDED_SECONDS
    }


def _made_needless_by(
    request: Request, before: Sequence[Request], unheard: Collection[Attempt], *, restarted_at: float | None
) -> Request | None:
    """A 2xx that had been given, or else the latest request of the same number.

    Restarts come after a 2xx, too; and after an attempt of the same number that could not be stored.
    """
    if restarted_at is not None:
        same = [one for one in before if one.attempt == request.attempt and one.arrived_at >= restarted_at]
        return next(reversed(same), None)
    succeeded = [
        earlier
        for earlier in before
        if 200 <= earlier.status <= 299 and (earlier.webhook_id, earlier.event_id, earlier.attempt) not in unheard
    ]
    same = [earlier for earlier in before if earlier.attempt == request.attempt]
    return next(reversed(succeeded or same), None)


def _sent_by_same_owner(request: Request, before: Sequence[Request], *, restarted_at: float | None) -> Request | None:
    """The latest request of the same number, or of a later one, that is known to be of the same process."""
    if request.owner is None:
        return None
    own = [one for one in before if one.owner == request.owner and one.attempt >= request.attempt]
    return next((one for one in reversed(own) if restarted_at is None or one.arrived_at >= restarted_at), None)


def _by_delivery(history: History) -> dict[tuple[int, str], list[Request]]:
    requests: dict[tuple[int, str], list[Request]] = defaultdict(list)
    for request in sorted(history.requests, key=lambda request: request.arrived_at):
        requests[request.webhook_id, request.event_id].append(request)
    return requests


def _settled_at(history: History) -> dict[Attempt, float]:
    return {
        (row.webhook_id, row.event_id, row.attempt_count): row.created_at
        for row in history.log
        if row.outcome is not None
    }


def _sent_at(request: Request, arrival_seconds: float) -> float:
    """Returns the earliest time at which it may have been sent; its signature excuses any delay at its receiver."""
    signed_at = math.inf if request.signed_at is None else request.signed_at
    return min(request.arrived_at - arrival_seconds, signed_at)


def _overlaps(fault: Fault, since: float, until: float) -> bool:
    return since <= fault.ended_at and until >= fault.started_at - _CLOCK_SECONDS
