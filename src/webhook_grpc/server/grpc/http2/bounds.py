"""What one connection may have, and what all of them hold together."""

from __future__ import annotations

from webhook_grpc.domain.record import record


@record
class Bounds:
    """What a connection may have."""

    streams_max: int
    idle_seconds_max: float
    """Without a stream."""
    age_seconds_max: float
    kept_bytes_max: int
    """Of requests that are not read yet, in all connections together; only who keeps much has to give way."""
    kept_bytes_min: int
    """That a connection may keep, whatever others do."""


class Kept:
    """How many bytes of requests have come that are not read yet, in all connections."""

    def __init__(self) -> None:
        self.size_bytes = 0
