"""What failed while its shards were ours, and is nobody's business since: the log closes the line of its failure."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import slowness
from tests.support.counted_shards import CountedShards
from tests.support.postgres import TestPostgres
from tests.support.store import options
from tests.support.symptoms import Line
from webhook_grpc.engine.duties.commands import Commands
from webhook_grpc.engine.health.monitor import Monitor
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.ownership.leases import OwnedShard

NOTHING: Any = SimpleNamespace()


async def set_serving(_: str, __: bool) -> None:
    """Takes the state of health, which nobody reads here."""


def look(_: float) -> None:
    """Nothing stands still."""


@pytest.mark.symptom("untried")
async def test_work_whose_shards_were_given_up_while_it_failed_gets_a_line_that_closes(
    postgres: TestPostgres, symptoms: list[Line]
) -> None:
    opts = replace(options(postgres.url), schema="without_our_tables")
    connection, shards = LoopConnection(opts, "commands"), CountedShards()
    shards.owned, shards.send_until = {1: OwnedShard(1, 0)}, time.monotonic() + slowness.scaled(60)
    played: Any = SimpleNamespace(look=look, shards=shards)
    monitor = Monitor(opts.progress, played, played, set_serving)
    running = asyncio.ensure_future(Commands(connection, 0.01, shards, NOTHING, NOTHING, NOTHING).run())
    async with slowness.timeout(20):
        while not symptoms:
            await asyncio.sleep(0.01)  # the loop fails by itself
            await monitor.look(0)
        shards.owned, looks = {}, shards.looks
        while shards.looks == looks:
            await asyncio.sleep(0.01)  # until the last try has ended
    for seconds in range(400):
        await monitor.look(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await connection.close()
    said = [(line["event"], line["work"]) for line in symptoms if line["event"] != "health changed"]
    assert said == [
        ("the database fails", "look for commands"),
        ("what failed is no longer tried", "look for commands"),
    ]
