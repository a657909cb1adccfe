"""A Postgres whose clock can be stepped while it runs: the distribution's, with libfaketime."""

from __future__ import annotations

import asyncio

from tests.support.distribution import DistributionPostgres, need_faketime
from tests.support.postgres import query
from tests.support.store import options
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions

from .database import CONNECTIONS_MAX, TEMPLATE, DatabaseServer


class SteppedServer(DatabaseServer):
    """Skips the test where the distribution's programs are missing, when it is started."""

    _postgres: DistributionPostgres

    def start(self) -> None:
        """Starts it and makes the template of all databases, with the partitions of the days around now."""
        self._directory.chmod(0o755)  # Postgres runs as another user
        self.set_clock(0)
        self._postgres = DistributionPostgres(
            {"max_connections": str(CONNECTIONS_MAX)},
            {
                "LD_PRELOAD": need_faketime(),
                "FAKETIME_TIMESTAMP_FILE": str(self._directory / "clock"),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
        )
        self.url = self._postgres.url
        query(self.url, "CREATE DATABASE webhook_faults_template")
        url = self._postgres.url.replace("dbname=postgres", f"dbname={TEMPLATE}")
        migrate(url)
        asyncio.run(_make_partitions(url))

    def stop(self) -> None:
        """Stops it and removes its folder."""
        self._postgres.remove()
        super().stop()

    def crash(self) -> None:
        """Stops it without a checkpoint."""
        self._postgres.stop("immediate")

    def stop_fast(self) -> None:
        """Stops it as for a restart."""
        self._postgres.stop("fast")

    def start_again(self) -> None:
        """Starts it after a crash, with whatever clock was set."""
        self._postgres.start()

    def set_clock(self, seconds: float) -> None:
        """From the next reading on, the server's clock is so far ahead of this machine's, or behind it."""
        written = self._directory / "clock.new"
        written.write_text(f"{seconds:+g}\n")
        written.rename(self._directory / "clock")

    @property
    def socket_path(self) -> str:
        """The Unix socket that it listens on."""
        return f"{self._postgres.data.parent}/.s.PGSQL.{self._postgres.port}"


async def _make_partitions(url: str) -> None:
    database = Database(options(url))
    await database.open()
    try:
        await ensure_partitions(database)
    finally:
        await database.close()
