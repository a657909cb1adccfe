"""The shards that this process may send and settle for: what every part of the engine reads.

A claim on a delivery is an entry in a dict: no claim is written to the database for each delivery, and because a
webhook has one owner, its limits are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from uuid import UUID

from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.ownership.marks import ProcessMark

_NO_WORKER = UUID(int=0)


class Shards:
    """The shards of this process. Every part reads this object, and only `Ownership` changes it."""

    def __init__(self, mark: ProcessMark | None = None) -> None:
        """`mark` is written beside each id of this process; None: nobody on its machine can see whether it lives."""
        self.mark = mark
        self.worker = _NO_WORKER
        """The id under which this process owns its shards: another one after each lease that ran out."""
        self.owned: dict[int, OwnedShard] = {}
        self.leaving: set[int] = set()
        """Shards that are still ours, and for which no attempt is started any more: they are about to be released."""
        self.send_until = 0.0
        """Until when attempts may be started without another renewal of the lease, in monotonic seconds."""
        self.live_count = 1
        """How many processes share the work."""
        self.free_count = 0
        """How many shards of all belonged to nobody at the last beat."""

    @property
    def may_send(self) -> bool:
        """Whether the lease is fresh enough to start attempts."""
        return time.monotonic() < self.send_until

    @property
    def sendable(self) -> frozenset[int]:
        """The shards for which attempts may be started."""
        return frozenset(self.owned.keys() - self.leaving) if self.may_send else frozenset()

    def may_begin(self, shard: int) -> Callable[[], bool]:
        """Returns what says, later, whether a request for the shard may begin: it has been ours ever since."""
        worker = self.worker
        return lambda: self.may_send and self.worker == worker and shard in self.owned

    def epochs(self) -> dict[int, int]:
        """Returns the epoch of each owned shard. If it has changed, another process may have owned the shard since."""
        return {shard: owned.epoch for shard, owned in self.owned.items()}

    def is_sendable_since(self, shard: int, epochs: Mapping[int, int]) -> bool:
        """Returns whether attempts may be started for the shard, and it was ours all the time since `epochs` held."""
        return shard in self.sendable and self.owned[shard].epoch == epochs.get(shard)

    def is_alone(self) -> bool:
        """Returns whether no other process shares the work."""
        return self.live_count <= 1
