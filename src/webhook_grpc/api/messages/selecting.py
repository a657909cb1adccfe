"""What a watcher wants of changes that were read together. Watchers with equal filters share the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.hub.log.batches import Batch
from webhook_grpc.store.log.rows import Change

from .sharing import SharedDeliveries, SharedDelivery

MESSAGE_DELIVERIES_MAX: Final = 500
MESSAGE_BYTES_MAX: Final = 1_000_000  # clients accept 4 MiB by default

Selected = Sequence[tuple[SharedDeliveries, Position]]
"""Parts of at most one message each, and the position after each of them."""


def wanted_of(batch: Batch, wanted: DeliveryFilter, position: Position) -> Selected:
    """Returns what a filter admits of the changes after a position.

    Changes up to the position were sent before and are skipped: the live tail may be a little behind a position that
    was read, or that a client has from another process.
    """
    if position is batch.before or position == batch.before:  # so it is for most, and their answer is the same
        return batch.once(wanted, lambda: _select(batch, wanted, position))
    return _select(batch, wanted, position)


def may_want(wanted: DeliveryFilter) -> Callable[[Batch], bool]:
    """Returns what says quickly whether a filter may admit a change of a batch: by its customer and its webhooks."""
    customer_id, webhook_ids = wanted.customer_id, frozenset(wanted.webhook_ids)

    def may(batch: Batch) -> bool:
        if customer_id is not None and customer_id not in batch.customer_ids:
            return False
        return not webhook_ids or not webhook_ids.isdisjoint(batch.webhook_ids)

    return may


def advanced(position: Position, batch: Batch) -> Position:
    """Returns the position after all changes of a batch."""
    if position is batch.before or position == batch.before:
        return batch.after
    return tuple(map(max, position, batch.after))


def _select(batch: Batch, wanted: DeliveryFilter, position: Position) -> Selected:
    deliveries = batch.once(_shared, lambda: _shared(batch.changes))
    seqs = list(position)
    selected = list[tuple[SharedDeliveries, Position]]()
    part, size_bytes = list[SharedDelivery](), 0
    for change, shared in zip(batch.changes, deliveries, strict=True):
        if change.seq <= seqs[change.shard]:
            continue
        seqs[change.shard] = change.seq
        if wanted.admits(change.delivery):
            part.append(shared)
            size_bytes += shared.size_bytes
            if len(part) == MESSAGE_DELIVERIES_MAX or size_bytes >= MESSAGE_BYTES_MAX:
                selected.append((SharedDeliveries(part), tuple(seqs)))
                part, size_bytes = [], 0
    if part:
        selected.append((SharedDeliveries(part), tuple(seqs)))
    return selected


def _shared(changes: Iterable[Change]) -> Sequence[SharedDelivery]:
    return [SharedDelivery(change.delivery) for change in changes]
