"""What invariants compare: independent histories of one run, as plain values.

Times are seconds of one clock: of this machine, or of the simulation. An event's id is a text that names it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

Delivery = tuple[int, str]
"""Names a delivery: webhook and event."""
ENDINGS = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook as it was registered before the first event was published. What changes afterwards is a `Switch`."""

    webhook_id: int
    customer_id: int
    in_flight_max: int = 10
    delays_seconds: tuple[float, ...] = (0.3, 0.3, 0.3)
    prompt: bool = False  # the fault is somebody else's: its deliveries must not be late (I7)
    rate_limit: int | None = None  # requests a second, with a burst of one second
    timeout_seconds: float = math.inf  # for which an answer is waited for


@dataclass(frozen=True, slots=True)
class Publish:
    """One call of PublishEvent and its answer. `event_id` is None if the outcome is unknown.

    `asked_at` is when its request id was sent for the first time: the event may have been made since then.
    """

    customer_id: int
    request_id: str
    body_hash: str
    event_id: str | None
    duplicate: bool = False
    delivery_count: int = 0
    asked_at: float = 0.0
    answered_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the receiver saw it. `status` 0: the client left before it was answered."""

    webhook_id: int
    event_id: str
    attempt: int
    arrived_at: float
    ended_at: float
    status: int
    verified: bool
    body_hash: str
    retry_after: float | None = None
    timely: bool = True  # signed just now, by the receiver's clock
    signed_at: float | None = None  # what its signature says, in whole seconds: it was sent then or up to 1 s later
    decided_at: float | None = None  # when its sender decided to send it, if that is known: rates count from then
    owner: int | None = None  # who sent it, if that is known: a process for as long as it owned the shard
    is_stale: bool = False  # whether its sender is known to have lost the shard
    is_test: bool = False  # of TestWebhook, which no limit and no pause concerns


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of `attempts`. `outcome` is None for a delivery that ended without an attempt."""

    shard: int
    seq: int
    webhook_id: int
    event_id: str
    attempt_count: int
    status: str
    outcome: str | None
    created_at: float
    event_created_at: float
    next_due_at: float | None = None
    response_status: int | None = None
    reason: str | None = None
    trigger: str = "scheduled"
    latency_seconds: float | None = None  # of the attempt

    @property
    def delivery(self) -> Delivery:
        return self.webhook_id, self.event_id

    @property
    def is_restart(self) -> bool:
        """Whether it says that the delivery was restarted."""
        return self.status == "pending" and self.outcome is None and self.trigger in {"manual", "replay"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the view `webhook_logs`, with the request id that its payload carries."""

    shard: int
    seq: int
    webhook_id: int
    retry_count: int
    response_status: int | None
    event_type: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of RetryDelivery or CancelDelivery, or a replay of one delivery.

    `status` is that of its answer; None if there was no good one.
    """

    kind: str
    webhook_id: int
    event_id: str
    asked_at: float
    status: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """One change as a watcher was told. `stream` counts its calls of WatchDeliveries: a new one is a resume."""

    stream: int
    webhook_id: int
    event_id: str
    attempt_count: int
    status: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Watcher:
    """Everything that one client of the stream was told, in order. It had joined before the first publish."""

    name: str
    customer_id: int
    told: tuple[Told, ...]
    prompt: bool = False  # the fault is somebody else's: it must not be told late (I7)


@dataclass(frozen=True, slots=True)
class Fault:
    """What was injected, when, and what that may excuse.

    `may_duplicate`: what was in flight or unsettled during the fault may be sent once more, because whoever sent it may
    have lost its memory or its lease. `may_overlap`: the old owner of a webhook may still have requests open while the
    new one sends, because it lost its lease without dying. A killed process leaves no open requests: its kernel closes
    them at once, and the new owner waits for the lease. `may_deafen`: nobody need know before its end what has changed
    in the database. `rules_out`: for this reason no attempt may be logged as failed meanwhile: the fault is ours.
    `may_forget`: the database came back as it was when the fault began, so what it took since then may be gone from it.
    """

    kind: str
    started_at: float
    ended_at: float
    may_duplicate: bool = False
    may_overlap: bool = False
    may_deafen: bool = False
    rules_out: str = ""
    may_forget: bool = False
    is_many: bool = False  # so many that each delivery may be concerned more than once


@dataclass(frozen=True, slots=True)
class Switch:
    """A webhook was paused, resumed, deleted or disabled, at some time between the two."""

    webhook_id: int
    kind: str
    asked_at: float
    answered_at: float

    @property
    def ends(self) -> bool:
        """Whether what is pending is cancelled, and what is published from now on is not for it."""
        return self.kind in {"deleted", "disabled"}


@dataclass(frozen=True, slots=True)
class Poison:
    """A delivery that ends the process that sends it, before anything is sent; and how many it has ended."""

    webhook_id: int
    request_id: str
    deaths: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process that lived through the round held before the load and after it had drained."""

    name: str
    descriptors: tuple[int, int]
    resident_bytes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pending:
    """A row that remained in `deliveries`."""

    webhook_id: int
    event_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class History:
    """One run. What was not recorded is empty, or None."""

    endpoints: tuple[Endpoint, ...] = ()
    publishes: tuple[Publish, ...] = ()
    requests: tuple[Request, ...] = ()
    log: tuple[LogRow, ...] = ()  # ordered by shard and seq
    pending: tuple[Pending, ...] = ()
    watchers: tuple[Watcher, ...] = ()
    faults: tuple[Fault, ...] = ()
    drained_seconds: float | None = 0.0  # from the end of fault and load until nothing was pending; None: never
    undone: tuple[str, ...] = ()  # what a run that has not drained leaves, and what that waits for
    drain_seconds_max: float = 60.0
    attempt_seconds_max: float = 15.0  # how long one request may be open
    exit_statuses: Mapping[str, int] = field(default_factory=dict[str, int])  # of processes that got SIGTERM
    vitals: tuple[Vitals, ...] = ()
    switches: tuple[Switch, ...] = ()  # in order
    poison: Poison | None = None
    asked: tuple[Asked, ...] = ()
    replays: bool = False  # whether a replay ran of which `asked` does not say the deliveries
    shown: tuple[Shown, ...] | None = None
    gone: frozenset[str] = frozenset()  # events that were acknowledged or sent, and that the database does not have
    slowness: float = 1.0  # by how much the machine was slow: tolerances for what takes time are multiplied by it
    stalled_seconds: float = (
        0.0  # the longest that the machine kept waiting who publishes and receives: what is late so
    )
    matched: Mapping[str, Collection[int]] | None = None  # the webhooks that each stored event matched
    clock_seconds: float = 0.05  # between two readings of clocks
    # What a process sent just before it died is taken in by the receiver a little after that, on a busy machine up to
    # some tenths of a second; its successor can't have sent it, who has to wait for the rest of a lease.
    arrival_seconds: float = 1.0
    reaction_seconds: float = 1.0  # from the answer to a change of a webhook until all processes know it
    rate_tolerance: float = 1.05
    late_seconds: float = 0.0  # from where a process counts a request to where its receiver reads the clock

    @property
    def customer_of(self) -> Mapping[int, int]:
        """The customer of each webhook."""
        return {endpoint.webhook_id: endpoint.customer_id for endpoint in self.endpoints}

    def rows_by_delivery(self) -> Mapping[Delivery, Sequence[LogRow]]:
        """The log of each delivery, oldest first."""
        rows: dict[Delivery, list[LogRow]] = defaultdict(list)
        for row in self.log:
            rows[row.delivery].append(row)
        return rows
