"""`deliveries`: look at what became of events, send again, cancel."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import click
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc_cli.completing import delivery_ids, words_of
from webhook_grpc_cli.failures import ANSWER_IS_NO, UsageFailure
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.inputs import ids_given
from webhook_grpc_cli.kinds import words
from webhook_grpc_cli.names import Names
from webhook_grpc_cli.output.look import is_terminal
from webhook_grpc_cli.output.things import ATTEMPTS, next_line
from webhook_grpc_cli.output.things import deliveries as deliveries_kind
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.values import enum_number, known_words, plain, timestamp
from webhook_grpc_cli.waiting import change_line, ended_deliveries

from .options import filters, for_each, limited, waiting, windowed

_STATUSES: Final = known_words(delivery_pb2.DeliveryStatus)
_OUTCOMES: Final = known_words(delivery_pb2.AttemptOutcome)


@group("deliveries")
def deliveries() -> None:
    """Look at what became of events, send again, cancel."""


def _filters(function: Any) -> Any:
    wanted = filters("webhook_ids", "event_types", "statuses", "event_id", statuses=_STATUSES)
    return wanted(windowed()(limited(function)))


def _fill(request: Any, given: dict[str, Any]) -> None:
    """Writes the filters of the line into the request of a list."""
    request.webhook_ids.extend(given["webhook_ids"])
    request.event_types.extend(given["event_types"])
    request.statuses.extend(enum_number(delivery_pb2.DeliveryStatus, word) for word in given["statuses"])
    request.event_id = given["event_id"]
    for name, field in (("since", "start_time"), ("until", "end_time")):
        if given[name] is not None:
            getattr(request, field).CopyFrom(timestamp(given[name]))


@deliveries.command(
    "list",
    examples=[
        "webhook-grpc deliveries list --since 1h -n 3",
        "webhook-grpc deliveries list -s failed --since 1h -o id",
    ],
)
@_filters
@with_session
def list_deliveries(session: Session, limit: int, is_all: bool, **given: Any) -> None:
    """List deliveries, the one that changed last first."""
    request = service_pb2.ListDeliveriesRequest()
    _fill(request, given)
    found = session.listed(session.stub.ListDeliveries, request, "deliveries")
    session.print_list(deliveries_kind(Names(session)), found, None if is_all else limit)


@deliveries.command(
    "get",
    examples=["webhook-grpc deliveries get DELIVERY_ID", "webhook-grpc deliveries get DELIVERY_ID --body > answer"],
)
@click.argument("delivery_id", metavar="ID", shell_complete=delivery_ids)
@click.option("--body", is_flag=True, help="Only what the receiver answered last, byte for byte.")
@with_session
def get(session: Session, delivery_id: str, body: bool) -> None:
    """Show a delivery, with its last attempt."""
    request = service_pb2.GetDeliveryRequest(delivery_id=delivery_id)
    delivery = session.call(session.stub.GetDelivery, request, may_repeat=True)
    if not body:
        session.printer.one(deliveries_kind(Names(session)), delivery)
    elif is_terminal(sys.stdout):
        session.printer.sentence(delivery.last_attempt.response_body.decode("utf-8", "backslashreplace"))
    else:
        sys.stdout.buffer.write(delivery.last_attempt.response_body)


@deliveries.command(
    "attempts",
    examples=[
        "webhook-grpc deliveries attempts DELIVERY_ID",
        "webhook-grpc deliveries attempts --outcome timeout,http_error --since 1h -o json",
    ],
)
@click.argument("delivery_id", metavar="[ID|-]", default="", shell_complete=delivery_ids)
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    callback=words(_OUTCOMES),
    shell_complete=words_of(_OUTCOMES),
    metavar="O…",
    help=f"Only these: {', '.join(_OUTCOMES)}.",
)
@_filters
@with_session
def attempts(
    session: Session, delivery_id: str, outcomes: tuple[str, ...], limit: int, is_all: bool, **given: Any
) -> None:
    """List attempts, newest first: of one delivery, of those on stdin (`-`), or of all that the filters let through."""

    def act(one: str) -> None:
        request = service_pb2.ListDeliveryAttemptsRequest(delivery_id=one)
        _fill(request, given)
        request.outcomes.extend(enum_number(delivery_pb2.AttemptOutcome, word) for word in outcomes)
        found = session.listed(session.stub.ListDeliveryAttempts, request, "attempts")
        session.print_list(ATTEMPTS, found, None if is_all else limit)
        if one and session.printer.is_for_people:
            _say_what_follows(session, one)

    for_each(session, ids_given([delivery_id]), act)


def _say_what_follows(session: Session, delivery_id: str) -> None:
    """Prints when the next attempt is due, and what may put it off; nothing if the delivery has ended."""
    request = service_pb2.GetDeliveryRequest(delivery_id=delivery_id)
    delivery = session.call(session.stub.GetDelivery, request, may_repeat=True)
    if delivery.HasField("next_attempt_time"):
        whose: Any = {"customer_id": delivery.customer_id, "webhook_id": delivery.webhook_id}
        stub, get_webhook = session.stub, service_pb2.GetWebhookRequest(**whose)
        webhook = session.call(stub.GetWebhook, get_webhook, may_repeat=True)
        stats = session.call(stub.GetWebhookStats, service_pb2.GetWebhookStatsRequest(**whose), may_repeat=True)
        session.printer.sentence(next_line(plain(delivery), plain(webhook), plain(stats), session.look))


@deliveries.command(
    "retry",
    examples=[
        "webhook-grpc deliveries retry DELIVERY_ID --wait",
        "webhook-grpc deliveries list -s failed --since 1h -o id | webhook-grpc deliveries retry -",
    ],
)
@click.argument("ids", nargs=-1, required=True, metavar="ID…", shell_complete=delivery_ids)
@click.option("-r", "--request-id", help="Makes the call safe to repeat, of one delivery; one is made.")
@waiting
@with_session
def retry(session: Session, ids: tuple[str, ...], request_id: str | None, wait: float | None) -> None:
    """Try deliveries that have ended once more, now. `-` reads ids from stdin."""
    if request_id and (len(ids) > 1 or ids == ("-",)):
        raise UsageFailure("--request-id is for one delivery")
    kind, names, failed = deliveries_kind(Names(session)), Names(session), 0

    def act(one: str) -> None:
        nonlocal failed
        request = service_pb2.RetryDeliveryRequest(delivery_id=one, request_id=request_id or uuid4().hex)
        delivery = session.call(session.stub.RetryDelivery, request, may_repeat=True)
        if wait is not None:
            delivery = _ended(session, delivery, wait, names)
            failed += delivery.status != delivery_pb2.DELIVERY_STATUS_SUCCEEDED
        if session.printer.is_for_people:
            session.printer.sentence(change_line(delivery, names) + f"  {delivery.delivery_id}")
        else:
            session.printer.one(kind, delivery)

    for_each(session, ids_given(ids), act)
    if failed:
        raise click.exceptions.Exit(ANSWER_IS_NO)


def _ended(session: Session, delivery: delivery_pb2.Delivery, seconds: float, names: Names) -> delivery_pb2.Delivery:
    """Returns the delivery as it ended, or as it is when the time is over."""
    since = delivery.update_time.ToDatetime(UTC) if delivery.HasField("update_time") else datetime.now(UTC)
    filters: dict[str, Any] = {"event_id": delivery.event_id, "webhook_ids": [delivery.webhook_id]}

    def note(changed: delivery_pb2.Delivery) -> None:
        session.say(change_line(changed, names))

    [*ended] = ended_deliveries(session, seconds, 1, since, note, customer_id=delivery.customer_id, **filters)
    return ended[0] if ended else delivery


@deliveries.command(
    "cancel",
    examples=[
        "webhook-grpc deliveries cancel DELIVERY_ID -y",
        "webhook-grpc deliveries list -s pending --webhook-id 12 -o id | webhook-grpc deliveries cancel - -y",
    ],
)
@click.argument("ids", nargs=-1, required=True, metavar="ID…", shell_complete=delivery_ids)
@with_session
def cancel(session: Session, ids: tuple[str, ...]) -> None:
    """Give up deliveries that are pending."""
    session.confirm(f"cancel {'what stdin names' if '-' in ids else ', '.join(ids)}?")
    kind = deliveries_kind(Names(session))

    def act(one: str) -> None:
        request = service_pb2.CancelDeliveryRequest(delivery_id=one)
        delivery = session.call(session.stub.CancelDelivery, request)
        if session.printer.is_for_people:
            session.printer.sentence(f"⊘ cancelled {delivery.delivery_id}")
        else:
            session.printer.one(kind, delivery)

    for_each(session, ids_given(ids), act)
