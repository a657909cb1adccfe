"""The database comes back older than it was: its server is stopped, and one is started on a base backup of before.

Nobody renames the log by hand, and no process is restarted: they have to notice it by themselves. What was acknowledged
before the backup is delivered and seen; what came after it is lost, but for what its publishers repeat. Watchers, whose
cursors lie in what is gone, are refused, and begin again with the first change that the database has.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tests.support import slowness

from .database import log_rows, stored_events
from .distribution import DistributionServer
from .harness import Round
from .refusals import until_taken
from .scenario import Scenario
from .workload import OTHER_LOG

_SECONDS_MAX: Final = 20.0
_NOTICED: Final = "the database has lost what was committed"


async def come_back_older(round_: Round) -> None:
    """Backs up under load, waits until much has happened since, and puts the backup in the place of the data."""
    server = round_.server
    assert isinstance(server, DistributionServer)
    names = sorted(round_.cluster.running)
    await asyncio.sleep(round_.seconds / 3)  # load before the backup
    with round_.fault("backup restored", may_duplicate=True, may_overlap=True, may_forget=True):
        await asyncio.to_thread(server.back_up)
        backed_up_at = time.time()
        await _until_watchers_know_of_events_since(round_, backed_up_at)
        before = await asyncio.to_thread(log_rows, round_.database_url)
        acknowledged = _acknowledged(round_, backed_up_at)
        await asyncio.to_thread(server.come_back_older)
        await asyncio.gather(*(until_taken(round_, name) for name in names))
        await _until_watchers_are_refused(round_)
    stored = await asyncio.to_thread(stored_events, round_.database_url)
    kept = {(row.shard, row.seq, row.event_id) for row in await asyncio.to_thread(log_rows, round_.database_url)}
    assert acknowledged - stored, "no acknowledged event has vanished"
    assert [row for row in before if (row.shard, row.seq, row.event_id) not in kept], "no change has vanished"
    async with slowness.timeout(_SECONDS_MAX):
        while not any(round_.logged(name, _NOTICED) for name in names):  # it is said after the watchers are refused
            await asyncio.sleep(0.02)  # a log file gives no signal
    await asyncio.sleep(round_.seconds / 2)  # load after it


def _acknowledged(round_: Round, since: float) -> set[str]:
    """Returns the events that were asked for after a time, and acknowledged."""
    return {
        publish.event_id
        for publisher in round_.publishers
        for publish in publisher.history
        if publish.event_id is not None and publish.asked_at > since
    }


async def _until_watchers_know_of_events_since(round_: Round, since: float) -> None:
    """Waits until each watcher has seen an event that the backup does not have: its cursor is beyond the backup."""
    async with slowness.timeout(_SECONDS_MAX):
        for watcher in round_.watchers:
            while not {told.event_id for told in watcher.told} & _acknowledged(round_, since):
                await asyncio.sleep(0.02)  # what a watcher has noted gives no signal


async def _until_watchers_are_refused(round_: Round) -> None:
    """Waits until each watcher was told that its cursor is of another log."""
    async with slowness.timeout(_SECONDS_MAX):
        for watcher in round_.watchers:
            while OTHER_LOG not in watcher.refusals:
                await asyncio.sleep(0.02)  # what a watcher has noted gives no signal


SCENARIOS: Final = (Scenario("backup restored", come_back_older, restored=True),)
