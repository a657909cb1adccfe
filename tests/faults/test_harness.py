"""What a round says of a scenario that failed."""

from __future__ import annotations

import asyncio

import pytest

from .harness import failure

pytestmark = pytest.mark.fast


async def test_a_failure_names_the_function_of_the_suite_that_waited_not_the_library_that_gave_up() -> None:
    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    assert failure(raised.value).sentence.startswith("TimeoutError in test_a_failure_names_the_function")
