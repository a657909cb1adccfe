"""Customers' webhooks, as the engine reads and changes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from webhook_grpc.domain.model import Webhook, WebhookStatus
from webhook_grpc.store.registry import webhooks

from .tables import Params, Row, Statement, Tables, reads, writes


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The statements of `store.webhooks`. Every change raises the version and is told to `Tables.on_changed`."""

    tables: Tables

    def statements(self) -> dict[str, Statement]:
        return {
            webhooks.SELECT_WEBHOOKS_BY_ID: reads(self._by_ids),
            webhooks.SELECT_WEBHOOK: reads(self._get),
            webhooks.SELECT_CHANGED_WEBHOOKS: reads(self._changed_lately),
            webhooks.SET_WEBHOOK_STATUS: writes(self._set_status),
            webhooks.REOPEN_WEBHOOK: writes(self._reopen),
            webhooks.UPDATE_WEBHOOK: writes(self._update),
        }

    def _by_ids(self, params: Params, _: datetime) -> list[Row]:
        known = self.tables.webhooks
        return [_columns(known[webhook_id]) for webhook_id in params["ids"] if webhook_id in known]

    def _get(self, params: Params, _: datetime) -> list[Row]:
        webhook = self.tables.webhooks[params["id"]]
        return [] if webhook.status is WebhookStatus.DELETED else [_columns(webhook)]

    def _changed_lately(self, _: Params, now: datetime) -> list[Row]:
        since = now - timedelta(seconds=15)
        return [_columns(webhook) for webhook in self.tables.webhooks.values() if webhook.update_time > since]

    def _set_status(self, params: Params, _: datetime) -> list[Row]:
        webhook = self.tables.webhooks[params["id"]]
        if webhook.status.value not in params["from_statuses"] or params["version"] not in {None, webhook.version}:
            return []
        status = WebhookStatus(params["status"])
        return [_columns(self.tables.change(replace(webhook, status=status, status_reason=params["reason"])))]

    def _reopen(self, params: Params, now: datetime) -> list[Row]:
        webhook = self.tables.webhooks[params["id"]]
        if webhook.status is not WebhookStatus.DISABLED:
            return []
        self.tables.health[webhook.webhook_id] = {"breaker": "half_open", "at": now}
        return [_columns(self.tables.change(replace(webhook, status=WebhookStatus.ACTIVE, status_reason="")))]

    def _update(self, params: Params, _: datetime) -> list[Row]:
        webhook = self.tables.webhooks[params["id"]]
        if webhook.status is WebhookStatus.DELETED or webhook.version != params["version"]:
            return []
        names = ("url", "timeout_seconds", "max_in_flight", "rate_limit_per_second")
        delays = params["retry_delays_seconds"]
        changes = {name: params[name] for name in names}
        changed = replace(webhook, retry_delays_seconds=None if delays is None else tuple(delays), **changes)
        return [_columns(self.tables.change(changed))]


def _columns(webhook: Webhook) -> Row:
    return (
        webhook.webhook_id, webhook.customer_id, webhook.name, webhook.url, webhook.sealed_secret, webhook.secret_hint,
        list(webhook.events), webhook.status.value, webhook.status_reason,
        None if webhook.retry_delays_seconds is None else list(webhook.retry_delays_seconds), webhook.timeout_seconds,
        webhook.max_in_flight, webhook.rate_limit_per_second, webhook.headers, webhook.labels, webhook.description,
        webhook.version, webhook.create_time, webhook.update_time, None, None,
    )  # fmt: skip
