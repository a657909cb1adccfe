"""Work that a process can't try says nothing of the database: without shards to send for, nothing is looked up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.counted_shards import CountedShards
from webhook_grpc.domain.progress import Cause, Progress
from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.duties.replays import Replays
from webhook_grpc.engine.queue.fetcher import Fetcher
from webhook_grpc.engine.shards import Shards

PASSES = 3
NOTHING: Any = SimpleNamespace(start_soon=lambda: None, begin_look=lambda: None, wait=asyncio.sleep)


def fetcher(connection: Any, shards: Shards) -> Awaitable[None]:
    return Fetcher(connection, 0.0, NOTHING, shards, NOTHING, NOTHING, NOTHING).run()


def commands(connection: Any, shards: Shards) -> Awaitable[None]:
    return Commands(connection, 0.0, shards, NOTHING, NOTHING, NOTHING).run()


def replays(connection: Any, shards: Shards) -> Awaitable[None]:
    return Replays(connection, shards, NOTHING, 0.0, 100).run()


@pytest.mark.parametrize("loop", [fetcher, commands, replays])
async def test_the_database_does_not_answer_again_because_nobody_asks(
    loop: Callable[[Any, Shards], Awaitable[None]],
) -> None:
    progress, shards = Progress(), CountedShards()
    running = asyncio.ensure_future(loop(SimpleNamespace(progress=progress), shards))
    [work] = progress._works  # pyright: ignore[reportPrivateUsage]
    work.fail(Cause("no password will do"))
    said = [news.message for now in range(3) for news in progress.advance(now)]
    while shards.looks < PASSES:
        await asyncio.sleep(0)
    said += [news.message for now in range(3, 400) for news in progress.advance(now)]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert said == ["the database fails", "what failed is no longer tried"]
