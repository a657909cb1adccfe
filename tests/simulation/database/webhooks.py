"""Customers' webhooks, as the engine reads and changes them."""

from __future__ import annotations

from dataclasses import dataclass

from webhook_grpc.domain.model import Webhook, WebhookStatus
from webhook_grpc.store.registry import webhooks

from .statements import Params, Row, Statement, reads, writes
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The statements of `store.webhooks` that the engine runs."""

    stored: Stored

    def statements(self) -> dict[str, Statement]:
        return {
            webhooks.SELECT_WEBHOOKS_BY_ID: reads(self._by_ids),
            webhooks.SELECT_WEBHOOK: reads(self._get),
            webhooks.SELECT_CHANGED_VERSIONS: reads(self._changed_lately),
            webhooks.SET_WEBHOOK_STATUS: writes(self._set_status),
        }

    def _by_ids(self, params: Params) -> list[Row]:
        known = self.stored.model.webhooks
        return [(*_columns(known[webhook_id]), None, None, None) for webhook_id in params["ids"] if webhook_id in known]

    def _get(self, params: Params) -> list[Row]:
        webhook = self.stored.model.webhooks[params["id"]]
        return [] if webhook.status is WebhookStatus.DELETED else [_columns(webhook)]

    def _changed_lately(self, _: Params) -> list[Row]:
        return list(self.stored.model.changed_lately().items())

    def _set_status(self, params: Params) -> list[Row]:
        changed = self.stored.model.set_webhook_status(
            params["id"],
            WebhookStatus(params["status"]),
            [WebhookStatus(status) for status in params["from_statuses"]],
            reason=params["reason"],
            version=params["version"],
        )
        self.stored.changed(changed)
        return [] if changed is None else [_columns(changed)]


def _columns(webhook: Webhook) -> Row:
    return (
        webhook.webhook_id, webhook.customer_id, webhook.name, webhook.url, webhook.sealed_secret, webhook.secret_hint,
        list(webhook.events), webhook.status.value, webhook.status_reason,
        None if webhook.retry_delays_seconds is None else list(webhook.retry_delays_seconds), webhook.timeout_seconds,
        webhook.max_in_flight, webhook.rate_limit_per_second, webhook.headers, webhook.labels, webhook.description,
        webhook.version, webhook.create_time, webhook.update_time, webhook.disable_time, None,
        webhook.signature_type.value, webhook.sealed_query, None, None,
    )  # fmt: skip
