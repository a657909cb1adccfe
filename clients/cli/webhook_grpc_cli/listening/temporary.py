"""A webhook that leads to this machine, and is deleted at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from webhook.v1 import service_pb2, webhook_pb2

from webhook_grpc_cli.failures import Failure, status_of
from webhook_grpc_cli.session import Session
from webhook_grpc_client import InvalidArgument, NotFound

LABEL: Final = "listen"  # of a webhook: which process on which machine it leads to


def own_label() -> str:
    """Returns the value of the label for this process."""
    return f"{socket.gethostname()[:200]}-{os.getpid()}"


def created(session: Session, url: str, name: str, event_types: Sequence[str], secret: str) -> webhook_pb2.Webhook:
    """Creates the webhook. Raises Failure if the service may not call the URL, and WebhookError."""
    webhook = webhook_pb2.Webhook(
        customer_id=session.place.customer_id,
        name=name[:128],
        url=url,
        events=event_types or ["*"],
        labels={LABEL: own_label()},
        secret=secret,
    )
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id=uuid4().hex)
    try:  # with a request id, so that an answer that is lost leaves no webhook that nobody knows of
        return session.call(session.stub.CreateWebhook, request, may_repeat=True)
    except InvalidArgument as error:
        if error.reason != "URL_NOT_ALLOWED":
            raise
        message = f"the service may not call {url}"
        raise Failure(message, remedy=_REACHABLE, status=status_of(error)) from error


_REACHABLE: Final = "add --pull, or --url with a public https address that leads here"


def tested(session: Session, webhook: webhook_pb2.Webhook) -> None:
    """Lets the service send a test. Raises Failure if it does not come back with success, and WebhookError."""
    request = service_pb2.TestWebhookRequest(customer_id=webhook.customer_id, webhook_id=webhook.webhook_id)
    delivery = session.call(session.stub.TestWebhook, request).delivery
    if 200 <= delivery.last_attempt.response_status < 300:
        return
    why = delivery.last_attempt.error_message or f"answered {delivery.last_attempt.response_status}"
    raise Failure(f"a test of webhook {webhook.webhook_id} ({webhook.url}) failed: {why}", remedy=_REACHABLE)


def delete(session: Session, webhook: webhook_pb2.Webhook) -> None:
    """Deletes the webhook; it may be deleted already. Raises WebhookError."""
    request = service_pb2.DeleteWebhookRequest(customer_id=webhook.customer_id, webhook_id=webhook.webhook_id)
    try:
        session.call(session.stub.DeleteWebhook, request, may_repeat=True)
    except NotFound:
        return


def left_behind(session: Session) -> list[Any]:
    """Returns webhooks that lead to processes of this machine which do not run any more. Raises WebhookError."""
    webhooks = session.listed(session.stub.ListWebhooks, service_pb2.ListWebhooksRequest(), "webhooks")
    return [webhook for webhook in webhooks if _is_left_behind(webhook.labels.get(LABEL, ""))]


def _is_left_behind(label: str) -> bool:
    host, _, number = label.rpartition("-")
    if host != socket.gethostname()[:200] or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # somebody else's process runs
        return False
    return False
