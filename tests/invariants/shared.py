"""The invariants that the checker of faults and the simulation of the engine share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from . import asked, log, publications, requests, resends, switches
from .history import History
from .violation import Violation

Invariant = Callable[[History], Iterator[Violation]]

OF_THE_LOG: Final[Sequence[Invariant]] = (
    log.log_is_dense,
    log.attempts_are_numbered,
    log.deliveries_end_once,
    log.restarts_are_for_one_attempt,
    publications.nothing_is_lost,
)
"""Hold after each statement: the store's state machine checks them too."""

SHARED: Final[Sequence[Invariant]] = (
    *OF_THE_LOG,
    requests.succeeded_was_received,
    requests.not_too_early,
    requests.rate_is_limited,
    resends.only_after_faults,
    switches.is_left_alone,
    switches.only_what_is_off_is_cancelled,
    asked.is_done_once,
    asked.cancelled_is_left_alone,
)


def violations(history: History, invariants: Sequence[Invariant] = SHARED) -> list[Violation]:
    """Whatever in this history breaks one of these."""
    return [violation for invariant in invariants for violation in invariant(history)]
