"""How webhooks, events, deliveries and the other things of the API look in a table. The marks are those of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from webhook_grpc_cli.values import field_at

from .kind import Cell, Column, Kind
from .look import Look, latency_text, span_text

Plain = Mapping[str, Any]
Name = Callable[[int], str]
"""Returns what to call a webhook: `billing-eu #12`."""

_STATUSES: Final = {
    "succeeded": ("✓", "green"), "pending": ("◷", "yellow"), "failed": ("✕", "red"), "cancelled": ("⊘", "dim"),
    "expired": ("⧖", "dim"), "active": ("●", "green"), "paused": ("⏸", "yellow"), "disabled": ("⏻", "red"),
    "running": ("◷", "yellow"), "completed": ("✓", "green"),
}  # fmt: skip
_OUTCOMES: Final = {
    "succeeded": ("●", "green"), "http_error": ("■", "red"), "timeout": ("▲", "yellow"),
    "connection_error": ("▲", "yellow"),
}  # fmt: skip
_OTHER_OUTCOME: Final = ("◆", "magenta")
_ANSWER_SHOWN_MAX: Final = 200  # characters


def status(value: Plain, _: Look) -> Cell:
    """Returns the status with its mark."""
    word = str(value.get("status", ""))
    mark, style = _STATUSES.get(word, ("", ""))
    return Cell(f"{mark} {word}".strip(), style)


def outcome_mark(outcome: str) -> tuple[str, str]:
    """Returns the mark of an attempt's outcome, and its colour."""
    return _OUTCOMES.get(outcome, _OTHER_OUTCOME)


def answer_text(attempt: Plain) -> str:
    """Returns the status that a receiver answered with, or a word for why there is none."""
    code = attempt.get("response_status")
    if code:
        return str(code)
    return "no answer" if attempt.get("outcome") == "timeout" else str(attempt.get("outcome", "")).replace("_", " ")


def test_words(attempt: Plain) -> str:
    """Returns what came of a test: `✓ 200 in 84 ms`, or with the reason why it failed."""
    is_success = attempt.get("outcome") == "succeeded"
    took = latency_text(seconds_of(attempt, "latency") or 0.0)
    why = "" if is_success else f"  ({attempt.get('outcome')})   "
    text = str(attempt.get("response_text") or attempt.get("error_message") or "")
    return f"{'✓' if is_success else '✕'} {answer_text(attempt)} in {took}{why}{text}"


def time_of(value: Plain, path: str) -> datetime | None:
    """Returns the time that stands at a path."""
    text = field_at(value, path)
    return datetime.fromisoformat(text) if text else None


def seconds_of(value: Plain, path: str) -> float | None:
    """Returns the duration that stands at a path, in seconds."""
    text = field_at(value, path)
    return float(text[:-1]) if text else None


def relative(path: str) -> Callable[[Plain, Look], str]:
    """Returns what shows a time as `3 s ago`."""

    def show(value: Plain, look: Look) -> str:
        at = time_of(value, path)
        return look.relative(at) if at else ""

    return show


def clock(path: str) -> Callable[[Plain, Look], str]:
    """Returns what shows a time as a time of day."""

    def show(value: Plain, look: Look) -> str:
        at = time_of(value, path)
        return look.clock(at) if at else ""

    return show


def latency(path: str) -> Callable[[Plain, Look], str]:
    """Returns what shows a duration as `84 ms`."""

    def show(value: Plain, _: Look) -> str:
        seconds = seconds_of(value, path)
        return "" if seconds is None else latency_text(seconds)

    return show


def _attempts(value: Plain, _: Look) -> Cell:
    last = value.get("last_attempt")
    mark, style = outcome_mark(str(last.get("outcome", ""))) if last else ("", "")
    return Cell(f"{value['attempt_count']} {mark}".strip(), style)


def _outcome(value: Plain, _: Look) -> Cell:
    word = str(value.get("outcome", ""))
    mark, style = outcome_mark(word)
    return Cell(f"{mark} {word}", style)


def _answer(value: Plain, _: Look) -> str:
    last = value.get("last_attempt")
    return answer_text(last) if last else ""


def _next_or_ended(value: Plain, look: Look) -> str:
    return relative("next_attempt_time" if value.get("status") == "pending" else "update_time")(value, look)


def _listed(path: str) -> Callable[[Plain, Look], str]:
    return lambda value, _: ", ".join(field_at(value, path) or ())


def breaker(value: Plain, look: Look) -> Cell:
    """Returns a webhook's status, and the state of its breaker if that is not closed."""
    shown, state = status(value, look), field_at(value, "stats.breaker_state")
    return Cell(f"{shown.text}, breaker {state}", "yellow") if state in {"open", "half_open"} else shown


def success(value: Plain, _: Look) -> str:
    """Returns the share of attempts that succeeded, empty if there were none."""
    count, rate = field_at(value, "stats.attempt_count"), field_at(value, "stats.success_rate")
    return f"{rate * 100:.1f} %" if count else ""


def oldest_due(value: Plain, _: Look) -> str:
    """Returns how long the oldest due delivery has been due."""
    seconds = seconds_of(value, "stats.oldest_due_age")
    return span_text(seconds) if seconds else ""


