"""A primary and a standby that streams from it: the distribution's Postgres, each at an address of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final, LiteralString

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.distribution import DistributionPostgres, need_postgres
from tests.support.ports import free_port
from tests.support.postgres import query, until
from webhook_grpc.store.schema.migrate import migrate

from .database import CONNECTIONS_MAX, TEMPLATE, DatabaseServer

_ADDRESSES: Final = ("127.0.0.1", "127.0.0.2")
_NAME: Final = "database.test"
STREAMS: LiteralString = "SELECT sync_state = 'sync' FROM pg_stat_replication WHERE state = 'streaming'"


class ReplicatedServer(DatabaseServer):
    """A pair that replicates synchronously: what is acknowledged is on both. Each round may fail over once.

    Skips the test where the distribution's programs are missing, when it is started.
    """

    _primary: DistributionPostgres
    _standby: DistributionPostgres | None = None

    @classmethod
    def need(cls) -> None:
        """Skips the test where something is missing that this kind of server needs."""
        need_postgres()

    def start(self) -> None:
        """Starts the primary, and makes the template of all databases."""
        self._directory.chmod(0o755)  # Postgres runs as another user
        self._settings = {"max_connections": str(CONNECTIONS_MAX)}
        self._port = free_port()
        self._primary = DistributionPostgres(self._settings, address=_ADDRESSES[0], port=self._port)
        hosts, ports = ",".join(_ADDRESSES), ",".join([str(self._port)] * len(_ADDRESSES))
        self.url = make_conninfo(self._primary.url, host=hosts, port=ports, target_session_attrs="read-write")
        self.move_name()
        query(self.url, "CREATE DATABASE webhook_faults_template")
        migrate(make_conninfo(self.url, dbname=TEMPLATE))

    def stop(self) -> None:
        """Stops both and removes their folders."""
        self._primary.remove()
        if self._standby is not None:
            self._standby.remove()
        super().stop()

    def new_database(self) -> str:
        """A migrated database with nothing in it, on a pair: a round before may have left one server only."""
        if self._standby is None:
            [address] = set(_ADDRESSES) - {self._primary.address}
            self._standby = DistributionPostgres(
                self._settings, follows=self._primary, address=address, port=self._port
            )
            query(self.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            query(self.url, "SELECT pg_reload_conf()")
            until(self.url, STREAMS)
        return super().new_database()

    def cut_off(self) -> None:
        """The standby gets nothing any more, and the primary goes on without it: what it does from now on is lost."""
        assert self._standby is not None
        query(self.url, "ALTER SYSTEM RESET synchronous_standby_names")
        query(self.url, "SELECT pg_reload_conf()")
        query(self._standby.url, "ALTER SYSTEM SET primary_conninfo = ''")
        query(self._standby.url, "SELECT pg_reload_conf()")
        until(self.url, "SELECT count(*) = 0 FROM pg_stat_replication")

    def crash(self) -> None:
        """The primary dies, and will not come back."""
        self._primary.stop("immediate")

    def promote(self) -> None:
        """The standby becomes the primary; the dead one is gone."""
        assert self._standby is not None
        self._standby.promote()
        self._primary.remove()
        self._primary, self._standby = self._standby, None

    def move_name(self) -> None:
        """Lets the name of `by_name` lead to the standby, if there is one, else to the primary."""
        written = self._directory / "names.new"
        written.write_text((self._standby or self._primary).address)
        written.rename(self.names)

    def by_name(self, url: str) -> str:
        """The same database at a name, which leads to one server only."""
        return make_conninfo(url, host=_NAME, port=self._port, target_session_attrs="any")

    @property
    def names(self) -> Path:
        """The file that says where the name leads: see WEBHOOK_TEST_DATABASE_ADDRESS in faulty.py."""
        return self._directory / "names"

    @property
    def socket_path(self) -> str:
        """The Unix socket of the primary."""
        return f"{self._primary.data.parent}/.s.PGSQL.{conninfo_to_dict(self._primary.url)['port']}"
