"""Shards that count how often they were looked at: each look is a try of a loop."""

from __future__ import annotations

from webhook_grpc.engine.shards import Shards


class CountedShards(Shards):
    """Shards of nobody, as while the database does not answer and the lease is over, until `owned` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    @property
    def sendable(self) -> frozenset[int]:
        self.looks += 1
        return super().sendable
