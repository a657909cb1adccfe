"""Reads from /proc what marks a process, and whether the process with a mark is dead.

In doubt a process lives. Where /proc can't be read, or shows other process ids than this process has, nothing is known:
then there is no mark, and leases run out as they do between machines.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from webhook_grpc.store.ownership.marks import ProcessMark

PROC: Final = Path("/proc")
_STATE, _STARTED_TICKS = 0, 19  # of the fields after the name: proc_pid_stat(5) has them as fields 3 and 22
_ZOMBIE: Final = "Z"


def own_mark(proc: Path = PROC) -> ProcessMark | None:
    """Returns the mark of this process, or None if others could not rely on one."""
    pid = os.getpid()
    try:
        if not _shows_own_ids(proc, pid):
            return None
        boot_id = (proc / "sys/kernel/random/boot_id").read_text().strip()
        # Copies of a running virtual machine have the same boot id; most are given other names.
        machine = f"{boot_id} {os.uname().nodename}"
        namespaces = " ".join(str((proc / "self/ns" / name).readlink()) for name in ("pid", "time"))
        fields = _stat(proc, pid)
    except (OSError, ValueError, IndexError):
        return None
    return ProcessMark(machine, namespaces, pid, int(fields[_STARTED_TICKS]))


def is_dead(mark: ProcessMark, proc: Path = PROC) -> bool:
    """Returns whether the process is surely dead. The mark must be of this machine and of these namespaces.

    A process that is stopped (SIGSTOP) lives. The signal 0 finds also those that /proc hides (`hidepid`).
    """
    try:
        os.kill(mark.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:
        fields = _stat(proc, mark.pid)
        is_same = int(fields[_STARTED_TICKS]) == mark.started_ticks
        return not is_same or (fields[_STATE] == _ZOMBIE and _has_one_thread(proc, mark.pid))
    except (OSError, ValueError, IndexError):
        return False


def _shows_own_ids(proc: Path, pid: int) -> bool:
    """Returns whether /proc is of this process's own namespace: elsewhere it has one number for each level."""
    for line in (proc / "self/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[1:] == [str(pid)]
    return False


def _stat(proc: Path, pid: int) -> list[str]:
    """Returns the fields after the name, which may hold any character."""
    return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _has_one_thread(proc: Path, pid: int) -> bool:
    """Returns whether no other thread lives on: a process whose first thread has ended looks like a zombie, too."""
    return len(list((proc / str(pid) / "task").iterdir())) == 1
