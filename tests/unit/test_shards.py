"""The shards of a process: what may begin when the lease has changed."""

from __future__ import annotations

import time
from uuid import UUID

from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.ownership.leases import OwnedShard


def test_a_request_may_begin_while_its_shard_has_been_ours_ever_since() -> None:
    """A process whose lease ran out registers again, and sends at once: but not what it began to connect for before."""
    shards = Shards()
    shards.worker, shards.owned, shards.send_until = UUID(int=1), {5: OwnedShard(1, 0)}, time.monotonic() + 60
    may_begin = shards.may_begin(5)
    assert may_begin()
    shards.owned = {5: OwnedShard(2, 0)}  # readopted: the same shard at its next epoch
    assert may_begin()
    shards.send_until = 0.0
    assert not may_begin(), "the lease was not renewed in time"
    shards.send_until, shards.owned = time.monotonic() + 60, {}
    assert not may_begin(), "the shard was released"
    shards.worker, shards.owned = UUID(int=2), {5: OwnedShard(3, 0)}
    assert not may_begin(), "another process may have owned the shard meanwhile"
    assert shards.may_begin(5)()
