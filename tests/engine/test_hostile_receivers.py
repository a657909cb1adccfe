"""Every receiver of the catalogue: whatever it does, the delivery ends as it should, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime

import pytest
import uvloop

from tests.engine.hostile.catalogue import CATALOGUE, RETRY_AFTERS, SECRET, Ending, Hostile
from tests.engine.hostile.farm import Farm, running_farm
from tests.engine.hostile.measure import BODY_BYTES_MAX, Measured, measure, trusting
from tests.support import slowness
from tests.support.full import in_full
from webhook_grpc.domain.model import Outcome
from webhook_grpc.domain.retry import RETRY_AFTER_SECONDS_MAX, RetryPolicy, decide, parse_retry_after

OVERDUE_SECONDS_MAX = 2.0  # in turns of the loop, and at most twice what the request had
STALL_SECONDS_MAX = 0.5  # of CPU time

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: Sequence[tuple[str, LoopFactory]] = (("uvloop", uvloop.new_event_loop), ("asyncio", asyncio.new_event_loop))
# In `make test` receivers that follow one another in the catalogue, which are alike, meet the two loops in turn.
MEETINGS = [
    pytest.param(hostile, new_loop, id=f"{hostile.name}-{name}")
    for number, hostile in enumerate(CATALOGUE)
    for name, new_loop in in_full(LOOPS, short=LOOPS[number % 2 :][:1])
]


@pytest.fixture(scope="module")
def farm() -> Generator[Farm]:
    with running_farm() as farm:
        yield farm


@pytest.fixture(scope="module")
def client_context(farm: Farm) -> ssl.SSLContext:
    return trusting(farm)


@pytest.mark.parametrize(("hostile", "loop_factory"), MEETINGS)
def test_a_hostile_receiver_harms_only_its_own_deliveries(
    farm: Farm, client_context: ssl.SSLContext, hostile: Hostile, loop_factory: LoopFactory
) -> None:
    """On the loop of the service, and on the standard one, which differ in what they do with a closing connection."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        measured = runner.run(measure(farm, hostile, client_context))
    result = measured.result
    assert Ending(result.outcome, result.reason, result.response_status) in hostile.ends
    assert_nothing_but_a_body_is_shown(measured)
    assert measured.overdue_seconds < min(OVERDUE_SECONDS_MAX, 2 * measured.seconds_given)
    assert measured.cpu_seconds < slowness.scaled(hostile.cpu_seconds_max)
    assert measured.memory_bytes < hostile.memory_bytes_max
    assert measured.longest_stall_seconds < slowness.scaled(STALL_SECONDS_MAX)
    assert (measured.good.outcome, measured.good.response_body) == (Outcome.SUCCEEDED, measured.good_body)
    assert not measured.sockets_left, "a receiver must not be able to use up our file descriptors"


def assert_nothing_but_a_body_is_shown(measured: Measured) -> None:
    result = measured.result
    assert len(result.response_body) <= BODY_BYTES_MAX
    assert SECRET not in result.response_body
    assert SECRET.decode() not in (result.retry_after or "")
    if result.response_status is None:
        assert (result.response_body, result.retry_after) == (b"", None)
    assert not any(digits in result.reason for digits in ("127.0", "169.254", "Errno"))


def test_the_names_of_the_catalogue_are_unique() -> None:
    """They are the keys of the ports."""
    assert len({hostile.name for hostile in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("value", RETRY_AFTERS, ids=range(len(RETRY_AFTERS)))
def test_no_retry_after_that_a_receiver_makes_up_delays_beyond_a_day(
    farm: Farm, client_context: ssl.SSLContext, value: str
) -> None:
    """As it really arrives: decoded by the client, judged by the schedule."""
    hostile = next(h for h in CATALOGUE if re.match(rf"retry-after-{RETRY_AFTERS.index(value)}(-|$)", h.name))
    result = asyncio.run(measure(farm, hostile, client_context)).result
    now = datetime(2026, 11, 24, tzinfo=UTC)
    asked = parse_retry_after(result.retry_after, now)
    assert asked is None or asked >= 0
    delay = decide(result, 1, RetryPolicy(), now=now, jitter=0.999).retry_in_seconds
    assert delay is not None
    assert 5 * 0.8 <= delay <= RETRY_AFTER_SECONDS_MAX * 1.2
