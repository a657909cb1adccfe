"""The fence: a statement of an owner changes deliveries only while their shards are still its own, at the same epochs.

A process that lost a shard, or gave it a new epoch, may have older statements on their way. These find another owner or
epoch, and do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, LiteralString
from uuid import UUID

from webhook_grpc.store.connection import arrays

from .leases import OwnedShard


def shards_still_owned(shards: LiteralString, epochs: LiteralString) -> LiteralString:
    """Returns a SELECT of those shards that still belong to the parameter `worker`, each at its epoch.

    Given are the names of two parameters, arrays of the same length: the shards and their epochs.
    """
    return f"""
    SELECT s.shard
    FROM shards s
    WHERE s.shard = ANY(%({shards})b::smallint[])
        AND s.owner = %(worker)b::uuid
        AND s.epoch = (%({epochs})b::bigint[])[array_position(%({shards})b::smallint[], s.shard)]"""


# Begins a statement: `own` has the shards that are still ours. They stay locked to the commit, so nobody takes them
# before, and in one shard the order of `seq` is the order of commits. Sorted, so that two statements can't deadlock.
FENCE: Final = f"""
WITH own AS MATERIALIZED ({shards_still_owned("shards", "epochs")}
    ORDER BY s.shard
    FOR NO KEY UPDATE OF s
)"""


def fence_parameters(worker: UUID, owned: Mapping[int, OwnedShard]) -> dict[str, object]:
    """Returns the parameters of FENCE, the number of the shards, and the last `seq` of each."""
    return {
        "worker": worker,
        "shards": arrays.smallints(list(owned)),
        "shard_count": len(owned),
        "epochs": arrays.bigints([shard.epoch for shard in owned.values()]),
        "last_seqs": arrays.bigints([shard.last_seq for shard in owned.values()]),
    }
