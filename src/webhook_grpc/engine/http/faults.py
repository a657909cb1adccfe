"""How a request can fail: through this process, the webhook's settings, or its receiver."""

from __future__ import annotations

import errno


class SenderFault(Exception):
    """The attempt could not be made, through a fault of this process. It says nothing about the receiver.

    `is_local`: only what goes to the same host is concerned.
    """

    is_local = False


class LeaseUnsure(SenderFault):
    """The lease may have run out, so the request was not begun on this connection. Another owner may send it."""


class NotSendable(ValueError):
    """The webhook's settings make no request: a URL without a host, a header with a line break."""


class NameNotResolved(OSError):
    """The host name has no address."""


class BlockedDestination(OSError):
    """The address may not be dialled. An OSError, so that the next address of the name is tried."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "blocked destination")


class Disconnected(ConnectionError):
    """The receiver closed the connection before a whole status line had arrived."""


class NotHttp(Exception):
    """What arrived is no answer, or beyond the limits of one, and held no whole status line."""
