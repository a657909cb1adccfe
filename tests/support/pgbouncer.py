"""The real PgBouncer before a test's Postgres."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .distribution import need
from .ports import free_port

_START_SECONDS_MAX = 30


class PgBouncer:
    """One PgBouncer on loopback. `mode` is session or transaction."""

    def __init__(self, database_url: str, mode: str, pool_size: int = 20, roles: Sequence[str] = ()) -> None:
        """Starts it. Roles beside the one of the connection string may come in too."""
        program = need("pgbouncer")
        server = conninfo_to_dict(database_url)
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-pgbouncer-"))
        file = self._directory / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host={server['host']} port={server['port']}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self._directory}/users\nadmin_users = pgbouncer\n"
            f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\nmax_client_conn = 500\n"
        )
        users = [str(server["user"]), "pgbouncer", *roles]
        (self._directory / "users").write_text("".join(f'"{name}" ""\n' for name in users))
        self._user = "postgres" if os.geteuid() == 0 else None  # it does not run as root
        if self._user is not None:
            shutil.chown(self._directory, self._user, self._user)
        self._command = (program, str(file))
        self.url = make_conninfo(database_url, host="127.0.0.1", port=self.port)
        self._process = self._started()

    def restart(self) -> None:
        """Kills it under whatever it does, and starts it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._started()

    def reconnect(self) -> None:
        """Lets it open new connections to Postgres, which have the settings of now."""
        with psycopg.connect(make_conninfo(self.url, dbname="pgbouncer", user="pgbouncer"), autocommit=True) as admin:
            admin.execute("RECONNECT")

    def stop(self) -> None:
        """Ends it and removes its folder."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _started(self) -> subprocess.Popen[bytes]:
        """Starts it, and returns when it takes connections."""
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(
                self._command, stdout=log, stderr=log, user=self._user, group=self._user, cwd="/"
            )
        self._wait(process)
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _START_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise AssertionError((self._directory / "log").read_text()) from None
                time.sleep(0.05)  # it has no signal to wait for
            else:
                return
