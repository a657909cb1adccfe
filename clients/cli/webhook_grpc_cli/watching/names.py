"""Names of webhooks, which deliveries do not carry."""

from __future__ import annotations

from typing import Final

from webhook.v1 import service_pb2

from webhook_grpc_cli.session import Session
from webhook_grpc_client import Unavailable, WebhookError

_NAMES_MAX: Final = 10_000


class WebhookNames:
    """Reads each webhook's name once. One that can't be read is empty, and is tried again only if nobody answered."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: dict[tuple[int, int], str] = {}

    def of(self, customer_id: int, webhook_id: int) -> str:
        """Returns the name, empty if it is not known."""
        key = (customer_id, webhook_id)
        if key not in self._names:
            request = service_pb2.GetWebhookRequest(customer_id=customer_id, webhook_id=webhook_id)
            try:
                name = self._session.call(self._session.stub.GetWebhook, request).name
            except Unavailable:
                return ""
            except WebhookError:  # deleted, or not for this token
                name = ""
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            self._names[key] = name
        return self._names[key]
