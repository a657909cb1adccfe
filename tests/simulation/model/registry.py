"""Customers' webhooks, and what one owner leaves to the next about the health of their receivers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.model import Outcome, Webhook, WebhookSpec, WebhookStatus
from webhook_grpc.domain.pace import SavedHealth
from webhook_grpc.domain.throttle import Slowdown

from .rows import HealthRow
from .tables import Tables

_LATELY: Final = timedelta(seconds=15)
_BELIEVED_AHEAD: Final = timedelta(hours=1)
NOT_DELETED: Final = frozenset(WebhookStatus) - {WebhookStatus.DELETED}


class Registry(Tables):
    """The statements of `store/registry/webhooks.py` and `store/outbox/paces.py`."""

    def create_webhook(self, webhook: Webhook) -> None:
        self.webhooks[webhook.webhook_id] = webhook

    def set_webhook_status(
        self,
        webhook_id: int,
        status: WebhookStatus,
        from_statuses: Collection[WebhookStatus],
        *,
        reason: str = "",
        version: int | None = None,
    ) -> Webhook | None:
        """The webhook after the change; None: nothing was changed."""
        if self.refusal(webhook_id, from_statuses, version) is not None:
            return None
        disabled_at = self.now if status is WebhookStatus.DISABLED else None
        return self._change(webhook_id, status=status, status_reason=reason, disable_time=disabled_at)

    def update_webhook(self, webhook_id: int, version: int, spec: WebhookSpec) -> Webhook | None:
        if self.refusal(webhook_id, NOT_DELETED, version) is not None:
            return None
        values = {each.name: getattr(spec, each.name) for each in fields(WebhookSpec)}
        return self._change(webhook_id, **values)

    def reopen_webhook(self, webhook_id: int) -> Webhook | None:
        """Makes a disabled webhook active. All that is known of its receiver then is that its breaker is half-open."""
        if self.webhooks[webhook_id].status is not WebhookStatus.DISABLED:
            return None
        nothing = None, None, None, None, None  # known of failures and times
        self.health[webhook_id] = HealthRow(BreakerState.HALF_OPEN, None, 0, None, 0, 0, *nothing, updated_at=self.now)
        return self._change(webhook_id, status=WebhookStatus.ACTIVE, status_reason="", disable_time=None)

    def refusal(
        self, webhook_id: int, from_statuses: Collection[WebhookStatus], version: int | None = None
    ) -> str | None:
        """Says which error is due, or None."""
        now = self.webhooks[webhook_id]
        if now.status is WebhookStatus.DELETED:
            return "NotFound"
        if now.status not in from_statuses:
            return "FailedPrecondition"
        return None if version in {None, now.version} else "Conflict"

    def _change(self, webhook_id: int, **fields: object) -> Webhook:
        before = self.webhooks[webhook_id]
        changed = replace(before, version=before.version + 1, update_time=self.now, **fields)  # pyright: ignore[reportArgumentType]
        self.webhooks[webhook_id] = changed
        return changed

    def changed_lately(self) -> dict[int, int]:
        return {
            webhook.webhook_id: webhook.version
            for webhook in self.webhooks.values()
            if webhook.update_time > self.now - _LATELY
        }

    # --- health ----------------------------------------------------------------------------------------------------

    def load_health(self, webhook_ids: Collection[int]) -> dict[int, SavedHealth]:
        """What is known, in durations from now."""
        return {
            webhook_id: self._loaded(self.health[webhook_id]) for webhook_id in webhook_ids if webhook_id in self.health
        }

    def _loaded(self, row: HealthRow) -> SavedHealth:
        """Times to come are not further away than when they were saved; failures last by the believed time."""
        since = max(self.now, row.updated_at)
        believed = self.now if self.believed_at is None else min(self.now, self.believed_at + _BELIEVED_AHEAD)
        slowdown = None
        if row.throttled_until is not None and row.throttled_until > since:
            assert row.throttle_rate is not None
            assert row.throttle_ceiling is not None
            slowdown = Slowdown(_seconds(since, row.throttled_until), row.throttle_rate, row.throttle_ceiling)
        return SavedHealth(
            breaker=row.breaker,
            probe_in_seconds=max(0.0, _seconds(since, row.probe_at or since)),
            probe_count=row.probe_count,
            failing_seconds=None if row.failing_since is None else _seconds(row.failing_since, believed),
            failure_count=row.failure_count,
            blocked_count=row.blocked_count,
            blocked_seconds=None if row.blocked_at is None else _seconds(row.blocked_at, believed),
            hold_seconds=max(0.0, _seconds(since, row.hold_until or since)),
            slowdown=slowdown,
        )

    def save_health(self, worker: UUID, health: Mapping[int, SavedHealth]) -> None:
        """Only of webhooks of own shards."""
        for webhook_id, saved in health.items():
            if self.has_webhook(worker, webhook_id):
                self.health[webhook_id] = self._saved(saved)

    def _saved(self, saved: SavedHealth) -> HealthRow:
        slowdown = saved.slowdown
        return HealthRow(
            breaker=saved.breaker,
            probe_at=self._in(saved.probe_in_seconds if saved.breaker is BreakerState.OPEN else None),
            probe_count=saved.probe_count,
            failing_since=None if saved.failing_seconds is None else self._in(-saved.failing_seconds),
            failure_count=saved.failure_count,
            blocked_count=saved.blocked_count,
            blocked_at=None if saved.blocked_seconds is None else self._in(-saved.blocked_seconds),
            hold_until=self._in(saved.hold_seconds or None),
            throttled_until=self._in(slowdown and slowdown.seconds),
            throttle_rate=slowdown and slowdown.rate,
            throttle_ceiling=slowdown and slowdown.ceiling,
            updated_at=self.now,
        )

    def _in(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self.now + timedelta(seconds=seconds)

    def delete_health(self, worker: UUID, webhook_ids: Collection[int]) -> None:
        for webhook_id in webhook_ids:
            if self.has_webhook(worker, webhook_id):
                self.health.pop(webhook_id, None)

    def delete_expired_health(self, worker: UUID) -> set[int]:
        """Deletes what says nothing any more; returns of which webhooks."""
        over = {
            webhook_id
            for webhook_id, row in self.health.items()
            if self.has_webhook(worker, webhook_id)
            and row.breaker is BreakerState.CLOSED
            and row.failing_since is None
            and not row.blocked_count
            and all(until is None or until <= self.now for until in (row.hold_until, row.throttled_until))
        }
        for webhook_id in over:
            del self.health[webhook_id]
        return over

    def succeeded_last(self, until: Mapping[int, tuple[int, int]], reach: int) -> set[int]:
        """The webhooks with a success since they began to fail, in the last rows of the log of their shards."""
        return {
            webhook_id
            for webhook_id, (shard, last) in until.items()
            if (row := self.health.get(webhook_id)) is not None and row.failing_since is not None
            if any(
                logged.webhook_id == webhook_id
                and logged.outcome == Outcome.SUCCEEDED
                and logged.at > row.failing_since
                and last - reach < logged.seq <= last
                for logged in self.log[shard]
            )
        }


def _seconds(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds()
