"""Collects processes that have ended and belong to nobody, where this process is PID 1.

The kernel gives PID 1 each process whose parent has ended: what somebody left running in a container (`docker exec`,
`kubectl exec`), a check that was killed, a Postgres of ours. Nobody else waits for them, and a zombie keeps its place
in the table of processes. Children of our own are waited for by whoever has started them, at once: so only what is a
zombie for some looks in a row is collected here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_INIT: Final = 1
_LOOK_SECONDS: Final = 1.0
_LOOKS_MIN: Final = 3


class Orphans:
    """A thread that collects them until the block ends. None is started in a process that is not PID 1."""

    def __init__(self, look_seconds: float = _LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orphans", daemon=True)

    def __enter__(self) -> Self:
        """Begins to look."""
        if os.getpid() == _INIT:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends it: the namespace ends with PID 1."""
        self._is_over.set()

    def _run(self) -> None:
        looks = dict[int, int]()
        while not self._is_over.wait(self._look_seconds):
            looks = {pid: looks.get(pid, 0) + 1 for pid in zombies()}
            for pid in [pid for pid, count in looks.items() if count >= _LOOKS_MIN]:
                with suppress(ChildProcessError):  # somebody has just waited for it
                    os.waitpid(pid, os.WNOHANG)


def zombies(proc: Path = Path("/proc")) -> Collection[int]:
    """Returns the children of this process that have ended; none where /proc does not say."""
    pid = os.getpid()
    try:
        children = (proc / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return ()
    return [int(child) for child in children if _is_zombie(proc / child / "stat")]


def _is_zombie(stat: Path) -> bool:
    try:
        return stat.read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):  # somebody has waited for it
        return False
