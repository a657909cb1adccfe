"""The distribution's Postgres for the suite: with JIT and its own settings, and with a small disk that can be full."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support import small_disk
from tests.support.distribution import DistributionPostgres, need_postgres
from tests.support.postgres import query
from webhook_grpc.store.schema.migrate import migrate

from .database import CONNECTIONS_MAX, TEMPLATE, DatabaseServer

_SMALL_DISK_BYTES: Final = 64 << 20  # a database has 15 MB at the start of a round
_TABLESPACE: Final = "webhook_faults_small"


class DistributionServer(DatabaseServer):
    """Skips the test where the distribution's programs are missing, when it is started."""

    _postgres: DistributionPostgres

    @classmethod
    def need(cls) -> None:
        """Skips the test where something is missing that this kind of server needs."""
        need_postgres()

    def start(self) -> None:
        """Starts it and makes the template of all databases."""
        self._directory.chmod(0o755)  # Postgres runs as another user
        self._postgres = DistributionPostgres(
            {"max_connections": str(CONNECTIONS_MAX)},
            self._environment(),
            small_disk_bytes=_SMALL_DISK_BYTES if small_disk.can_be_made() else None,
        )
        self.url = self._postgres.url
        query(self.url, "CREATE DATABASE webhook_faults_template")
        migrate(make_conninfo(self.url, dbname=TEMPLATE))

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
        """Starts it after a crash."""
        self._postgres.start()

    def back_up(self) -> None:
        """Makes a base backup of all databases while the server runs."""
        self._postgres.back_up()

    def come_back_older(self) -> None:
        """Stops the server, and starts one on the base backup, at the same address."""
        self._postgres.stop("fast")
        self._postgres.restore()
        self._postgres.start()

    def new_database_on_small_disk(self) -> str:
        """A migrated database with nothing in it, whose tables have a small disk to themselves. One at a time."""
        small_disk.need()
        make = sql.SQL("CREATE TABLESPACE {} LOCATION {}")
        folder = str(self._small_disk.directory)
        query(self.url, make.format(sql.Identifier(_TABLESPACE), sql.Literal(folder)))
        return self._new_database(TEMPLATE, _TABLESPACE)

    def drop_database(self, url: str) -> None:
        """Drops it, whoever is connected to it."""
        super().drop_database(url)
        query(self.url, sql.SQL("DROP TABLESPACE IF EXISTS {}").format(sql.Identifier(_TABLESPACE)))

    def fill_disk(self) -> None:
        """Fills the small disk: nothing can be added. The log of writes and the rest of the server have room."""
        self._small_disk.fill(self._postmaster)

    def empty_disk(self) -> None:
        """Makes room again."""
        self._small_disk.empty(self._postmaster)

    @property
    def socket_path(self) -> str:
        """The Unix socket that it listens on."""
        return f"{self._postgres.data.parent}/.s.PGSQL.{self._postgres.port}"

    def _environment(self) -> Mapping[str, str]:
        """Variables for the server."""
        return {}

    @property
    def _data(self) -> Path:
        return self._postgres.data

    @property
    def _small_disk(self) -> small_disk.SmallDisk:
        disk = self._postgres.small_disk
        assert disk is not None
        return disk
