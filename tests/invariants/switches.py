"""I8: a webhook that is switched off is left alone; and which webhooks an event went to while some were switched."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from . import asked
from .history import Fault, History, Publish, Switch
from .violation import Violation

_CLOCK_SECONDS = 0.05


def is_left_alone(history: History) -> Iterator[Violation]:
    """I8: soon after a webhook was paused, deleted or disabled, no attempt starts until it is resumed."""
    deafening = [fault for fault in history.faults if fault.may_deafen]
    reaction_seconds = history.slowness * history.reaction_seconds
    for webhook_id, switches in by_webhook(history).items():
        requests = [r.arrived_at for r in history.requests if r.webhook_id == webhook_id and not r.is_test]
        for off, until in _times_off(switches):
            late = [at for at in requests if off.answered_at + reaction_seconds < at < until]
            late = [at for at in late if at > _heard_again_at(deafening, at) + reaction_seconds]
            if late:
                after = max(late) - off.answered_at
                yield Violation(
                    "I8", f"webhook {webhook_id} got {len(late)} requests up to {after:.2f} s after it was {off.kind}"
                )


def only_what_is_off_is_cancelled(history: History) -> Iterator[Violation]:
    """I8: a delivery is cancelled while its webhook is deleted or disabled, or because somebody asked for it."""
    switches_of = by_webhook(history)
    for row in history.log:
        if row.status != "cancelled":
            continue
        is_off = any(
            switch.asked_at - _CLOCK_SECONDS <= row.created_at
            and (following is None or row.created_at <= following.answered_at + _CLOCK_SECONDS)
            for switch, following in periods(switches_of[row.webhook_id])
            if switch.ends
        )
        if not is_off and not asked.may_be_cancelled(history, row):
            yield Violation(
                "I8", f"{row.event_id} to webhook {row.webhook_id} was cancelled while the webhook was not switched off"
            )


def matched(history: History, publish: Publish) -> tuple[set[int], set[int]]:
    """The webhooks that an acknowledged event surely went to, and those that it may have gone to as well.

    That is not known of a webhook that was switched on or off while the event was being published, unless the history
    says to which webhooks it went.
    """
    if history.matched is not None:
        return set(history.matched.get(publish.event_id or "", ())), set()
    surely, perhaps = set[int](), set[int]()
    switches_of = by_webhook(history)
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


def by_webhook(history: History) -> defaultdict[int, list[Switch]]:
    switches: defaultdict[int, list[Switch]] = defaultdict(list)
    for switch in history.switches:
        switches[switch.webhook_id].append(switch)
    return switches


def periods(switches: Sequence[Switch]) -> Iterator[tuple[Switch, Switch | None]]:
    """Each with the one that followed it."""
    return itertools.zip_longest(switches, switches[1:])


def _times_off(switches: Sequence[Switch]) -> Iterator[tuple[Switch, float]]:
    """Each switch after which nothing was sent, and until when."""
    off: Switch | None = None
    for switch in switches:
        if switch.kind != "resumed":
            off = off or switch
        elif off is not None:
            yield off, switch.asked_at
            off = None
    if off is not None:
        yield off, math.inf


def _heard_again_at(deafening: Sequence[Fault], at: float) -> float:
    """The end of the last fault that began before, and kept processes from knowing what changes."""
    return max((fault.ended_at for fault in deafening if fault.started_at <= at), default=-math.inf)
