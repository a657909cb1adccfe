"""What a caller may send: rules for the fields of webhooks and events. Each returns every violation it finds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from . import matching, signing
from .egress import BlockReason, EgressPolicy, punycode_of, why_url_blocked
from .errors import Violation
from .model import WebhookSpec
from .request_headers import HIDDEN

NAME_CHARACTERS_MAX: Final = 128
DESCRIPTION_CHARACTERS_MAX: Final = 1024
PATTERNS_MAX: Final = 100
RETRY_DELAYS_MAX: Final = 20
RETRY_DELAY_SECONDS_MIN: Final = 1.0
RETRY_DELAY_SECONDS_MAX: Final = 86_400.0
RETRY_WINDOW_SECONDS_MAX: Final = 7 * 86_400.0
TIMEOUT_SECONDS_MIN: Final = 1.0
TIMEOUT_SECONDS_MAX: Final = 30.0
MAX_IN_FLIGHT_MAX: Final = 100
RATE_LIMIT_MAX: Final = 1000
HEADERS_MAX: Final = 20
HEADER_BYTES_MAX: Final = 4096
LABELS_MAX: Final = 20
LABEL_KEY_CHARACTERS_MAX: Final = 63
LABEL_VALUE_CHARACTERS_MAX: Final = 255
REQUEST_ID_CHARACTERS_MAX: Final = 128
SECRET_OVERLAP_SECONDS: Final = 86_400.0  # unless the caller says otherwise
SECRET_OVERLAP_SECONDS_MAX: Final = 7 * 86_400.0

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token of RFC 9110 §5.6.2
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,1024}")
_RESERVED_HEADERS: Final = frozenset(
    {"host", "transfer-encoding", "te", "trailer", "connection", "keep-alive", "upgrade", "expect", "cookie"}
    | {"user-agent", "accept-encoding"}
)
_RESERVED_HEADER_PREFIXES: Final = ("content-", "proxy-", "webhook-", "x-webhook-", "sec-")
_REQUEST_ID: Final = re.compile(r"[\x20-\x7e]+")


def text_problem(text: str, characters_max: int, *, required: bool = False) -> str | None:
    """Returns what is wrong with a text for people. Postgres can't store NUL, UTF-8 can't carry a lone surrogate."""
    if required and not text.strip():
        return "must not be empty"
    if len(text) > characters_max:
        return f"must have at most {characters_max} characters, has {len(text)}"
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain NUL or lone surrogates"
    return None


def request_id_problem(request_id: str) -> str | None:
    """Returns what is wrong with a non-empty request id."""
    if len(request_id) > REQUEST_ID_CHARACTERS_MAX or not _REQUEST_ID.fullmatch(request_id):
        return f"must be 1 to {REQUEST_ID_CHARACTERS_MAX} printable ASCII characters"
    return None


def webhook_violations(spec: WebhookSpec) -> list[Violation]:
    """Returns everything that is wrong with what a caller chose about a webhook, except its URL."""
    found = [
        Violation("webhook.name", problem)
        for problem in [text_problem(spec.name, NAME_CHARACTERS_MAX, required=True)]
        if problem
    ]
    if problem := text_problem(spec.description, DESCRIPTION_CHARACTERS_MAX):
        found.append(Violation("webhook.description", problem))
    found += pattern_violations("webhook.events", spec.events, required=True)
    found += retry_violations(spec.retry_delays_seconds)
    if spec.timeout_seconds is not None and not TIMEOUT_SECONDS_MIN <= spec.timeout_seconds <= TIMEOUT_SECONDS_MAX:
        found.append(
            Violation("webhook.timeout", f"must be {TIMEOUT_SECONDS_MIN:g} s to {TIMEOUT_SECONDS_MAX:g} s, or unset")
        )
    if spec.max_in_flight is not None and not 1 <= spec.max_in_flight <= MAX_IN_FLIGHT_MAX:
        found.append(Violation("webhook.max_in_flight", f"must be 1 to {MAX_IN_FLIGHT_MAX}, or 0 for the default"))
    if spec.rate_limit_per_second is not None and not 1 <= spec.rate_limit_per_second <= RATE_LIMIT_MAX:
        found.append(Violation("webhook.rate_limit_per_second", f"must be 1 to {RATE_LIMIT_MAX}, or 0 for no limit"))
    found += header_violations(spec.headers)
    found += label_violations("webhook.labels", spec.labels)
    return found


def url_violation(url: str, policy: EgressPolicy) -> Violation | None:
    """Returns what is wrong with a webhook's URL."""
    reason = why_url_blocked(url, policy) if url else "must not be empty"
    if reason is BlockReason.INTERNATIONAL:
        return Violation("webhook.url", f"{reason}: use {punycode_of(url)}")
    return Violation("webhook.url", reason) if reason else None


