"""The hosts file, hosts(5): names that no name server knows, such as compose's `extra_hosts` and `hostAliases`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import structlog

HOSTS_PATH: Final = Path("/etc/hosts")
BYTES_MAX: Final = 1_048_576  # of the file; what is beyond is not read

log = structlog.get_logger(__name__)


class HostsFile:
    """The names of the file, which is read again when it has changed. Without a file there are none."""

    def __init__(self, path: Path = HOSTS_PATH) -> None:
        self._path = path
        self._version: tuple[int, int, int] | None = None
        self._addresses: Mapping[str, Sequence[str]] = {}
        self._is_unreadable = False

    def addresses_of(self, name: str) -> Sequence[str]:
        """Returns the addresses of a name, in the file's order, or none. Ignores case and a dot at the end."""
        self._look()
        return self._addresses.get(name.rstrip(".").lower(), ())

    def _look(self) -> None:
        """Reads the file again if it has changed. The stat for each look-up costs microseconds on a local file."""
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version != self._version:
                self._addresses = _parsed(_start_of(self._path))
                self._version = version
            self._is_unreadable = False
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self._addresses, self._version = {}, None
        if not isinstance(error, FileNotFoundError) and not self._is_unreadable:
            self._is_unreadable = True
            log.warning("the hosts file cannot be read", path=os.fspath(self._path), error=type(error).__name__)


def _start_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(BYTES_MAX).decode("utf-8", "replace")


def _parsed(text: str) -> Mapping[str, Sequence[str]]:
    addresses: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if _is_address(address):
            for name in names:
                addresses.setdefault(name.rstrip(".").lower(), []).append(address)
    return addresses


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
