"""The checker on histories made by hand: for each invariant one that holds, and those that break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.invariants.history import (
    Asked,
    Endpoint,
    Fault,
    History,
    LogRow,
    Pending,
    Poison,
    Publish,
    Request,
    Shown,
    Switch,
    Told,
    Vitals,
    Watcher,
)

from .checker import check
from .streams import watchers_were_told_the_log

pytestmark = pytest.mark.fast

# One event to one webhook: the first attempt failed with 503 and Retry-After: 1, the second one succeeded.
ENDPOINT = Endpoint(webhook_id=7, customer_id=1, in_flight_max=2, delays_seconds=(1.0, 1.0))
PUBLISH = Publish(customer_id=1, request_id="r1", body_hash="b1", event_id="evt_1", delivery_count=1)
FIRST = Request(7, "evt_1", 1, 10.1, 10.2, 503, verified=True, body_hash="b1", retry_after=1.0)
SECOND = Request(7, "evt_1", 2, 11.5, 11.6, 200, verified=True, body_hash="b1")
FAILED = LogRow(7, 1, 7, "evt_1", 1, "pending", "http_error", 10.3, 10.0, next_due_at=11.4, response_status=503)
SUCCEEDED = LogRow(7, 2, 7, "evt_1", 2, "succeeded", "succeeded", 11.7, 10.0, response_status=200)
TOLD = (Told(0, 7, "evt_1", 1, "pending", 10.4), Told(0, 7, "evt_1", 2, "succeeded", 11.8))
WATCHER = Watcher("w", 1, TOLD)
HEALTHY = History((ENDPOINT,), (PUBLISH,), (FIRST, SECOND), (FAILED, SUCCEEDED), watchers=(WATCHER,))
AGAIN = replace(SECOND, arrived_at=13.0, ended_at=13.1)
KILL = Fault("kill -9", 11.65, 11.65, may_duplicate=True)  # after the receiver's answer, before it was settled
NO_ANSWER: dict[str, Any] = {"outcome": "internal_error", "response_status": None}
# The receiver was kept from its work: it took in later what had been sent before the kill.
BELATED = replace(
    HEALTHY,
    requests=(
        FIRST,
        replace(SECOND, arrived_at=13.0, ended_at=13.1, signed_at=11.0),
        replace(AGAIN, arrived_at=15.0, ended_at=15.1, signed_at=14.0),
    ),
    log=(FAILED, replace(SUCCEEDED, created_at=15.2)),
    faults=(KILL,),
)
UNKNOWN = replace(PUBLISH, event_id=None)
RESTORED = Fault("backup restored", 10.0, 12.0, may_forget=True)
# Its first request came before the database came back older; what failed was the one after that.
FORGOTTEN = replace(
    HEALTHY,
    publishes=(replace(PUBLISH, answered_at=10.1), replace(PUBLISH, event_id="evt_0", answered_at=10.1)),
    faults=(RESTORED,),
    gone=frozenset({"evt_0"}),
)
CROWD = tuple(replace(FIRST, event_id=f"evt_x{n}", body_hash=f"x{n}", retry_after=None) for n in range(3))
CROWD_PUBLISHED = tuple(replace(UNKNOWN, request_id=request.event_id, body_hash=request.body_hash) for request in CROWD)

NAMELESS = replace(HEALTHY, log=(replace(FAILED, reason="name_not_resolved"), SUCCEEDED))
RESOLVER_OF_BEFORE = Fault("DNS failing", 10.2, 10.25, rules_out="name_not_resolved")

# The receiver stood still: when it answered the first attempt, the sender had waited for two seconds and left.
LATE = replace(FIRST, arrived_at=12.3, ended_at=12.3, status=200, retry_after=None)
TIMED_OUT = replace(
    FAILED, outcome="timeout", reason="timeout", response_status=None, created_at=12.1, next_due_at=12.2,
    latency_seconds=2.0,
)  # fmt: skip
WAITED = replace(
    HEALTHY,
    endpoints=(replace(ENDPOINT, timeout_seconds=2.0),),
    requests=(LATE, replace(SECOND, arrived_at=12.5, ended_at=12.6)),
    log=(TIMED_OUT, replace(SUCCEEDED, created_at=12.7)),
)

# The webhook is paused after its first attempt, and resumed before its second.
PAUSED = (Switch(7, "paused", 10.2, 10.2), Switch(7, "resumed", 11.3, 11.35))
DELETED = Switch(7, "deleted", 10.3, 10.4)
CANCELLED = replace(SUCCEEDED, attempt_count=1, status="cancelled", outcome=None, created_at=10.5)
ENDED = replace(
    HEALTHY,
    requests=(FIRST,),
    log=(FAILED, CANCELLED),
    watchers=(),
    switches=(DELETED,),
    attempt_seconds_max=1.0,
)
LIMITED = replace(ENDPOINT, in_flight_max=100, rate_limit=2)
STEADY = tuple(  # a burst of two, and then two a second
    replace(FIRST, event_id=f"evt_y{n}", body_hash=f"y{n}", retry_after=None, arrived_at=20.0 + at, ended_at=20.0 + at)
    for n, at in enumerate((0.0, 0.0, 0.5, 1.0, 1.5, 2.0))
)
STEADY_PUBLISHED = tuple(
    replace(UNKNOWN, request_id=request.event_id, body_hash=request.body_hash) for request in STEADY
)
# Two processes died of the delivery's only attempt: one that nobody knew of, and one that counts.
INTERRUPTED = replace(FAILED, status="failed", outcome="internal_error", reason="interrupted", response_status=None)
POISONED = replace(
    HEALTHY,
    endpoints=(replace(ENDPOINT, delays_seconds=()),),
    requests=(),
    log=(INTERRUPTED,),
    watchers=(),
    poison=Poison(7, "r1", deaths=2),
)

# After it had succeeded it was retried, and the receiver got it again.
RESTARTED = replace(
    SUCCEEDED, seq=3, status="pending", outcome=None, created_at=20.0, next_due_at=20.0, trigger="manual"
)
RESENT = replace(SUCCEEDED, seq=4, attempt_count=3, created_at=20.3, trigger="manual")
THIRD = replace(SECOND, attempt=3, arrived_at=20.1, ended_at=20.2)
RETRIED = replace(
    HEALTHY,
    requests=(FIRST, SECOND, THIRD),
    log=(FAILED, SUCCEEDED, RESTARTED, RESENT),
    watchers=(),
    asked=(Asked("retry", 7, "evt_1", 19.9, "pending"),),
)
ASKED_TO_CANCEL = replace(ENDED, switches=(), asked=(Asked("cancel", 7, "evt_1", 10.4, "cancelled"),))
SHOWN = (
    Shown(7, 1, 7, 0, 503, "job.completed", "r1"),
    Shown(7, 2, 7, 1, 200, "job.completed", "r1"),
)


def broken(history: History) -> set[str]:
    return {violation.invariant for violation in check(history).violations}


def test_a_healthy_history_holds_and_is_counted() -> None:
    report = check(HEALTHY)
    assert not report.violations
    assert (report.events, report.deliveries, report.requests) == (1, 1, 2)
    assert (report.lost, report.duplicated, report.repeated, report.gaps) == (0, 0, 0, 0)
    assert report.lateness_seconds == pytest.approx(0.1)


HOLDS = {
    "I1: an unknown publication may have made nothing": replace(
        HEALTHY, publishes=(PUBLISH, replace(UNKNOWN, request_id="r2", body_hash="b2"))
    ),
    "I1: a call that was repeated is answered with the same event": replace(
        HEALTHY, publishes=(UNKNOWN, PUBLISH, replace(PUBLISH, duplicate=True, delivery_count=0))
    ),
    "I1: what was acknowledged after the copy may be gone, and be made once more": FORGOTTEN,
    "I5: what was sent before the copy came back binds nobody": replace(
        HEALTHY,
        requests=(replace(SECOND, arrived_at=10.5, ended_at=10.6, status=0), FIRST, SECOND),
        faults=(replace(RESTORED, may_duplicate=True),),
    ),
    "I3: what a kill found in flight may come once more": replace(
        HEALTHY, requests=(FIRST, SECOND, AGAIN), log=(FAILED, replace(SUCCEEDED, created_at=13.2)), faults=(KILL,)
    ),
    "I3: what was sent before the kill reaches its receiver long after that": BELATED,
    "I3: an answer that was waited for in vain": WAITED,
    "I3: whose time is logged as a millisecond less": replace(
        WAITED, log=(replace(TIMED_OUT, latency_seconds=1.999), WAITED.log[1])
    ),
    "I3: many faults excuse many requests": replace(
        HEALTHY,
        requests=(FIRST, SECOND, AGAIN, replace(AGAIN, arrived_at=14.0, ended_at=14.1)),
        log=(FAILED, replace(SUCCEEDED, created_at=14.2)),
        faults=(replace(KILL, ended_at=14.0, is_many=True),),
    ),
    "I3: a restart may have the number of an attempt that could not be stored": replace(
        RETRIED,
        requests=(FIRST, replace(SECOND, status=500), replace(THIRD, attempt=2)),
        log=(
            FAILED,
            replace(FAILED, seq=2, created_at=12.0, status="failed", outcome=None, next_due_at=None),
            replace(RESTARTED, attempt_count=1),
            replace(RESENT, attempt_count=2),
        ),
    ),
    "I3: what was sent once more because of a kill was in flight at the next one": replace(
        HEALTHY,
        endpoints=(replace(ENDPOINT, delays_seconds=(1.0, 1.0, 1.0)),),
        requests=(
            FIRST,
            SECOND,
            replace(AGAIN, attempt=3, status=0),
            replace(AGAIN, attempt=4, arrived_at=15.0, ended_at=15.1),
        ),
        log=(
            FAILED,
            replace(FAILED, **NO_ANSWER, seq=2, attempt_count=2, created_at=12.5, next_due_at=12.6),
            replace(FAILED, **NO_ANSWER, seq=3, attempt_count=3, created_at=14.0, next_due_at=14.1),
            replace(SUCCEEDED, seq=4, attempt_count=4, created_at=15.2),
        ),
        watchers=(),
        faults=(KILL, replace(KILL, started_at=13.05, ended_at=13.05)),
    ),
    "I4: a crash may count an attempt that nobody received": replace(
        HEALTHY,
        requests=(replace(SECOND, attempt=2),),
        log=(replace(FAILED, outcome="internal_error", response_status=None), SUCCEEDED),
    ),
    "I5: the Retry-After of an answer that was lost binds nobody": replace(
        HEALTHY,
        requests=(FIRST, replace(SECOND, arrived_at=10.9, ended_at=11.0)),
        log=(replace(FAILED, outcome="internal_error", response_status=None, next_due_at=10.8), SUCCEEDED),
    ),
    "I6: a stopped owner's requests and a limit of the new one's": replace(
        HEALTHY,
        publishes=(PUBLISH, *CROWD_PUBLISHED),
        requests=(FIRST, SECOND, *CROWD),
        faults=(Fault("SIGSTOP", 9.0, 10.0, may_overlap=True),),
    ),
    "I4: a poison ends one process more than it has attempts": POISONED,
    "I6: a rate with a burst of a second": replace(
        HEALTHY, endpoints=(LIMITED,), publishes=(PUBLISH, *STEADY_PUBLISHED), requests=(FIRST, SECOND, *STEADY)
    ),
    "I8: a request that was under way when it was paused": replace(HEALTHY, switches=PAUSED),
    "I8: what was pending is cancelled": ENDED,
    "I8: an attempt while nobody could know of the pause": replace(
        HEALTHY, switches=PAUSED[:1], faults=(Fault("the database is away", 10.0, 11.0, may_deafen=True),)
    ),
    "I8: a test of a paused webhook": replace(
        HEALTHY, switches=PAUSED[:1], requests=(FIRST, replace(SECOND, is_test=True))
    ),
    "I15: who has lost the shard may send what was cancelled": replace(
        ASKED_TO_CANCEL,
        requests=(FIRST, replace(SECOND, attempt=1, is_stale=True)),
        faults=(replace(KILL, started_at=10.15, ended_at=10.15),),
    ),
    "I8: an event that is published later does not go to it": replace(
        ENDED,
        publishes=(
            PUBLISH,
            replace(PUBLISH, request_id="r2", body_hash="b2", event_id="evt_2", delivery_count=0, asked_at=10.5),
        ),
    ),
    "I8: of an event that is published meanwhile nobody knows": replace(
        ENDED, publishes=(replace(PUBLISH, asked_at=10.2, answered_at=10.35),)
    ),
    "I13: a change may come twice after a resume": replace(
        HEALTHY, watchers=(replace(WATCHER, told=(*TOLD, replace(TOLD[1], stream=1))),)
    ),
    "I15: a retry after a 2xx": RETRIED,
    "I15: a cancellation": ASKED_TO_CANCEL,
    "I18: a name that does not resolve while the resolver is well": replace(NAMELESS, faults=(RESOLVER_OF_BEFORE,)),
    "I16: one row for each attempt": replace(HEALTHY, shown=SHOWN),
    "I14: what is near the baseline": replace(HEALTHY, vitals=(Vitals("p", (40, 90), (90 << 20, 120 << 20)),)),
}

BREAKS = {
    "I1: an acknowledged event does not end": replace(HEALTHY, log=(FAILED,), watchers=()),
    "I1: an acknowledged event vanishes": replace(HEALTHY, log=(), requests=(), watchers=()),
    "I1: the answer counted other webhooks": replace(HEALTHY, publishes=(replace(PUBLISH, delivery_count=2),)),
    "I1: a key made two events, both acknowledged": replace(
        HEALTHY, publishes=(PUBLISH, replace(PUBLISH, event_id="evt_2", duplicate=True))
    ),
    "I1: a key made two events, one unknown": replace(
        HEALTHY, requests=(FIRST, SECOND, replace(SECOND, event_id="evt_2"))
    ),
    "I1: acknowledged, and not stored": replace(HEALTHY, matched={}),
    "I1: acknowledged before the copy, and gone": replace(FORGOTTEN, faults=(replace(RESTORED, started_at=10.2),)),
    "I1: acknowledged after the database had come back, and gone": replace(
        FORGOTTEN, publishes=(PUBLISH, replace(FORGOTTEN.publishes[1], asked_at=12.1, answered_at=12.2))
    ),
    "I1: gone, and nothing was restored": replace(FORGOTTEN, faults=()),
    "I1: ended, and still pending": replace(HEALTHY, pending=(Pending(7, "evt_1", 1),)),
    "I2: succeeded, and nothing was received": replace(HEALTHY, requests=(FIRST,)),
    "I2: succeeded, and the receiver said 500": replace(HEALTHY, requests=(FIRST, replace(SECOND, status=500))),
    "I2: recorded before the receiver answered": replace(
        HEALTHY, log=(FAILED, replace(SUCCEEDED, created_at=11.5))
    ),
    "I3: a request after a 2xx, without a fault": replace(HEALTHY, requests=(FIRST, SECOND, AGAIN)),
    "I3: an attempt number twice, without a fault": replace(
        HEALTHY, requests=(FIRST, replace(FIRST, arrived_at=10.6, ended_at=10.7), SECOND)
    ),
    "I3: what was settled before the kill comes again": replace(
        HEALTHY, requests=(FIRST, SECOND, AGAIN), faults=(replace(KILL, started_at=12.0, ended_at=12.0),)
    ),
    "I3: what was sent after the kill, and came long after that": replace(
        BELATED, requests=(FIRST, replace(BELATED.requests[1], signed_at=12.0), BELATED.requests[2])
    ),
    "I3: what came long after the kill, and does not say when it was sent": replace(
        BELATED, requests=(FIRST, replace(BELATED.requests[1], signed_at=None), BELATED.requests[2])
    ),
    "I3: two more requests for one kill": replace(
        HEALTHY,
        requests=(FIRST, SECOND, AGAIN, replace(AGAIN, arrived_at=14.0, ended_at=14.1)),
        log=(FAILED, replace(SUCCEEDED, created_at=14.2)),
        faults=(KILL,),
    ),
    "I3: an answer that was not waited for": replace(
        WAITED, log=(replace(TIMED_OUT, latency_seconds=1.9), WAITED.log[1])
    ),
    "I3: an answer that was not in vain": replace(
        WAITED, log=(replace(TIMED_OUT, reason="status", response_status=500), WAITED.log[1])
    ),
    "I3: the same number after an answer that was waited for in vain": replace(
        WAITED, requests=(LATE, replace(LATE, arrived_at=12.4, ended_at=12.4), WAITED.requests[1])
    ),
    "I3: a fault that excuses nothing": replace(
        HEALTHY,
        requests=(FIRST, SECOND, AGAIN),
        log=(FAILED, replace(SUCCEEDED, created_at=13.2)),
        faults=(replace(KILL, may_duplicate=False),),
    ),
    "I3: a process sends again what it has sent itself": replace(
        HEALTHY,
        requests=(FIRST, replace(SECOND, owner=1), replace(AGAIN, owner=1)),
        log=(FAILED, replace(SUCCEEDED, created_at=13.2)),
        faults=(KILL,),
    ),
    "I4: a number is left out": replace(HEALTHY, log=(FAILED, replace(SUCCEEDED, attempt_count=3)), watchers=()),
    "I4: a restart while it is pending": replace(
        RETRIED, log=(FAILED, replace(RESTARTED, seq=2, attempt_count=1), replace(SUCCEEDED, seq=3, trigger="manual"))
    ),
    "I4: a number is logged twice": replace(HEALTHY, log=(FAILED, replace(FAILED, seq=2)), watchers=()),
    "I4: more attempts than the schedule has": replace(
        HEALTHY, endpoints=(replace(ENDPOINT, delays_seconds=()),), requests=(replace(FIRST, retry_after=None), SECOND)
    ),
    "I4: the log goes on after an ending": replace(
        HEALTHY, log=(replace(FAILED, status="failed"), SUCCEEDED), watchers=()
    ),
    "I4: a poison ends too many processes": replace(POISONED, poison=Poison(7, "r1", deaths=5)),
    "I17: an innocent delivery loses two attempts": replace(
        POISONED, log=(INTERRUPTED, replace(INTERRUPTED, seq=2, attempt_count=2)), poison=None
    ),
    "I18: an attempt fails because our resolver does": replace(
        NAMELESS, faults=(replace(RESOLVER_OF_BEFORE, ended_at=10.4),)
    ),
    "I4: a poison is delivered": replace(HEALTHY, poison=Poison(7, "r1", deaths=1)),
    "I4: a poison fails of something else": replace(POISONED, log=(replace(INTERRUPTED, reason="timeout"),)),
    "I5: before it was due": replace(HEALTHY, log=(replace(FAILED, next_due_at=11.9), SUCCEEDED)),
    "I5: before Retry-After": replace(
        HEALTHY,
        requests=(FIRST, replace(SECOND, arrived_at=11.0, ended_at=11.1)),
        log=(replace(FAILED, next_due_at=10.9), SUCCEEDED),
    ),
    "I6: three at once, two are allowed": replace(
        HEALTHY,
        requests=(FIRST, SECOND, *CROWD[:2]),
    ),
    "I6: a kill excuses no overlap": replace(
        HEALTHY,
        requests=(FIRST, SECOND, *CROWD[:2]),
        faults=(replace(KILL, started_at=10.0, ended_at=10.0),),
    ),
    "I6: more in a second than its rate and its burst": replace(
        HEALTHY,
        endpoints=(LIMITED,),
        publishes=(PUBLISH, *STEADY_PUBLISHED),
        requests=(FIRST, SECOND, *STEADY[:-1], replace(STEADY[-1], arrived_at=21.0, ended_at=21.0)),
    ),
    "I7: others fail beside a poison": replace(
        POISONED, log=(INTERRUPTED, replace(INTERRUPTED, seq=2, event_id="evt_2"))
    ),
    "I7: a webhook that nothing ails is late": replace(
        HEALTHY,
        endpoints=(replace(ENDPOINT, prompt=True),),
        log=(replace(FAILED, event_created_at=7.0), replace(SUCCEEDED, event_created_at=7.0)),
    ),
    "I7: a webhook that nothing ails is later than the machine was": replace(
        HEALTHY,
        endpoints=(replace(ENDPOINT, prompt=True),),
        log=(replace(FAILED, event_created_at=7.0), replace(SUCCEEDED, event_created_at=7.0)),
        stalled_seconds=0.5,
    ),
    "I7: a watcher is told late": replace(
        HEALTHY, watchers=(replace(WATCHER, told=(TOLD[0], replace(TOLD[1], at=19.0)), prompt=True),)
    ),
    "I8: an attempt to a paused webhook": replace(HEALTHY, switches=(PAUSED[0],)),
    "I8: an attempt to a deleted webhook": replace(ENDED, requests=(FIRST, SECOND)),
    "I8: what was pending goes on": replace(ENDED, log=(FAILED, replace(SUCCEEDED, created_at=12.5))),
    "I8: cancelled, and the webhook is active": replace(ENDED, switches=()),
    "I8: cancelled after it was resumed": replace(
        ENDED, switches=(DELETED, Switch(7, "resumed", 10.41, 10.42))
    ),
    "I8: cancelled, and the webhook is paused": replace(ENDED, switches=PAUSED[:1]),
    "I9: a signature is wrong": replace(HEALTHY, requests=(FIRST, replace(SECOND, verified=False))),
    "I9: nobody published that body": replace(HEALTHY, requests=(FIRST, replace(SECOND, body_hash="b9"))),
    "I9: another event's body": replace(
        HEALTHY,
        publishes=(PUBLISH, replace(UNKNOWN, request_id="r2", body_hash="b2")),
        requests=(FIRST, replace(SECOND, body_hash="b2")),
    ),
    "I9: another customer's event": replace(
        HEALTHY,
        publishes=(PUBLISH, replace(UNKNOWN, customer_id=2, request_id="r2", body_hash="b2")),
        requests=(FIRST, replace(SECOND, body_hash="b2")),
    ),
    "I10: a hole in the log": replace(HEALTHY, log=(FAILED, replace(SUCCEEDED, seq=3))),
    "I10: a number twice in the log": replace(HEALTHY, log=(FAILED, replace(SUCCEEDED, seq=1))),
    "I11: something is left": replace(HEALTHY, pending=(Pending(7, "evt_3", 0),)),
    "I12: never drained": replace(HEALTHY, drained_seconds=None),
    "I12: drained too late": replace(HEALTHY, drained_seconds=301.0),
    "I13: a change is left out": replace(HEALTHY, watchers=(replace(WATCHER, told=TOLD[1:]),)),
    "I13: the last change is not told": replace(HEALTHY, watchers=(replace(WATCHER, told=TOLD[:1]),)),
    "I13: out of order": replace(HEALTHY, watchers=(replace(WATCHER, told=TOLD[::-1]),)),
    "I13: twice without a resume": replace(HEALTHY, watchers=(replace(WATCHER, told=(*TOLD, TOLD[1])),)),
    "I13: what the log does not have": replace(
        HEALTHY, watchers=(replace(WATCHER, told=(*TOLD, replace(TOLD[1], event_id="evt_9"))),)
    ),
    "I14: descriptors leak": replace(HEALTHY, vitals=(Vitals("p", (40, 400), (90 << 20, 90 << 20)),)),
    "I14: memory leaks": replace(HEALTHY, vitals=(Vitals("p", (40, 40), (90 << 20, 900 << 20)),)),
    "I14: SIGTERM ends in an error": replace(HEALTHY, exit_statuses={"p": 1}),
    "I3: a retry is sent twice": replace(
        RETRIED, requests=(*RETRIED.requests, replace(THIRD, arrived_at=21.0, ended_at=21.1))
    ),
    "I4: a retry that counts from where it was": replace(
        RETRIED, log=(*RETRIED.log[:3], replace(RESENT, attempt_count=2))
    ),
    "I15: nobody asked for the retry": replace(RETRIED, asked=()),
    "I15: a retry happens twice": replace(
        RETRIED, log=(*RETRIED.log, replace(RESTARTED, seq=5, attempt_count=3), replace(RESENT, seq=6, attempt_count=4))
    ),
    "I15: a retry was answered and is not in the log": replace(
        RETRIED, requests=(FIRST, SECOND), log=(FAILED, SUCCEEDED)
    ),
    "I15: a retry has a schedule": replace(
        RETRIED, log=(*RETRIED.log[:3], replace(RESENT, status="pending", outcome="http_error", next_due_at=21.0))
    ),
    "I15: an attempt names another trigger": replace(
        RETRIED, log=(*RETRIED.log[:3], replace(RESENT, trigger="scheduled"))
    ),
    "I15: a replay that was none": replace(RETRIED, log=(*RETRIED.log[:3], replace(RESENT, trigger="replay"))),
    "I15: a cancellation was answered and is not in the log": replace(
        HEALTHY, asked=(Asked("cancel", 7, "evt_1", 10.4, "cancelled"),)
    ),
    "I15: it is sent after it was cancelled": replace(ASKED_TO_CANCEL, requests=(FIRST, SECOND, THIRD)),
    "I16: an attempt is not shown": replace(HEALTHY, shown=SHOWN[:1]),
    "I16: an attempt is shown twice": replace(HEALTHY, shown=(*SHOWN, SHOWN[1])),
    "I16: retry_count is that of another": replace(HEALTHY, shown=(SHOWN[0], replace(SHOWN[1], retry_count=2))),
    "I16: another event's payload": replace(HEALTHY, shown=(SHOWN[0], replace(SHOWN[1], request_id="r2"))),
    "I16: no payload": replace(HEALTHY, shown=(SHOWN[0], replace(SHOWN[1], request_id=None))),
}  # fmt: skip


@pytest.mark.parametrize("history", HOLDS.values(), ids=HOLDS)
def test_holds(history: History) -> None:
    assert check(history).violations == ()


@pytest.mark.parametrize(("name", "history"), BREAKS.items(), ids=BREAKS)
def test_breaks(name: str, history: History) -> None:
    assert name.split(":", maxsplit=1)[0] in broken(history)


# Read while the second attempt was on its way: each part of the history knows more than the one before.
UNDRAINED = replace(
    HEALTHY,
    endpoints=(replace(ENDPOINT, delays_seconds=(1.0, 1.0, 1.0)),),
    requests=(FIRST,),
    pending=(Pending(7, "evt_1", 2),),
    watchers=(replace(WATCHER, told=(*TOLD, replace(TOLD[1], event_id="evt_2"))),),
    shown=(),
    asked=(Asked("retry", 7, "evt_1", 12.0, "pending"),),
    vitals=(Vitals("p", (40, 400), (90 << 20, 900 << 20)),),
    poison=Poison(7, "r1", deaths=0),
    drained_seconds=None,
    undone=("1 deliveries and 0 commands are pending", "evt_1 to webhook 7 waits"),
)


def test_of_a_round_that_has_not_drained_only_that_is_reported_with_what_is_pending() -> None:
    report = check(UNDRAINED)
    [violation] = report.violations
    stuck = "I12: not drained: nothing more ended for 60 s, or it takes too long"
    assert str(violation) == "; ".join((stuck, *UNDRAINED.undone))
    assert report.lost == 0
    drained = broken(replace(UNDRAINED, drained_seconds=1.0))
    assert drained == {"I1", "I2", "I4", "I11", "I13", "I14", "I15", "I16"}


@pytest.mark.parametrize(
    "name",
    ["I3: a request after a 2xx, without a fault", "I8: an attempt to a paused webhook", "I10: a hole in the log"],
)
def test_what_holds_at_any_time_is_checked_of_a_round_that_has_not_drained(name: str) -> None:
    assert broken(replace(BREAKS[name], drained_seconds=None)) == {name.split(":", maxsplit=1)[0], "I12"}


def test_every_invariant_is_broken_here() -> None:
    assert {name.split(":")[0] for name in BREAKS} == {f"I{n}" for n in range(1, 19)}


def test_with_a_stepped_clock_no_figure_compares_clocks() -> None:
    unreceived = BREAKS["I2: succeeded, and nothing was received"]
    late = replace(HEALTHY, requests=tuple(replace(one, arrived_at=one.arrived_at + 3600) for one in HEALTHY.requests))
    assert (check(unreceived).lost, check(unreceived, stepped=True).lost) == (1, 0)
    assert check(BREAKS["I1: an acknowledged event vanishes"], stepped=True).lost == 1
    assert check(late).lateness_seconds >= 3600 > check(late, stepped=True).lateness_seconds


def test_lost_and_duplicated_are_counted() -> None:
    assert check(BREAKS["I1: an acknowledged event vanishes"]).lost == 1
    assert check(BREAKS["I2: succeeded, and nothing was received"]).lost == 1
    excused = check(HOLDS["I3: what a kill found in flight may come once more"])
    assert (excused.duplicated, excused.in_flight) == (1, 1)
    assert check(BREAKS["I13: a change is left out"]).gaps == 1


# A clock that was set back: its first retry is put in the log again, as a change that is equal to the one before.
SCHEDULED = replace(FAILED, event_id="evt_0")
RESCHEDULED = (FAILED, SCHEDULED, replace(FAILED, outcome=None), SUCCEEDED)
TOLD_AGAIN = (TOLD[0], replace(TOLD[0], event_id="evt_0"), replace(TOLD[0], stream=1), replace(TOLD[1], stream=1))


def test_i13_a_change_that_is_equal_to_an_earlier_one_is_no_gap_after_a_resume() -> None:
    def found(told: tuple[Told, ...]) -> int:
        history = replace(HEALTHY, log=RESCHEDULED, watchers=(replace(WATCHER, told=told),))
        return sum(violation.count for violation in watchers_were_told_the_log(history))

    assert found(TOLD_AGAIN) == 0
    assert found((*TOLD_AGAIN[:3], replace(TOLD_AGAIN[1], stream=1), *TOLD_AGAIN[2:])) == 0  # it was told three again
    assert found((*TOLD_AGAIN[:2], TOLD_AGAIN[3])) == 1
