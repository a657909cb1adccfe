"""I13: whoever watches the log is told all of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.invariants.history import History, LogRow, Told, Watcher
from tests.invariants.violation import Violation

Change = tuple[str, int, str]  # event id, attempts made, status


def watchers_were_told_the_log(history: History) -> Iterator[Violation]:
    """I13: a watcher that joined before the first event and resumes by its cursor is told exactly the log.

    In order for each webhook, without a gap; a change comes twice only at once after a resume.
    """
    for watcher in history.watchers:
        told: dict[int, list[Told]] = defaultdict(list)
        for change in watcher.told:
            told[change.webhook_id].append(change)
        log: dict[int, list[LogRow]] = defaultdict(list)
        for row in history.log:  # a webhook lies in one shard, so this is its order
            if history.customer_of.get(row.webhook_id) == watcher.customer_id:
                log[row.webhook_id].append(row)
        for webhook_id in sorted(told.keys() | log.keys()):
            yield from _compared(watcher, webhook_id, told[webhook_id], log[webhook_id])


def _compared(watcher: Watcher, webhook_id: int, told: Sequence[Told], log: Sequence[LogRow]) -> Iterator[Violation]:
    where = f"watcher {watcher.name}, webhook {webhook_id}"
    places: dict[Change, list[int]] = defaultdict(list)  # more than one: it was rescheduled
    for number, row in enumerate(log):
        places[row.event_id, row.attempt_count, row.status].append(number)
    possible, stream = {0}, 0  # the places that may be next: what follows shows which of equal changes it was
    for change in told:
        found = places.get((change.event_id, change.attempt_count, change.status))
        if found is None:
            yield Violation("I13", f"{where}: told what the log does not have: {change}")
            continue
        resumed, stream = change.stream != stream, change.stream
        fitting = {number for number in found if number in possible or (resumed and number <= max(possible))}
        if not fitting:
            expected = max(possible)
            index = next((number for number in found if number >= expected), found[-1])
            if index < expected:
                yield Violation("I13", f"{where}: told again or out of order without a resume: {change}")
                continue
            yield Violation("I13", f"{where}: {index - expected} changes left out before {change}", index - expected)
            fitting = {index}
        possible = {number + 1 for number in fitting}
    expected = max(possible)
    if expected < len(log):
        yield Violation("I13", f"{where}: the last {len(log) - expected} changes not told", len(log) - expected)
