"""A deployment of this version over the one before, and the way back: load goes on all the time.

The version before is a real one, from the commit before the newest migration came (`tests/support/earlier.py`).
"""

from __future__ import annotations

import asyncio

from webhook_grpc.store.schema.migrate import migrate

from .harness import Round
from .scenario import Scenario


async def upgrade_and_go_back(round_: Round) -> None:
    """Migrates beside the version before, puts this one beside it, then instead of it, and the one before instead.

    So both run side by side, the version before starts on the newer schema, delivers what was published under the newer
    one, and goes on with its watchers. Nothing excuses a duplicate.
    """
    await asyncio.sleep(round_.seconds / 3)
    with round_.fault("migrate"):
        await asyncio.to_thread(migrate, round_.database_url)
    before = sorted(round_.cluster.running)
    newer = await round_.cluster.start()
    await asyncio.sleep(round_.seconds / 3)
    with round_.fault("SIGTERM"):
        await asyncio.gather(*map(round_.cluster.terminate, before))
    await asyncio.sleep(round_.seconds / 3)
    await round_.start_earlier()
    await asyncio.sleep(round_.seconds / 3)
    with round_.fault("SIGTERM"):
        await round_.cluster.terminate(newer)
    await asyncio.sleep(round_.seconds / 3)


SCENARIOS = (Scenario("upgrade and back", upgrade_and_go_back, begins_before=True, processes=1),)
