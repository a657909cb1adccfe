"""How an attempt can fail before anything is known of the receiver."""

from __future__ import annotations

import errno


class SenderFault(Exception):
    """The attempt could not be made, through a fault of this process. It says nothing about the receiver.

    `is_local`: only what goes to the same host is concerned.
    """

    is_local = False


class BlockedDestination(OSError):
    """The address may not be dialled. An OSError, so that the next address of the name is tried."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "blocked destination")
