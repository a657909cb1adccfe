"""What webhooks are called, for tables: looked up once, when the first name is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


class Names:
    """The names of the customer's webhooks. One that is deleted meanwhile has only its number."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: dict[int, str] | None = None

    def __call__(self, webhook_id: int) -> str:
        """Returns `billing-eu #12`. A list that can't be had costs no answer: then it is `#12`."""
        if self._names is None:
            self._names = self._read()
        return f"{self._names.get(webhook_id, '')} #{webhook_id}".strip()

    def _read(self) -> dict[int, str]:
        from webhook.v1 import service_pb2

        from webhook_grpc_client import WebhookError

        session = self._session
        webhooks = session.listed(session.stub.ListWebhooks, service_pb2.ListWebhooksRequest(), "webhooks")
        try:
            return {webhook.webhook_id: webhook.name for webhook in webhooks}
        except WebhookError as error:
            session.say(f"without names of webhooks: {error.message}")
            return {}
