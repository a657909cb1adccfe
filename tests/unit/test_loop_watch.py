"""An event loop that stands still is not silent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Generator

import pytest
import structlog

from tests.support import slowness
from tests.support.symptoms import Line
from webhook_grpc.process.log.loop_watch import LoopWatch

STANDS_STILL_SECONDS = 0.2


class Heard:
    """What was logged, which another thread may wait for."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._changed = threading.Condition()

    def __call__(self, _: object, method: str, line: Line) -> Line:
        with self._changed:
            self.lines.append({**line, "log_level": method})
            self._changed.notify_all()
        raise structlog.DropEvent

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, slowness.scaled(20))


@pytest.fixture
def heard() -> Generator[Heard]:
    heard, config = Heard(), structlog.get_config()
    structlog.configure(processors=[heard])
    yield heard
    structlog.configure(**config)


@pytest.mark.symptom("loop", "loop moves")
async def test_a_loop_that_stands_still_is_reported_with_the_place_and_once_more_when_it_moves(
    heard: Heard, symptoms: list[Line]
) -> None:
    watch = asyncio.create_task(LoopWatch(STANDS_STILL_SECONDS).run())
    await asyncio.sleep(0)

    def never_give_way() -> None:
        heard.wait_for(1)

    never_give_way()
    await asyncio.to_thread(heard.wait_for, 2)
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch

    symptoms += heard.lines
    still, moving = heard.lines
    assert (still["event"], moving["event"]) == ("the event loop stands still", "the event loop moves again")
    assert "never_give_way" in [frame["name"] for frame in still["frames"]]
    assert moving["seconds"] >= STANDS_STILL_SECONDS


@pytest.mark.slow(2)
async def test_a_loop_that_moves_is_not_reported(heard: Heard) -> None:
    watch = asyncio.create_task(LoopWatch(slowness.scaled(STANDS_STILL_SECONDS) * 5).run())
    ends_at = time.monotonic() + slowness.scaled(STANDS_STILL_SECONDS) * 10
    while time.monotonic() < ends_at:
        await asyncio.sleep(0.01)
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch
    assert not heard.lines
