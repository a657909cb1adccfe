"""A fault and the load that it meets, as plain values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .endpoints import DEFAULT_PLAN, DELAYS_SECONDS, EndpointPlan

if TYPE_CHECKING:
    from .harness import Round


DRAIN_PATIENCE: Final = 5
"""How many times its `drain_seconds_max` a round may need to drain, as long as more and more ends."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a round is made of."""

    name: str
    inject: Callable[[Round], Awaitable[None]]
    plan: tuple[EndpointPlan, ...] = DEFAULT_PLAN
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    first: Mapping[str, str] = field(default_factory=dict[str, str])  # faults of the first process, see faulty.py
    others: Mapping[str, str] = field(default_factory=dict[str, str])  # and of the others
    processes: int = 2
    proxied: bool = False
    publishers_per_customer: int = 3
    gap_seconds: float = 0.08
    needs_load: bool = False  # shows only under all of its load; of the others pytest halves that
    quiet_customer: int | None = None  # publishes two events a second
    delays_seconds: tuple[float, ...] = DELAYS_SECONDS  # of the service
    watchers_per_customer: int = 1
    reconnect_seconds: float | None = None
    away_seconds: float = 0.05
    drain_seconds_max: float = 10.0  # without that anything more ends
    told_seconds_max: float = 5.0  # after that, until the watchers were told everything
    short_seconds: float = 2.5  # in pytest; `make faults` and `make test-long` take longer
    stepped: bool = False  # needs a SteppedServer; the database's clock is no measure then
    small_disk: bool = False  # its database is on a small disk of a SteppedServer's
    restored: bool = False  # its database comes back as a SteppedServer's backup has it; watchers then begin again
    replicated: bool = False  # needs a ReplicatedServer; the first process has both addresses, the others a name
    begins_before: bool = False  # with the version before, on its schema

    @property
    def is_on_stepped_server(self) -> bool:
        """Whether it runs on a SteppedServer, whose clock and disk and data a fault may change."""
        return self.stepped or self.small_disk or self.restored
