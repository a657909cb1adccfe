"""`customers delete-data`: everything of one customer, for good."""

from __future__ import annotations

import sys
import threading
import time

import click
from webhook.v1 import service_pb2

from webhook_grpc_cli.failures import ANSWER_IS_NO, UsageFailure
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.kinds import ID
from webhook_grpc_cli.output.kind import Kind
from webhook_grpc_cli.output.look import is_terminal
from webhook_grpc_cli.session import Session, answered, with_session

from .options import waiting

_LOOK_SECONDS = 1.0


@group("customers")
def customers() -> None:
    """What concerns a whole customer."""


@customers.command(
    "delete-data",
    examples=[
        "webhook-grpc customers delete-data 42 --yes-delete-customer 42",
        "webhook-grpc customers delete-data 42 --yes-delete-customer 42 --wait 5s",
    ],
)
@click.argument("customer", type=ID, metavar="ID")
@click.option("--yes-delete-customer", type=ID, metavar="ID", help="The number once more, where nobody can be asked.")
@waiting
@with_session
def delete_data(session: Session, customer: int, yes_delete_customer: int | None, wait: float | None) -> None:
    """Delete all webhooks, events and deliveries of a customer, for good. --yes is not enough."""
    _check(session, customer, yes_delete_customer)
    until, pause = time.monotonic() + (wait or 0.0), threading.Event()
    request = service_pb2.DeleteCustomerDataRequest(customer_id=customer)
    while True:
        answer = session.call(session.stub.DeleteCustomerData, request, may_repeat=True)
        if answer.complete or time.monotonic() >= until:
            break
        pause.wait(_LOOK_SECONDS)  # no signal says that it is complete
    session.printer.one(Kind("", ()), answer) if session.form == "json" else session.say(
        "all is deleted"
        if answer.complete
        else "deletion goes on; the same command with --wait says when it is complete"
    )
    if wait is not None and not answer.complete:
        raise click.exceptions.Exit(ANSWER_IS_NO)


def _check(session: Session, customer: int, typed: int | None) -> None:
    if typed is None:
        if not is_terminal(sys.stdin) or not session.talk.is_terminal:
            raise UsageFailure("nobody can type the customer's number here", remedy=f"--yes-delete-customer {customer}")
        words = f"Type the number of the customer whose data is deleted for good ({customer})"
        typed = answered(lambda: click.prompt(words, type=int, err=True))
    if typed != customer:
        raise UsageFailure(f"{typed} is not {customer}; nothing is deleted")
