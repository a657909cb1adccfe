"""Carries out acts of `top` with one webhook, one after the other, beside the screen: an answer may take a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import uuid4

import click
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.output.things import test_words
from webhook_grpc_cli.session import Session
from webhook_grpc_cli.values import plain
from webhook_grpc_client import WebhookError

from .asking import Row, Wanted
from .figures import Figures
from .following import Worker


class Acts:
    """One act at a time."""

    def __init__(self, session: Session, figures: Figures) -> None:
        self._session = session
        self._figures = figures
        self._failed = threading.Event()
        self._worker: Worker | None = None
        self._came: str | None = None
        self._is_busy = False

    def begin(self, wanted: Wanted) -> str:
        """Carries an act out, unless one is under way. Returns the line that says which of the two."""
        if self._is_busy:
            return f"{wanted.title}: not begun, for another act is under way"
        self._is_busy = True
        self._worker = Worker("top-act", partial(self._act, wanted), self._failed)
        self._worker.start()
        return f"{wanted.title} …"

    def take_said(self) -> str | None:
        """Returns once what came of the act, or why it was refused; None if there is nothing new."""
        came = self._came
        if came is not None:  # its thread has nothing more to write
            self._came, self._is_busy = None, False
        return came

    def raise_failure(self) -> None:
        """Raises what an act has failed with, if that was no refusal."""
        if self._worker is not None:
            self._worker.raise_failure()

    def _act(self, wanted: Wanted) -> None:
        words = self._words(wanted)
        self._figures.look_again()
        self._came = f"{wanted.title}: {escaped(words)}"

    def _words(self, wanted: Wanted) -> str:
        try:
            return _RUN[wanted.key](self._session, wanted.row)
        except WebhookError as error:
            return f"✕ {error.message or error.code.name}  {error.reason}".rstrip()
        except click.ClickException as error:  # the profile or the token is wrong
            return f"✕ {error.format_message()}"


def _whose(row: Row) -> dict[str, Any]:
    return {"customer_id": row["customer_id"], "webhook_id": row["webhook_id"]}


def _test(session: Session, row: Row) -> str:
    request = service_pb2.TestWebhookRequest(**_whose(row))
    answer = session.call(session.stub.TestWebhook, request, is_confirmed=True)
    return test_words(plain(answer.delivery.last_attempt))


def _retry(session: Session, row: Row) -> str:
    last = _last(session, row, [delivery_pb2.DELIVERY_STATUS_FAILED])
    if last is None:
        return "none of its deliveries has failed"
    request = service_pb2.RetryDeliveryRequest(
        customer_id=last.customer_id, delivery_id=last.delivery_id, request_id=uuid4().hex
    )
    session.call(session.stub.RetryDelivery, request, may_repeat=True, is_confirmed=True)
    return f"restarted {last.delivery_id}"


def _last(session: Session, row: Row, statuses: list[Any]) -> delivery_pb2.Delivery | None:
    """Returns the webhook's delivery that changed last, of those with one of these statuses (none: of all)."""
    request = service_pb2.ListDeliveriesRequest(
        customer_id=row["customer_id"], webhook_ids=[row["webhook_id"]], statuses=statuses, page_size=1
    )
    return next(iter(session.call(session.stub.ListDeliveries, request, may_repeat=True).deliveries), None)


def _pause(session: Session, row: Row) -> str:
    request = service_pb2.PauseWebhookRequest(**_whose(row))
    return str(plain(session.call(session.stub.PauseWebhook, request, is_confirmed=True))["status"])


def _resume(session: Session, row: Row) -> str:
    request = service_pb2.ResumeWebhookRequest(**_whose(row))
    return str(plain(session.call(session.stub.ResumeWebhook, request, is_confirmed=True))["status"])


def _explain(session: Session, row: Row) -> str:
    last = _last(session, row, [])
    if last is None:
        return "it has had no delivery"
    request = service_pb2.ExplainEventRequest(customer_id=last.customer_id, event_id=last.event_id)
    explained = session.call(session.stub.ExplainEvent, request, may_repeat=True)
    words = [one.explanation for one in explained.webhooks if one.webhook_id == last.webhook_id]
    return f"{last.event_type} {last.event_id}: {''.join(words) or 'the service says nothing of it'}"


_RUN: Final[Mapping[str, Callable[[Session, Row], str]]] = {
    "t": _test,
    "r": _retry,
    "P": _pause,
    "R": _resume,
    "e": _explain,
}
