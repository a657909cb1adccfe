"""A Postgres whose clock can be stepped while it runs: the distribution's, with libfaketime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from psycopg.conninfo import make_conninfo

from tests.support.distribution import need_faketime
from tests.support.postgres import query
from tests.support.store import options
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.partitions import ensure_partitions

from .database import TEMPLATE
from .distribution import DistributionServer

_NEAR_SECONDS = 30.0  # far less than any step


class SteppedServer(DistributionServer):
    """Skips the test where the distribution's programs are missing, when it is started."""

    @classmethod
    def need(cls) -> None:
        """Skips the test where something is missing that this kind of server needs."""
        super().need()
        need_faketime()

    def start(self) -> None:
        """Starts it and makes the template of all databases, with the partitions of the days around now."""
        self.set_clock(0)
        super().start()
        asyncio.run(_make_partitions(make_conninfo(self.url, dbname=TEMPLATE)))

    def set_clock(self, seconds: float) -> None:
        """From the next reading on, the server's clock is so far ahead of this machine's, or behind it."""
        written = self._directory / "clock.new"
        written.write_text(f"{seconds:+g}\n")
        written.rename(self._directory / "clock")

    def check_clock(self, seconds: float) -> None:
        """Fails unless the server's clock is so far ahead of this machine's."""
        [(at,)] = query(self.url, "SELECT extract(epoch FROM clock_timestamp())::float8")
        ahead = at - time.time()
        assert abs(ahead - seconds) < _NEAR_SECONDS, f"the database's clock is {ahead:+g} s ahead, not {seconds:+g} s"

    def _environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": need_faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._directory / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


async def _make_partitions(url: str) -> None:
    database = Database(options(url))
    await database.open()
    try:
        await ensure_partitions(database)
    finally:
        await database.close()
