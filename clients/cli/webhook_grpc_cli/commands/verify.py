"""`verify`: says whether the signatures of a request are right, and if not, why."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from webhook_grpc_cli.failures import ANSWER_IS_NO, UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.kinds import FILE, SECONDS
from webhook_grpc_cli.output.kind import Column, Kind
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.verifying.findings import Clock, Finding, findings, is_right
from webhook_grpc_cli.verifying.requests import HeaderMalformed, Received, parsed_headers
from webhook_grpc_cli.verifying.sent import difference, secret_difference, sent_body

_BODY_BYTES_MAX: Final = 1024 * 1024  # the service's own are at most 257 KiB
_SMALL_BYTES_MAX: Final = 64 * 1024  # headers, a secret
_MARKS: Final = {"right": "✓", "missing": "·"}
_VALUES: Final = ("header", "state", "detail", "causes")
_FINDING: Final = Kind("header", [Column(name, name) for name in _VALUES], more=dict.fromkeys(_VALUES, ""))


@click.command(
    "verify",
    cls=Command,
    examples=[
        "webhook-grpc verify --body body.json --headers headers.txt --secret-file secret",
        "webhook-grpc verify --body - --headers headers.txt --secret-file new --secret-file old < body.json",
    ],
)
@click.option("--body", required=True, type=FILE, metavar="FILE|-", help="The body as it came, byte for byte.")
@click.option("--header", "lines", multiple=True, metavar="'K: V'", help="A header of the request; may be repeated.")
@click.option(
    "--headers", type=FILE, metavar="FILE", help="Its headers, a line each; as `curl -v` prints them is fine too."
)
@click.option(
    "--secret-file",
    "secrets",
    multiple=True,
    required=True,
    type=FILE,
    metavar="FILE",
    help="May be repeated: new, old.",
)
@click.option("--tolerance", type=SECONDS, default=300.0, metavar="5m", help="How old a signature may be.")
@click.option("--delivery", "delivery_id", metavar="ID", help="Compare with what the service sent for this delivery.")
@with_session
def verify(session: Session, body: str, secrets: Sequence[str], **request: Any) -> int:
    """Say whether the signatures of a request are right, and if not, why.

    Tries what people get wrong: a changed body, a secret that was copied wrongly, an old request, another request's
    headers. Exit status 9 if a signature is wrong or none is there.
    """
    received = Received(_headers(request["lines"], request["headers"]), _content(body, _BODY_BYTES_MAX))
    texts = [secret_in(path) for path in secrets]
    session.printer.check(_FINDING)
    results = findings(received, texts, Clock(time.time(), request["tolerance"]))
    if request["delivery_id"]:
        results += _compared(session, request["delivery_id"], received, texts)
    _print(session, results)
    return 0 if is_right(results) else ANSWER_IS_NO


def _print(session: Session, results: Sequence[Finding]) -> None:
    if not session.printer.has_own_lines:
        shown = ({**{name: getattr(one, name) for name in _VALUES}, "causes": list(one.causes)} for one in results)
        session.printer.several(_FINDING, shown)
        return
    for first in range(0, len(results), 2):
        session.printer.sentence("".join(map(_words, results[first : first + 2])).rstrip())
    for cause in dict.fromkeys(cause for finding in results for cause in finding.causes):
        session.printer.sentence(f"  {cause}")


def _words(finding: Finding) -> str:
    state = "genuine, but" if finding.state == "old" else finding.state
    words = f"{state} {finding.detail}" if finding.state == "old" else ", ".join(filter(None, (state, finding.detail)))
    return f"{_MARKS.get(finding.state, '✕')} {finding.header:<23}{words:<27}"


def _content(path: str, bytes_max: int) -> bytes:
    try:
        if path == "-":
            content = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(bytes_max + 1)
    except OSError as error:
        raise UsageFailure(f"{path}: {error.strerror}") from error
    if len(content) > bytes_max:
        raise UsageFailure(f"{path} is larger than {bytes_max} bytes: no request of the service is")
    return content


def _headers(lines: Sequence[str], path: str | None) -> dict[str, str]:
    text = _content(path, _SMALL_BYTES_MAX).decode("utf-8", "replace") if path else ""
    try:
        return parsed_headers([*text.splitlines(), *lines])
    except HeaderMalformed as error:
        raise UsageFailure(str(error)) from error


def secret_in(path: str) -> str:
    """Returns the secret that a file holds. The line break at its end is the file's."""
    try:
        secret = _content(path, _SMALL_BYTES_MAX).decode()
    except UnicodeDecodeError:
        raise UsageFailure(f"{path} holds no secret: it is no text") from None
    secret = secret.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise UsageFailure(f"{path} holds no secret: it is empty")
    return secret


def _compared(session: Session, delivery_id: str, received: Received, secrets: Sequence[str]) -> list[Finding]:
    """Returns whether the body is the one that the service sent, and a secret the one that the webhook has."""
    from webhook.v1 import service_pb2

    asked = service_pb2.GetDeliveryRequest(delivery_id=delivery_id)
    delivery = session.call(session.stub.GetDelivery, asked, may_repeat=True)
    owner = delivery.customer_id
    by_event = service_pb2.GetEventRequest(customer_id=owner, event_id=delivery.event_id)
    event = session.call(session.stub.GetEvent, by_event, may_repeat=True)
    by_webhook = service_pb2.GetWebhookRequest(customer_id=owner, webhook_id=delivery.webhook_id)
    webhook = session.call(session.stub.GetWebhook, by_webhook, may_repeat=True)
    occurred = event.occur_time if event.HasField("occur_time") else event.create_time
    body = difference(received.body, sent_body(event.event_type, occurred.seconds, event.data_json))
    hints = [secret_difference(secret, webhook.webhook_id, webhook.secret_hint) for secret in secrets]
    return [
        Finding("body", "wrong" if body else "right", causes=(body,) if body else ()),
        Finding("secret", "wrong" if all(hints) else "right", causes=hints if all(hints) else ()),
    ]
