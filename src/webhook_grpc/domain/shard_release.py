"""Which of its shards a process releases when another one comes to share the work."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from .ids import SHARD_COUNT

_BITS: Final = (SHARD_COUNT - 1).bit_length()


def to_release(count: int, idle: Collection[int], busy: Collection[int], stuck: Collection[int]) -> set[int]:
    """Chooses `count` shards, or all: the same part of the idle ones and of the busy ones.

    If only idle shards were released, those that are busy would stay with one process, and so would the work. A shard
    is stuck when one of its attempts has taken long: nothing else of it would be sent until that ends, so it is
    released only when there is nothing else.
    """
    of_busy = len(busy) * count // max(1, len(idle) + len(busy))
    chosen = [*spread(busy)[:of_busy], *spread(idle), *spread(busy)[of_busy:], *spread(stuck)]
    return set(chosen[:count])


def spread(shards: Collection[int]) -> Sequence[int]:
    """Returns the shards in an order of which each beginning is spread evenly: 0, 32, 16, 48, 8 and so on.

    Webhooks that were created one after the other have shards that follow one another (`ids.shard_of`): a range of
    shards would be all webhooks of a small installation, or none.
    """
    return sorted(shards, key=lambda shard: int(f"{shard:0{_BITS}b}"[::-1], 2))
