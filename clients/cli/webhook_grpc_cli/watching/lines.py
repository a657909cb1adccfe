"""A delivery after a change, as one line whose columns stay where they are, so that `grep` and eyes work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import click
from webhook.v1 import delivery_pb2

from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.output.kind import Column, Kind
from webhook_grpc_cli.output.look import Look, latency_text
from webhook_grpc_cli.output.printing import NOTHING
from webhook_grpc_cli.values import enum_words

_ENDINGS: Final = {"succeeded": "✓", "pending": "◷", "failed": "✕", "cancelled": "⊘", "expired": "⧖"}
_SHAPES: Final = {"succeeded": "●", "http_error": "■", "blocked": "◆", "internal_error": "◆"}  # else ▲: no answer
_COLOURS: Final = {"✓": "green", "●": "green", "✕": "red", "■": "red", "▲": "yellow", "◆": "yellow", "◷": "yellow"}
_ANSWERED: Final = ("succeeded", "http_error")
_WIDTH_MAX: Final = 40  # a longer text shifts what stands behind it

DELIVERY: Final = Kind(
    id_field="delivery_id",
    columns=[
        Column(path, path)
        for path in (
            "update_time",
            "status",
            "last_attempt.outcome",
            "last_attempt.response_status",
            "last_attempt.latency",
            "webhook_id",
            "event_type",
            "attempt_count",
            "trigger",
            "next_attempt_time",
            "delivery_id",
        )
    ],
    message="Delivery",
)


def is_problem(delivery: delivery_pb2.Delivery) -> bool:
    """Returns whether an attempt failed, or the delivery ended without success."""
    status = delivery.status
    has_failed = delivery.HasField("last_attempt") and _outcome(delivery) != "succeeded"
    return has_failed or status not in (delivery_pb2.DELIVERY_STATUS_PENDING, delivery_pb2.DELIVERY_STATUS_SUCCEEDED)


@dataclass(slots=True)
class Widths:
    """How wide the columns are whose texts others choose: as the longest so far, within bounds."""

    webhook: int = 14
    event_type: int = 14

    def note(self, webhook: str, event_type: str) -> None:
        """Makes room for these texts."""
        self.webhook = max(self.webhook, min(len(webhook), _WIDTH_MAX))
        self.event_type = max(self.event_type, min(len(event_type), _WIDTH_MAX))


def line(delivery: delivery_pb2.Delivery, webhook_name: str, look: Look, widths: Widths) -> str:
    """Returns the line; `webhook_name` is empty if it is not known. Nothing in it drives a terminal."""
    webhook = f"{webhook_name} #{delivery.webhook_id}".strip()
    widths.note(webhook, delivery.event_type)
    whose = (_padded(webhook, widths.webhook), _padded(delivery.event_type, widths.event_type))
    return _line(delivery, look, *whose, _padded(_cause(delivery, look), 27), delivery.delivery_id)


def line_of_one(delivery: delivery_pb2.Delivery, look: Look) -> str:
    """Returns the line where it is known which webhook it is about. Nothing in it drives a terminal."""
    return _line(delivery, look, _padded(delivery.event_type, 14), _cause(delivery, look))


def _line(delivery: delivery_pb2.Delivery, look: Look, *columns: str) -> str:
    result = _result(delivery)
    attempt = delivery.last_attempt if delivery.HasField("last_attempt") else None
    latency = latency_text(attempt.latency.ToTimedelta().total_seconds()) if attempt else NOTHING
    rest = look.mark("  ".join(map(escaped, [f"{latency:>7}", *columns])))
    shown = look.mark(_padded(escaped(result), 15))
    if look.has_colour:
        shown = click.style(shown, fg=_COLOURS.get(result[0]), dim=result[0] not in _COLOURS)
    return f"{look.clock(_utc(delivery))}  {shown}  {rest}"


def _utc(delivery: delivery_pb2.Delivery) -> datetime:
    return delivery.update_time.ToDatetime(UTC)


def _padded(text: str, width: int) -> str:
    from rich.cells import cell_len

    return text + " " * (width - cell_len(text))


def _word(message: delivery_pb2.Delivery | delivery_pb2.DeliveryAttempt, field: str) -> str:
    found = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert found is not None
    number = int(getattr(message, field))
    return enum_words(found).get(number, str(number))


def _outcome(delivery: delivery_pb2.Delivery) -> str:
    return _word(delivery.last_attempt, "outcome")


def _result(delivery: delivery_pb2.Delivery) -> str:
    """Returns a shape and words: how the attempt ended, or where the delivery stands without one."""
    status = _word(delivery, "status")
    mark = _ENDINGS.get(status, "◆")
    if not delivery.HasField("last_attempt"):
        return f"{mark} {status}"
    outcome = _outcome(delivery)
    answer = str(delivery.last_attempt.response_status) if outcome in _ANSWERED else outcome
    if status == "succeeded":
        return f"{mark} {answer}"
    return f"{_SHAPES.get(outcome, '▲')} {answer}" if status == "pending" else f"{mark} {status} {answer}"


def _cause(delivery: delivery_pb2.Delivery, look: Look) -> str:
    """Returns which attempt it was and what caused it, and when the next is due."""
    trigger = _word(delivery, "trigger")
    if delivery.HasField("last_attempt"):
        trigger = f"#{delivery.last_attempt.attempt_number} {_word(delivery.last_attempt, 'trigger')}"
    elif delivery.status != delivery_pb2.DELIVERY_STATUS_PENDING:
        trigger = ""
    if not delivery.HasField("next_attempt_time"):
        return trigger
    due = look.clock(delivery.next_attempt_time.ToDatetime(UTC)).rpartition(".")[0]
    return f"{trigger}  next {due}"
