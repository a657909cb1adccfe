"""Changes of the log as they were read together. All watchers get the same object, and share what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeVar, cast

from webhook_grpc.domain.cursor import Position
from webhook_grpc.store.log.rows import Change

Value = TypeVar("Value")

SHARED_MAX: Final = 8  # of one batch; watchers with rarer filters make their own


class Batch:
    """Changes that follow one another in the log. Never changes, and lives as long as a watcher has to send it."""

    __slots__ = ("_customer_ids", "_made", "_webhook_ids", "after", "before", "changes")

    def __init__(self, before: Position, changes: Sequence[Change], after: Position) -> None:
        self.before = before
        self.changes = changes
        self.after = after
        self._made: dict[Hashable, object] = {}
        self._customer_ids: frozenset[int] | None = None
        self._webhook_ids: frozenset[int] | None = None

    @property
    def customer_ids(self) -> frozenset[int]:
        """Returns whose changes it has."""
        if self._customer_ids is None:
            self._customer_ids = frozenset(change.delivery.customer_id for change in self.changes)
        return self._customer_ids

    @property
    def webhook_ids(self) -> frozenset[int]:
        """Returns the webhooks of its changes."""
        if self._webhook_ids is None:
            self._webhook_ids = frozenset(change.delivery.webhook_id for change in self.changes)
        return self._webhook_ids

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Returns what `make` returns, made once for all watchers with an equal key while there is room for it.

        `make` must depend on nothing but the key and the batch.
        """
        made = self._made.get(key)
        if made is None:
            made = make()
            if len(self._made) < SHARED_MAX:
                self._made[key] = made
        return cast("Any", made)
