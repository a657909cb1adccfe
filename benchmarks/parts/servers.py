"""The Postgres servers of a run, with fsync and synchronous_commit on, each started when a row first needs it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.support import distribution

from webhook_grpc.store.schema.embedded import EmbeddedPostgres

EMBEDDED: Final = "embedded"
DISTRIBUTION: Final = "distribution"
SHOWN_SETTINGS: Final = ("jit", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


@dataclass(frozen=True)
class Server:
    """A server that runs: where it is, what it is, and its first process, if that is on this machine."""

    name: str
    url: str
    about: str
    postmaster: psutil.Process | None


class Servers:
    """Starts servers and keeps them until the end of the run. `named`: servers that somebody else started, by name."""

    def __init__(self, named: Mapping[str, str]) -> None:
        self._named = named
        self._running: dict[str, Server] = {}
        self._stack = ExitStack()
        self._made = 0

    def has(self, name: str) -> bool:
        """Returns whether there is such a server, or can be."""
        return name == EMBEDDED or name in self._named or (name == DISTRIBUTION and distribution.bin_path() is not None)

    @property
    def running(self) -> Sequence[Server]:
        """Returns those that were needed so far."""
        return list(self._running.values())

    def get(self, name: str) -> Server:
        """Returns a server that runs."""
        if name not in self._running:
            starts: dict[str, Callable[[], str]] = {EMBEDDED: self._embedded, DISTRIBUTION: self._distribution}
            url = self._named[name] if name in self._named else starts[name]()
            self._running[name] = _described(name, url)
        return self._running[name]

    def close(self) -> None:
        """Stops those that were started here, and removes what they wrote."""
        self._stack.close()
        self._running.clear()

    @contextmanager
    def database(self, server: str, program: Path, environment: Mapping[str, str]) -> Generator[str]:
        """Makes an empty database with the schema of a program, and drops it at the end."""
        self._made += 1
        url, name = self.get(server).url, f"webhook_bench_{os.getpid()}_{self._made}"
        with psycopg.connect(url, autocommit=True) as admin:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            admin.execute(drop)
            admin.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name)))
            # a program of before makes its tables in public
            path = sql.SQL("ALTER DATABASE {} SET search_path = webhook_grpc, public")
            admin.execute(path.format(sql.Identifier(name)))
            try:
                own = make_conninfo(url, dbname=name)
                subprocess.run(
                    [program, "migrate"],
                    env={**environment, "WEBHOOK_DATABASE_URL": own},
                    check=True,
                    capture_output=True,
                )
                yield own
            finally:
                admin.execute(drop)

    def _embedded(self) -> str:
        directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-bench-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)  # after Postgres' own, which locks a file in it
        self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = EmbeddedPostgres(directory)
        url = postgres.start()
        self._stack.callback(postgres.stop)
        return url

    def _distribution(self) -> str:
        postgres = distribution.DistributionPostgres({"fsync": "on"})
        self._stack.callback(postgres.remove)
        return postgres.url


def _described(name: str, url: str) -> Server:
    """Asks a server what it is, with the settings that it gives to others than us."""
    with psycopg.connect(url, autocommit=True) as connection:
        read = "SELECT current_setting('server_version'), pg_backend_pid(), pg_jit_available()"
        [(version, backend, has_jit)] = connection.execute(read).fetchall()
        shown = {setting: connection.execute("SELECT current_setting(%s)", [setting]) for setting in SHOWN_SETTINGS}
        settings = {setting: str(cursor.fetchall()[0][0]) for setting, cursor in shown.items()}
        postmaster = None
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(backend).parent()
    if not has_jit:
        settings["jit"] += " (not available)"
    about = f"Postgres {version.split()[0]}: " + ", ".join(f"{key}={value}" for key, value in settings.items())
    return Server(name, url, about, postmaster)
