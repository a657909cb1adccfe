"""I4, I10: what the log may say of a shard, and of a delivery."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from .history import ENDINGS, History
from .violation import Violation


def log_is_dense(history: History) -> Iterator[Violation]:
    """I10: in each shard `seq` counts 1, 2, 3 …: no hole and no number twice.

    A process that settles for a shard which is not its own any more writes a number that its new owner has used.
    """
    seqs: dict[int, list[int]] = defaultdict(list)
    for row in history.log:
        seqs[row.shard].append(row.seq)
    for shard, numbers in seqs.items():
        wrong = len(set(range(1, len(numbers) + 1)) ^ set(numbers)) + len(numbers) - len(set(numbers))
        if wrong:
            yield Violation("I10", f"the log of shard {shard} is not dense: {_around_first_flaw(numbers)}", wrong)


def attempts_are_numbered(history: History) -> Iterator[Violation]:
    """I4: the attempts of a delivery are logged as 1, 2, 3 …, each once, and no more of them than its schedule has.

    A crash may count an attempt that the receiver never saw; it never makes a number come twice. A restart is not the
    schedule's.
    """
    attempts_max = {endpoint.webhook_id: len(endpoint.delays_seconds) + 1 for endpoint in history.endpoints}
    for delivery, rows in history.rows_by_delivery().items():
        numbers = [row.attempt_count for row in rows if row.outcome is not None]
        if numbers != list(range(1, len(numbers) + 1)):
            yield Violation("I4", f"{delivery}: attempts logged as {numbers}")
        scheduled = [row.attempt_count for row in rows if row.outcome is not None and row.trigger == "scheduled"]
        if len(scheduled) > attempts_max.get(delivery[0], 0):
            yield Violation("I4", f"{delivery}: {len(scheduled)} attempts are more than its schedule has")


def deliveries_end_once(history: History) -> Iterator[Violation]:
    """I4: nothing follows an ending but a restart, and a restart follows nothing else, unless it comes first.

    It comes first when an event is replayed to a webhook that did not get it at the time.
    """
    for delivery, rows in history.rows_by_delivery().items():
        if any((row.status in ENDINGS) != after.is_restart for row, after in itertools.pairwise(rows)):
            yield Violation("I4", f"{delivery} did not end once: {[(row.trigger, row.status) for row in rows]}")


def restarts_are_for_one_attempt(history: History) -> Iterator[Violation]:
    """I15: the row after a restart ends the delivery, and names the same trigger; no other row but a test's does."""
    for delivery, rows in history.rows_by_delivery().items():
        trigger = "scheduled"
        for row in rows:
            trigger = row.trigger if row.is_restart else trigger
            if row.trigger not in {trigger, "test"}:
                yield Violation("I15", f"{delivery} became {row.status} by {row.trigger}, not by {trigger}")
            if trigger != "scheduled" and row.status == "pending" and not row.is_restart:
                yield Violation("I15", f"{row} is to be tried again, though it was restarted for one attempt")


def _around_first_flaw(numbers: Sequence[int]) -> str:
    at = next((index for index, number in enumerate(numbers) if number != index + 1), len(numbers))
    return f"… {', '.join(map(str, numbers[max(0, at - 3) : at + 4]))} …"
