"""What a round says of a scenario that failed, and what it makes of a plan on a slow machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support import slowness

from .crowd import batch_events
from .endpoints import EndpointPlan
from .harness import failure
from .participants import at_this_pace

pytestmark = pytest.mark.fast


async def test_a_failure_names_the_function_of_the_suite_that_waited_not_the_library_that_gave_up() -> None:
    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    assert failure(raised.value).sentence.startswith("TimeoutError in test_a_failure_names_the_function")


def test_a_slow_machine_has_more_slots_where_none_may_be_late_and_less_to_do_in_the_time_of_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited, prompt = EndpointPlan(1, in_flight_max=2, rate_limit=40), EndpointPlan(1, in_flight_max=2, prompt=True)
    for slower, rate_limit, in_flight_max, events in ((1.0, 40, 2, 100), (4.0, 10, 8, 50)):
        monkeypatch.setattr(slowness, "_ratio", slower)
        assert at_this_pace(limited) == EndpointPlan(1, in_flight_max=2, rate_limit=rate_limit)
        assert at_this_pace(prompt).in_flight_max == in_flight_max
        assert at_this_pace(replace(prompt, in_flight_max=60)).in_flight_max <= 100, "more can't be registered"
        assert batch_events() == events
