"""Holds the addresses that the children share, so that nobody else gets them while children come and go."""

from __future__ import annotations

import errno
import socket
from typing import Final

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class AddressTaken(Exception):
    """The address can't be held: it is taken, or it is not one of this machine's."""


class HeldAddress:
    """An address that only processes of this user which share it on purpose (SO_REUSEPORT) can listen on."""

    def __init__(self, address: str, setting: str) -> None:
        """Takes the address; port 0 becomes a free one. `setting` has the address. Raises AddressTaken."""
        host, _, port = address.rpartition(":")
        self._sockets = list[socket.socket]()
        self._port = int(port)
        try:
            self._hold(host.strip("[]"))
        except OSError as error:
            self.close()
            why = "it is taken, or not one of this machine's"
            raise AddressTaken(f"cannot listen on {address}: {why}; set {setting}") from error
        self.address = f"{host}:{self._port}"

    def close(self) -> None:
        """Lets the address go."""
        for each in self._sockets:
            each.close()

    def _hold(self, host: str) -> None:
        """Takes each address of a name, as gRPC does; some may not be of this machine."""
        missing: OSError | None = None
        for family, _, _, _, where in socket.getaddrinfo(host, self._port, type=socket.SOCK_STREAM):
            try:
                self._sockets.append(_held(family, (where[0], self._port)))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            else:
                self._port = int(self._sockets[-1].getsockname()[1])
        if not self._sockets and missing is not None:
            raise missing


def _held(family: int, where: tuple[str | int, int]) -> socket.socket:
    """Returns a socket that has taken an address, and does not listen: it gets no connections.

    The address is taken as if for this process alone, so that a second service on it fails. Only then is it shared.
    """
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may be in TIME_WAIT
        held.bind(where)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        held.close()
        raise
    return held
