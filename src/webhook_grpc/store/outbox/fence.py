"""The fence: whose the shards must still be when a statement of their owner changes deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from .ownership import OwnedShard


def fence_parameters(worker: UUID, owned: Mapping[int, OwnedShard]) -> dict[str, object]:
    """Whose the shards must still be, and from where their log goes on."""
    return {
        "worker": worker,
        "shards": list(owned),
        "shard_count": len(owned),
        "epochs": [shard.epoch for shard in owned.values()],
        "last_seqs": [shard.last_seq for shard in owned.values()],
    }
