"""The slots of hosts: a host gets so many requests at once, whoever's webhooks lead there.

Customers whose lanes wait for a slot take turns, and no customer may have all slots of a host: slow answers to one
customer leave slots for another customer's deliveries to the same host.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from webhook_grpc.domain.record import record

from .lane import Lane, Turn


@record
class HostLimits:
    """How many requests are in flight to one host at once, and which share of those one customer may have."""

    in_flight_max: int
    customer_share: float = 1.0

    @property
    def customer_in_flight_max(self) -> int:
        """One at least; with a share below 1, as soon as there are two slots, not all."""
        return max(1, math.floor(self.in_flight_max * self.customer_share))


@dataclass(slots=True)
class _Host:
    in_flight: int = 0
    of_customers: Counter[int] = field(default_factory=Counter[int])  # those in flight
    waiting: dict[int, deque[Lane]] = field(default_factory=dict[int, deque[Lane]])  # by customer, the next one first

    def next_customer(self, customer_max: int) -> int | None:
        """Returns whose turn it is of the customers that wait and may have one more."""
        return next((customer for customer in self.waiting if self.of_customers[customer] < customer_max), None)


class Hosts:
    """All hosts that have requests in flight. Writes which host a lane waits for."""

    def __init__(self, limits: HostLimits) -> None:
        self._in_flight_max = limits.in_flight_max
        self._customer_max = limits.customer_in_flight_max
        self._hosts: dict[str, _Host] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def has_slot(self, lane: Lane) -> bool:
        """Returns whether a request of the lane may be started, as far as its host is concerned."""
        host = self._hosts.get(lane.host)
        if host is None:
            return True
        return host.in_flight < self._in_flight_max and host.of_customers[lane.customer_id] < self._customer_max

    def started(self, lane: Lane) -> None:
        """Notes a request of the lane."""
        host = self._hosts.get(lane.host)
        if host is None:
            host = self._hosts[lane.host] = _Host()
        host.in_flight += 1
        host.of_customers[lane.customer_id] += 1

    def ended(self, turn: Turn) -> None:
        """Notes that the request of a turn has ended. It counts where it went, wherever its lane leads now."""
        assert turn.host is not None  # it was started
        host, customer_id = self._hosts[turn.host], turn.lane.customer_id
        host.in_flight -= 1
        host.of_customers[customer_id] -= 1
        if not host.of_customers[customer_id]:
            del host.of_customers[customer_id]

    def wait(self, lane: Lane) -> None:
        """Lets a lane wait for a slot of its host, behind those of its customer that wait already."""
        if lane.waits_for != lane.host:
            lane.waits_for = lane.host
            self._hosts[lane.host].waiting.setdefault(lane.customer_id, deque()).append(lane)

    def free(self, name: str) -> int:
        """Returns how many slots of a host are free."""
        host = self._hosts.get(name)
        return self._in_flight_max - host.in_flight if host is not None else 0

    def take_waiting(self, name: str) -> Lane | None:
        """Returns the lane whose turn it is at a host, and lets it wait no longer; then it is other customers' turn."""
        host = self._hosts[name]
        while (customer_id := host.next_customer(self._customer_max)) is not None:
            lanes = host.waiting.pop(customer_id)
            lane = lanes.popleft()
            if lanes:
                host.waiting[customer_id] = lanes
            if lane.waits_for == name:  # otherwise it has moved
                lane.waits_for = None
                return lane
        return None

    def is_owed(self, name: str) -> bool:
        """Returns whether a host has a free slot and somebody who waits for it. Forgets a host that has neither."""
        host = self._hosts.get(name)
        if host is None:
            return False
        if not host.in_flight and not host.waiting:
            del self._hosts[name]
        return host.in_flight < self._in_flight_max and host.next_customer(self._customer_max) is not None
