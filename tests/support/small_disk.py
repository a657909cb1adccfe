"""A small disk for a Postgres of the suite: a tmpfs that only the server's processes see, and that ends with them.

It needs root, and a system that lets root mount: in many containers nobody may.
"""

from __future__ import annotations

import errno
import functools
import os
import pwd
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

_MOUNT_AND_RUN: Final = 'mount -t tmpfs -o "$0" small-disk "$1" && shift && exec "$@"'
_CHUNK: Final = bytes(1 << 16)


@functools.cache
def can_be_made() -> bool:
    """Returns whether this process may mount a disk for a child of another user, and look into it."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as directory:
        command = SmallDisk(Path(directory), len(_CHUNK)).command("nobody")
        try:
            child = subprocess.Popen(
                [*command, "sh", "-c", "echo $$; exec sleep 60"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except FileNotFoundError:
            return False
        with child:
            try:
                assert child.stdout is not None
                number = child.stdout.readline().strip()  # nothing if it could not be mounted
                return bool(number) and not any(Path(f"/proc/{number}/root{directory}").iterdir())
            except OSError:  # not even root may see what another user's process sees
                return False
            finally:
                child.kill()


def need() -> None:
    """Skips the test where no such disk can be made."""
    if not can_be_made():
        pytest.skip("needs root, who may mount a tmpfs")


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """One of so many bytes, mounted at a folder of the server's."""

    directory: Path
    size_bytes: int

    def command(self, user: str) -> list[str]:
        """Returns what stands before a command, which then runs as that user and has the disk."""
        account = pwd.getpwnam(user)
        options = f"size={self.size_bytes},mode=0700,uid={account.pw_uid},gid={account.pw_gid}"
        return [
            "unshare",
            "--mount",
            "sh",
            "-c",
            _MOUNT_AND_RUN,
            options,
            str(self.directory),
            "runuser",
            "-u",
            user,
            "--",
        ]

    def fill(self, pid: int) -> None:
        """Takes all the room that is left, as a process sees the disk that has it."""
        with self._filler(pid).open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(_CHUNK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty(self, pid: int) -> None:
        """Gives back what `fill` has taken."""
        self._filler(pid).unlink()

    def _filler(self, pid: int) -> Path:
        return Path(f"/proc/{pid}/root{self.directory}/filler")