def secret_violation(secret: str, field: str = "webhook.secret") -> Violation | None:
    """Returns what is wrong with a customer's own secret; when it is empty the service makes one."""
    problem = signing.why_bad_secret(secret) if secret else None
    return Violation(field, problem) if problem else None


def pattern_violations(field: str, patterns: Sequence[str], *, required: bool = False) -> list[Violation]:
    """Returns everything that is wrong with a list of event type patterns."""
    if required and not patterns:
        return [Violation(field, "must name at least one event type, a prefix like `job.*`, or `*`")]
    if len(patterns) > PATTERNS_MAX:
        return [Violation(field, f"must have at most {PATTERNS_MAX} entries, has {len(patterns)}")]
    return [
        Violation(f"{field}[{index}]", "must be an event type like `job.completed`, a prefix like `job.*`, or `*`")
        for index, pattern in enumerate(patterns)
        if not matching.is_pattern(pattern)
    ]


def retry_violations(delays_seconds: Sequence[float] | None) -> list[Violation]:
    """Returns everything that is wrong with a webhook's own retry schedule."""
    field = "webhook.retry_policy.delays"
    if delays_seconds is None:
        return []
    if not 1 <= len(delays_seconds) <= RETRY_DELAYS_MAX:
        return [Violation(field, f"must have 1 to {RETRY_DELAYS_MAX} entries, or leave retry_policy unset")]
    found = [
        Violation(f"{field}[{index}]", f"must be {RETRY_DELAY_SECONDS_MIN:g} s to {RETRY_DELAY_SECONDS_MAX:g} s")
        for index, delay in enumerate(delays_seconds)
        if not RETRY_DELAY_SECONDS_MIN <= delay <= RETRY_DELAY_SECONDS_MAX
    ]
    if sum(delays_seconds) > RETRY_WINDOW_SECONDS_MAX:
        found.append(Violation(field, f"must add up to at most {RETRY_WINDOW_SECONDS_MAX:g} s"))
    return found


def header_violations(headers: Mapping[str, str]) -> list[Violation]:
    """Returns everything that is wrong with a webhook's own headers. Those of HTTP and the signatures are refused.

    HIDDEN stands for a value that is sealed.
    """
    field = "webhook.headers"
    found: list[Violation] = []
    if len(headers) > HEADERS_MAX:
        return [Violation(field, f"must have at most {HEADERS_MAX} entries, has {len(headers)}")]
    if sum(len(name) + len(value) for name, value in headers.items()) > HEADER_BYTES_MAX:
        found.append(Violation(field, f"must have at most {HEADER_BYTES_MAX} bytes in all"))
    if len({name.lower() for name in headers}) < len(headers):
        found.append(Violation(field, "must not name a header twice"))
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            found.append(Violation(field, "names must be 1 to 64 characters of an HTTP token"))
        elif _is_reserved_header(name.lower()):
            found.append(Violation(f"{field}[{name}]", "is set by the service or by HTTP itself"))
        elif value != HIDDEN and not _HEADER_VALUE.fullmatch(value):
            found.append(Violation(f"{field}[{name}]", "must be at most 1024 printable ASCII characters"))
    return found


def _is_reserved_header(name: str) -> bool:
    name = name.replace("_", "-")  # CGI and WSGI make one name of both, so the receiver would read either
    return name in _RESERVED_HEADERS or name.startswith(_RESERVED_HEADER_PREFIXES)


def label_violations(field: str, labels: Mapping[str, str]) -> list[Violation]:
    """Returns everything that is wrong with labels or attributes."""
    if len(labels) > LABELS_MAX:
        return [too_many_labels(field, len(labels))]
    return [Violation(field, problem) for problem in _label_problems(labels.items()) if problem]


def too_many_labels(field: str, count: int) -> Violation:
    """Returns the violation of more labels or attributes than there may be."""
    return Violation(field, f"must have at most {LABELS_MAX} entries, has {count}")


def _label_problems(items: Iterable[tuple[str, str]]) -> Iterable[str | None]:
    for key, value in items:
        key_problem = text_problem(key, LABEL_KEY_CHARACTERS_MAX, required=True)
        value_problem = text_problem(value, LABEL_VALUE_CHARACTERS_MAX)
        yield f"keys {key_problem}" if key_problem else None
        yield f"values {value_problem}" if value_problem else None