WEBHOOKS: Final = Kind(
    "webhook_id",
    (
        Column("Webhook", "webhook_id", is_whole=True),
        Column("Status", "status", status),
        Column("Name", "name"),
        Column("URL", "url", is_foldable=True),
        Column("Events", "events", _listed("events"), dropped=1),
    ),
    message="Webhook",
)
WEBHOOKS_WITH_STATS: Final = Kind(
    "webhook_id",
    (
        WEBHOOKS.columns[0],
        Column("Status", "status", breaker),
        *WEBHOOKS.columns[2:],
        Column("Success 24 h", "stats.success_rate", success, is_number=True),
        Column("Oldest due", "stats.oldest_due_age", oldest_due),
    ),
    message="Webhook",
    more={"stats": "GetWebhookStatsResponse"},
)
EVENTS: Final = Kind(
    "event_id",
    (
        Column("Created", "create_time", clock("create_time"), is_whole=True),
        Column("Event type", "event_type"),
        Column("Customer", "customer_id", is_number=True, dropped=1),
        Column("Event", "event_id", is_whole=True),
    ),
    message="Event",
)
EVENTS_WITH_DATA: Final = Kind("event_id", (*EVENTS.columns, Column("Data", "data", is_foldable=True)), message="Event")
EVENT_TYPES: Final = Kind(
    "event_type",
    (
        Column("Event type", "event_type", is_whole=True),
        Column("Description", "description"),
        Column("Schema", "json_schema", lambda value, _: "yes" if value.get("json_schema") else ""),
        Column("Archived", "archived", lambda value, _: "yes" if value["archived"] else "", dropped=1),
    ),
    message="EventType",
)
REPLAYS: Final = Kind(
    "replay_id",
    (
        Column("Replay", "replay_id", is_whole=True),
        Column("Status", "status", status),
        Column("From", "start_time", clock("start_time"), dropped=2),
        Column("Until", "end_time", clock("end_time"), dropped=2),
        Column("Deliveries", "delivery_count", is_number=True),
        Column("Pending", "pending_count", is_number=True),
        Column("Succeeded", "succeeded_count", is_number=True),
        Column("Failed", "failed_count", is_number=True),
    ),
    message="Replay",
)


def _answered(value: Plain, _: Look) -> str:
    """Returns the beginning of what the receiver answered, else why it did not."""
    return str(value.get("response_text") or value.get("error_message", ""))[:_ANSWER_SHOWN_MAX]


ATTEMPTS: Final = Kind(
    "delivery_id",
    (
        Column("Attempt", "attempt_number", is_number=True),
        Column("Started", "start_time", clock("start_time"), is_whole=True),
        Column("Trigger", "trigger", dropped=1),
        Column("Outcome", "outcome", _outcome, is_whole=True),
        Column("Status", "response_status", lambda value, _: str(value["response_status"] or ""), is_number=True),
        Column("Latency", "latency", latency("latency"), is_number=True),
        Column("Sent", "request_bytes", lambda value, _: f"{value['request_bytes']} B", is_number=True, dropped=2),
        Column("Answer", "response_text", _answered, is_foldable=True),
    ),
    message="DeliveryAttempt",
)


def deliveries(name: Name) -> Kind:
    """Returns how deliveries look where webhooks are called by their names."""
    return Kind(
        "delivery_id",
        (
            Column("Status", "status", status, is_whole=True),
            Column("Attempts", "attempt_count", _attempts, dropped=3),
            Column("Event type", "event_type", dropped=1),
            Column("Webhook", "webhook_id", lambda value, _: name(value["webhook_id"])),
            Column("Answer", "last_attempt.response_status", _answer, dropped=2),
            Column("Latency", "last_attempt.latency", latency("last_attempt.latency"), is_number=True, dropped=5),
            Column("Next or ended", "next_attempt_time", _next_or_ended, dropped=4),
            Column("Delivery", "delivery_id", is_whole=True),
        ),
        message="Delivery",
    )


def next_line(delivery: Plain, webhook: Plain, stats: Plain, look: Look) -> str:
    """Returns when the next attempt of a pending delivery is due, and why it may be later."""
    at = time_of(delivery, "next_attempt_time")
    assert at is not None, "it is pending"
    due = f"{look.clock(at).partition('.')[0]} ({look.relative(at)})" if at > look.now else "now"
    state = stats.get("breaker_state")
    if webhook.get("status") == "paused":
        return f"next: when the webhook is resumed; due {due}"
    if state in {"open", "half_open"}:
        return f"next: {due}, or later: the breaker is {str(state).replace('_', ' ')}"
    return f"next: {due}"


def _until(value: Plain, look: Look) -> str:
    return relative("until_time")(value, look)


EXPLANATIONS: Final = Kind(
    "webhook_id",
    (
        Column("Webhook", "webhook_id", lambda value, _: f"{value.get('name', '')} #{value['webhook_id']}".strip()),
        Column("Verdict", "verdict"),
        Column("Standing", "standing", dropped=2),
        Column("Until", "until_time", _until, dropped=1),
        Column("In words", "explanation"),
    ),
    message="WebhookExplanation",
)
