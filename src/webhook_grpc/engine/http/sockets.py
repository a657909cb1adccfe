"""Sockets that close their own descriptor, and never somebody else's.

An event loop that takes over a socket may close its descriptor without the socket object hearing of it: uvloop does
when a connection is reset between being made and being attached to its object. The object then closes the same number
again when it is collected, by when it may be the connection of another delivery. So these compare what the number
stands for.
"""

from __future__ import annotations

import os
import socket


class OwnedSocket(socket.socket):
    """Remembers which socket of the kernel it was made for."""

    __slots__ = ("_inode",)

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._inode = os.fstat(self.fileno()).st_ino

    @property
    def is_ours(self) -> bool:
        """Whether the descriptor is still that of the socket that was made."""
        try:
            return os.fstat(self.fileno()).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Closes the socket unless it is closed already, by whomever."""
        if self.is_ours:
            super().close()
        else:
            self.detach()

    def __del__(self) -> None:
        """In place of the base's, which closes the number whatever it stands for."""
        is_ours = self.is_ours
        number = self.detach()
        if is_ours:
            os.close(number)
