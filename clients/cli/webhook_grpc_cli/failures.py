"""Failures as a person and as a script see them: what is wrong, what to do, and a status by what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from webhook_grpc_client import WebhookError

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNAUTHORIZED: Final = 4
STATE: Final = 5
UNAVAILABLE: Final = 6
EXHAUSTED: Final = 7
PARTLY: Final = 8
ANSWER_IS_NO: Final = 9
INTERRUPTED: Final = 130

_BY_CODE: Final[Mapping[str, int]] = {
    "NOT_FOUND": NOT_FOUND,
    "UNAUTHENTICATED": UNAUTHORIZED,
    "PERMISSION_DENIED": UNAUTHORIZED,
    "ALREADY_EXISTS": STATE,
    "FAILED_PRECONDITION": STATE,
    "ABORTED": STATE,
    "OUT_OF_RANGE": STATE,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
    "RESOURCE_EXHAUSTED": EXHAUSTED,
}
REMEDIES: Final[Mapping[str, str]] = {
    "EVENT_TYPE_UNKNOWN": "webhook-grpc event-types list",
    "WEBHOOK_NOT_FOUND": "webhook-grpc webhooks list",
    "DELIVERY_NOT_FOUND": "webhook-grpc deliveries list",
    "EVENT_NOT_FOUND": "webhook-grpc events list",
    "TOKEN_MISSING": "webhook-grpc profiles add NAME --with-token, or WHK_TOKEN_FILE",
    "TOKEN_INVALID": "webhook-grpc profiles show, which says where the token comes from",
}


class Failure(click.ClickException):
    """Something that a person can fix, in one sentence, and perhaps the command that does."""

    def __init__(self, message: str, *, remedy: str = "", status: int = FAILED) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.exit_code = status  # pyright: ignore[reportAttributeAccessIssue] - click reads it from the instance


class UsageFailure(Failure):
    """The line, the environment or the configuration file is wrong."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, status=USAGE)


REMEDY_USUAL: Final = "webhook-grpc doctor"
_BY_WORDS: Final[Mapping[str, str]] = {
    "http1.x": "the port of gRPC: that one speaks HTTP (webhook-grpc serve prints both)",
    "WRONG_VERSION_NUMBER": "--no-tls: nobody speaks TLS there",
    "CERTIFICATE_VERIFY_FAILED": "--ca FILE for an authority of your own, --server-name NAME for another name",
}


def is_without_answer(error: WebhookError) -> bool:
    """Returns whether nobody has answered a call: gRPC reports it, not the service."""
    return status_of(error) == UNAVAILABLE and not error.reason


def remedy_without_answer(message: str) -> str:
    """Returns what to do where nobody answers, from what gRPC says of it."""
    return next((remedy for words, remedy in _BY_WORDS.items() if words in message), REMEDY_USUAL)


def status_of(error: WebhookError) -> int:
    """Returns the exit status of a call that failed."""
    return _BY_CODE.get(error.code.name, FAILED)


def as_json(error: WebhookError) -> dict[str, Any]:
    """Returns the error object that `-o json` writes to stderr."""
    problem = error.problem
    return {
        "error": {
            "code": error.code.name,
            "reason": error.reason,
            "message": error.message,
            "field_violations": [{"field": field, "description": text} for field, text in error.violations],
            "metadata": dict(problem.metadata),
            "request_id": problem.request_id,
            "retry_after": problem.retry_seconds,
            "exit_status": status_of(error),
        }
    }


def failure_as_json(message: str, status: int, remedy: str = "") -> dict[str, Any]:
    """Returns the error object for what failed without a call."""
    return {"error": {"code": "", "reason": "", "message": message, "remedy": remedy, "exit_status": status}}


def lines_of(error: WebhookError) -> list[str]:
    """Returns what a person reads: the sentence, each field at fault, and what to try."""
    words = "  ".join(word for word in (error.code.name, error.reason) if word)
    count = len(error.violations)
    said = f"{count} field{' is' if count == 1 else 's are'} wrong" if count else error.message or error.code.name
    lines = [f"error: {said}    {words}"]
    width = max((len(field) for field, _ in error.violations), default=0)
    lines += [f"  {field:<{width}}  {text}" for field, text in error.violations]
    if remedy := REMEDIES.get(error.reason) or (
        remedy_without_answer(error.message) if is_without_answer(error) else ""
    ):
        lines.append(f"  try: {remedy}")
    if error.problem.request_id:
        lines.append(f"  request {error.problem.request_id}")
    return lines
