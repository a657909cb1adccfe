"""I8: a webhook that is switched off is left alone; and which webhooks an event went to while some were switched."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator

from . import asked
from .history import History, LogRow, Publish, Switch
from .violation import Violation

_REACTION_SECONDS = 1.0  # after the answer
_CLOCK_SECONDS = 0.05


def is_left_alone(history: History) -> Iterator[Violation]:
    """I8: from a second after a webhook was paused, deleted or disabled, no attempt starts until it is resumed."""
    for webhook_id, switches in _by_webhook(history).items():
        for switch, until in _periods(switches):
            since = switch.answered_at + history.slowness * _REACTION_SECONDS
            late = [
                request.arrived_at
                for request in history.requests
                if request.webhook_id == webhook_id and since < request.arrived_at < until
            ]
            if switch.kind != "resumed" and late:
                after = max(late) - switch.answered_at
                yield Violation(
                    "I8",
                    f"webhook {webhook_id} got {len(late)} requests up to {after:.2f} s after it was {switch.kind}",
                )


def what_is_pending_is_cancelled(history: History) -> Iterator[Violation]:
    """I8: what was pending for a webhook that was deleted or disabled ends as cancelled, and nothing else does.

    What was in flight then may still end in another way, for as long as a request may take.
    """
    switches_of = _by_webhook(history)
    for row in history.log:
        ended = [(switch, until) for switch, until in _periods(switches_of[row.webhook_id]) if switch.ends]
        if row.status == "cancelled":
            is_off = any(switch.asked_at - _CLOCK_SECONDS <= row.created_at for switch, _ in ended)
            if not is_off and not asked.may_be_cancelled(history, row):
                yield Violation("I8", f"{_name(row)} was cancelled while the webhook was not switched off")
            continue
        for switch, until in ended:
            since = switch.answered_at + history.slowness * _REACTION_SECONDS + history.attempt_seconds_max
            if since < row.created_at < until:
                yield Violation("I8", f"{_name(row)} became {row.status} long after its webhook was {switch.kind}")


def matched(history: History, publish: Publish) -> tuple[set[int], set[int]]:
    """The webhooks that an acknowledged event surely went to, and those that it may have gone to as well.

    That is not known of a webhook that was switched on or off while the event was being published.
    """
    surely, perhaps = set[int](), set[int]()
    switches_of = _by_webhook(history)
    for endpoint in history.endpoints:
        if endpoint.customer_id != publish.customer_id:
            continue
        states = {True}
        for switch in switches_of[endpoint.webhook_id]:
            if switch.answered_at < publish.asked_at:
                states = {not switch.ends}
            elif switch.asked_at <= publish.answered_at:
                states.add(not switch.ends)
        if states == {True}:
            surely.add(endpoint.webhook_id)
        elif True in states:
            perhaps.add(endpoint.webhook_id)
    return surely, perhaps


def _by_webhook(history: History) -> defaultdict[int, list[Switch]]:
    switches: defaultdict[int, list[Switch]] = defaultdict(list)
    for switch in history.switches:
        switches[switch.webhook_id].append(switch)
    return switches


def _periods(switches: list[Switch]) -> Iterator[tuple[Switch, float]]:
    """Each with the time until which it held."""
    for switch, following in itertools.zip_longest(switches, switches[1:]):
        yield switch, following.asked_at if following is not None else math.inf


def _name(row: LogRow) -> str:
    return f"{row.event_id} to webhook {row.webhook_id}"
