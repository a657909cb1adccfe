"""What time does to a connection of HTTP/2: a table of what has happened, and what is due then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import pytest

from webhook_grpc.server.grpc.http2.lifetime import (
    AGE_GRACE_SECONDS,
    CLOGGED_SECONDS_MAX,
    CLOSE_SECONDS_MAX,
    PING_SECONDS_MAX,
    SETTINGS_SECONDS_MAX,
    SILENT_SECONDS_MAX,
    UNTAKEN_SECONDS_MAX,
    Lifetime,
    Step,
    is_given_up,
)

IDLE: Final = 100.0
AGE: Final = 1000.0

Happening = Callable[[Lifetime], object]


def heard(now: float) -> Happening:
    """Something of the client comes: at first its settings."""

    def happen(lifetime: Lifetime) -> None:
        lifetime.hear(now)
        lifetime.hear_whole()
        lifetime.has_settings = True

    return happen


def trickled(now: float) -> Happening:
    """A part of a frame, or of a header block, comes."""
    return lambda lifetime: lifetime.hear(now)


def clogged(now: float) -> Happening:
    return lambda lifetime: lifetime.clog(now)


def unclogged(lifetime: Lifetime) -> None:
    lifetime.unclog()


def idle(now: float) -> Happening:
    return lambda lifetime: lifetime.become_idle(now)


def drained(now: float) -> Happening:
    return lambda lifetime: lifetime.drain(now)


def refused(lifetime: Lifetime) -> None:
    lifetime.refuse()


def ended(now: float) -> Happening:
    return lambda lifetime: lifetime.end(now)


def looked(now: float) -> Happening:
    return lambda lifetime: lifetime.due(now, has_streams=True)


LEFT_SECONDS: Final = AGE_GRACE_SECONDS + UNTAKEN_SECONDS_MAX
BUSY: Final = True
EMPTY: Final = False
ASKED: Final = SILENT_SECONDS_MAX + 1
LATE: Final = 0.1  # seconds beyond a bound, and before it

Case = tuple[str, Sequence[Happening], float, bool, Sequence[Step]]

CASES: Final[Sequence[Case]] = [
    ("new", [], 0, EMPTY, []),
    ("settings may still come", [], SETTINGS_SECONDS_MAX, EMPTY, []),
    ("no settings", [], SETTINGS_SECONDS_MAX + LATE, EMPTY, [Step.DROP]),
    ("quiet for a while", [heard(0)], SILENT_SECONDS_MAX, BUSY, []),
    ("silent", [heard(0)], SILENT_SECONDS_MAX + LATE, BUSY, [Step.ASK]),
    ("asked, and may still answer", [heard(0), looked(ASKED)], ASKED + PING_SECONDS_MAX, BUSY, []),
    ("asked, and silent", [heard(0), looked(ASKED)], ASKED + PING_SECONDS_MAX + LATE, BUSY, [Step.DROP]),
    ("asked, and heard", [heard(0), looked(ASKED), heard(ASKED + 1)], ASKED + PING_SECONDS_MAX + LATE, BUSY, []),
    (
        "asked, heard, and silent again",
        [heard(0), looked(ASKED), heard(ASKED + 1)],
        ASKED + 1 + SILENT_SECONDS_MAX + LATE,
        BUSY,
        [Step.ASK],
    ),
    ("half a frame", [heard(0), trickled(SILENT_SECONDS_MAX)], SILENT_SECONDS_MAX + LATE, BUSY, [Step.ASK]),
    (
        "asked, and only parts come",
        [heard(0), looked(ASKED), trickled(ASKED + PING_SECONDS_MAX)],
        ASKED + PING_SECONDS_MAX + LATE,
        BUSY,
        [Step.DROP],
    ),
    ("takes nothing for a while", [heard(0), clogged(0), heard(29)], CLOGGED_SECONDS_MAX, BUSY, []),
    ("takes nothing", [heard(0), clogged(0), heard(29)], CLOGGED_SECONDS_MAX + LATE, BUSY, [Step.DROP]),
    ("takes again", [heard(0), clogged(0), unclogged, heard(29)], CLOGGED_SECONDS_MAX + LATE, BUSY, []),
    ("without a stream", [heard(99)], IDLE, EMPTY, []),
    ("idle", [heard(99)], IDLE + LATE, EMPTY, [Step.DRAIN]),
    ("idle and silent", [heard(0)], IDLE + LATE, EMPTY, [Step.ASK, Step.DRAIN]),
    ("idle since its last stream", [heard(99), idle(99)], IDLE + LATE, EMPTY, []),
    ("with a stream", [heard(99), idle(0)], IDLE + LATE, BUSY, []),
    ("old", [heard(999)], AGE + LATE, BUSY, [Step.DRAIN]),
    ("drained a moment ago", [heard(0), drained(0)], CLOSE_SECONDS_MAX, BUSY, []),
    ("drained, and does not answer", [heard(0), drained(0)], CLOSE_SECONDS_MAX + LATE, BUSY, [Step.REFUSE]),
    ("takes no streams any more", [heard(0), drained(0), refused], CLOSE_SECONDS_MAX + LATE, BUSY, []),
    ("the grace for streams", [heard(50), drained(0), refused], AGE_GRACE_SECONDS, BUSY, []),
    ("the grace is over", [heard(50), drained(0), refused], AGE_GRACE_SECONDS + LATE, BUSY, [Step.LEAVE]),
    ("silent when it is over", [heard(0), drained(0)], AGE_GRACE_SECONDS + LATE, BUSY, [Step.ASK, Step.LEAVE]),
    ("streams had time to end", [heard(60), drained(0), refused], LEFT_SECONDS + LATE, BUSY, [Step.CLOSE]),
    ("ended", [heard(0), ended(0)], CLOSE_SECONDS_MAX, BUSY, []),
    ("ended, and does not close", [heard(0), ended(0)], CLOSE_SECONDS_MAX + LATE, BUSY, [Step.DROP]),
    ("ended twice", [heard(0), ended(0), ended(5)], CLOSE_SECONDS_MAX + LATE, BUSY, [Step.DROP]),
    ("ended while it was drained", [heard(0), drained(0), ended(59)], AGE_GRACE_SECONDS + LATE, BUSY, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("happenings", "now", "has_streams", "due"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_step_is_due_when_its_time_has_come_and_not_before(
    happenings: Sequence[Happening], now: float, has_streams: bool, due: Sequence[Step]
) -> None:
    lifetime = Lifetime(0.0, IDLE, AGE)
    for happen in happenings:
        happen(lifetime)
    assert [one.step for one in lifetime.due(now, has_streams=has_streams)] == due


def test_a_connection_is_drained_once_and_refuses_streams_only_then() -> None:
    lifetime = Lifetime(0.0, IDLE, AGE)
    assert not lifetime.refuse(), "whoever acknowledges a ping that was not sent does not end a connection"
    assert [lifetime.drain(1), lifetime.drain(2)] == [True, False]
    assert [lifetime.refuse(), lifetime.refuse()] == [True, False]


def test_a_connection_that_has_ended_is_not_drained() -> None:
    lifetime = Lifetime(0.0, IDLE, AGE)
    lifetime.end(1)
    assert not lifetime.drain(2)


@pytest.mark.parametrize(
    ("now", "sent_at", "may_send", "expected"),
    [
        (UNTAKEN_SECONDS_MAX, 0.0, False, False),
        (UNTAKEN_SECONDS_MAX + LATE, UNTAKEN_SECONDS_MAX, False, True),
        (UNTAKEN_SECONDS_MAX + LATE, UNTAKEN_SECONDS_MAX, True, False),
        (UNTAKEN_SECONDS_MAX + LATE, 0.0, True, True),
    ],
    ids=["it may still be taken", "its own window is used up", "it waits for its turn", "nothing of any is taken"],
)
def test_an_answer_is_given_up_when_nothing_of_it_is_taken(
    now: float, sent_at: float, may_send: bool, expected: bool
) -> None:
    assert is_given_up(now, 0.0, sent_at, may_send=may_send) is expected
