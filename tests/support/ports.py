"""Ports for servers that have to know theirs before they start."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from typing import Final

# Below those that the kernel gives to connections, and between those that no webhook may have (10255, 11211, 27017)
_FIRST: Final = 12_000
_PER_WORKER: Final = 1_000
_WORKERS: Final = 15


def free_port() -> int:
    """Returns a port of loopback that nobody uses. It stays free: each worker of pytest takes from ports of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    while True:
        port = _FIRST + worker * _PER_WORKER + secrets.randbelow(_PER_WORKER)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
