"""The Postgres of the distribution (Debian's packages): JIT, its own defaults, the server that people have.

Tests that need it, or another program of the distribution, are skipped where it is not installed. With `CI=true` that
is a failure: `.ci/packages` lists what `.ci/run` installs.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, LiteralString, NoReturn

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .ports import free_port
from .postgres import SEARCH_PATH
from .small_disk import SmallDisk

_BIN_FOLDERS: Final = "/usr/lib/postgresql"
_START_SECONDS_MAX: Final = 60


@functools.cache
def bin_path() -> Path | None:
    """The folder of the newest `initdb` and `postgres` of the distribution, 15 or newer; None if there is none."""
    versions = [path for path in Path(_BIN_FOLDERS).glob("*") if path.name.isdigit() and int(path.name) >= 15]
    found = [path / "bin" for path in versions if (path / "bin" / "initdb").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def need(program: str) -> str:
    """The path of a program. Skips the test where it is missing, but fails it where CI should have installed it."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
    return path or missing(program, ".ci/packages")


def need_faketime() -> str:
    """The path of libfaketime, for LD_PRELOAD. Skips or fails as `need`."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else missing("libfaketime", ".ci/packages")


def need_postgres() -> Path:
    """The folder of the distribution's Postgres programs. Skips or fails as `need`."""
    return bin_path() or missing("Debian's postgresql", ".ci/packages")


def missing(what: str, remedy: str) -> NoReturn:
    """Skips the test for want of something; fails it where `.ci/run` should have brought that."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, which .ci/run should have brought: {remedy}")
    pytest.skip(f"needs {what}: {remedy}")


class DistributionPostgres:
    """A cluster of the distribution's Postgres, made for a test: on loopback and on a socket, fsync off unless set."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        programs: Path | None = None,
        follows: DistributionPostgres | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        small_disk_bytes: int | None = None,
    ) -> None:
        """Makes and starts it. `settings` go to postgresql.conf; `environment` to the server (LD_PRELOAD, say).

        `programs` is the folder of another Postgres' programs. With `follows` it is a standby of that cluster. With
        `small_disk_bytes` it has such a disk for a tablespace, which is empty again when it is started again.
        """
        self._bin = programs or need_postgres()
        self._directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-debian-"))
        self._user = "postgres" if os.geteuid() == 0 else None  # Postgres does not run as root
        self._role = self._user or pwd.getpwuid(os.geteuid()).pw_name
        if self._user:
            shutil.chown(self._directory, "postgres", "postgres")
        self.data = self._directory / "data"
        self.small_disk = None if small_disk_bytes is None else SmallDisk(self._directory / "disk", small_disk_bytes)
        if self.small_disk is not None:
            self.small_disk.directory.mkdir()
        self.environment = dict(environment or {})
        self.address = address
        self.port = port or free_port()
        if follows is None:
            self._run("initdb", "-D", str(self.data), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        else:
            self._copy(follows, self.data, "-R")
        self.configure({"fsync": "off", "max_connections": "100", "search_path": SEARCH_PATH, **(settings or {})})
        self.start()

    @property
    def url(self) -> str:
        """A connection string for its database `postgres`, as its superuser."""
        return make_conninfo(host=self.address, port=self.port, user=self._role, dbname="postgres")

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self._directory / "log").read_text()

    def configure(self, settings: Mapping[str, str]) -> None:
        """Adds lines to postgresql.conf; the next start, or `pg_reload_conf()`, takes them up."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Starts it and returns when it accepts connections."""
        options = f"-p {self.port} -k {self._directory} -c listen_addresses={self.address}"
        log = str(self._directory / "log")
        start = ("pg_ctl", "-D", str(self.data), "-l", log, "-o", options, "-w", "-t", str(_START_SECONDS_MAX), "start")
        self._run(*start, before=self.small_disk.command(self._role) if self.small_disk else ())

    def stop(self, mode: str = "fast") -> None:
        """Stops it: `immediate` is a crash, without a checkpoint."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def back_up(self) -> None:
        """Makes a base backup, for `restore`, while it runs: the data as they are when this returns, or just before."""
        shutil.rmtree(self._backup, ignore_errors=True)  # of a round that has failed
        self._copy(self, self._backup)

    def restore(self) -> None:
        """Puts the base backup in the place of the data of a server that is stopped; it is then to be started."""
        shutil.rmtree(self.data)
        self._backup.rename(self.data)

    def promote(self) -> None:
        """Makes a standby a primary; returns when it accepts writes."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", str(_START_SECONDS_MAX), "promote")

    def remove(self) -> None:
        """Stops it, whatever state it is in, and removes its folder."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self._directory, ignore_errors=True)

    def new_database(self, name: str, encoding: str = "UTF8", locale: LiteralString = "") -> str:
        """Makes a database and returns its connection string. `locale`: in words of CREATE DATABASE, beside C."""
        make = sql.SQL("CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 " + locale)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(make.format(sql.Identifier(name), sql.Literal(encoding)))
        return make_conninfo(self.url, dbname=name)

    @property
    def _backup(self) -> Path:
        return self._directory / "backup"

    def _copy(self, server: DistributionPostgres, to: Path, *options: str) -> None:
        """Copies the data of a server that runs."""
        copy = ("pg_basebackup", "-X", "stream", "--checkpoint=fast", "--no-sync", *options, "-D", str(to))
        self._run(*copy, "-d", make_conninfo(server.url, dbname=""))

    def _run(self, program: str, *arguments: str, check: bool = True, before: Sequence[str] = ()) -> None:
        """Runs a program as the server's user. `before`: a command that runs a command, and changes the user itself."""
        user = None if before else self._user
        # Only once it is that user's: libfaketime of one process of root's leaves a file that the user may not open.
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        said = self._directory / "said"
        with said.open("wb") as stderr:  # not a pipe: the server would inherit it and keep it open
            done = subprocess.run(
                [*before, "env", *variables, str(self._bin / program), *arguments],
                check=False,
                cwd="/",
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                user=user,
                group=user,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        if check and done.returncode:
            log = self._directory / "log"
            text = said.read_text() + (log.read_text()[-2000:] if log.exists() else "")
            raise AssertionError(f"{program} failed ({done.returncode}): {text}")
