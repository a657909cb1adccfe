"""Which patterns an event type matches; the lookup of webhooks is a part of publishing (store/outbox/publishing.py).

A pattern is an exact type (`job.completed`), a prefix (`job.*`: anything below `job.`, at any depth), or `*`. An event
matches a webhook when any of `patterns_matching(event_type)` stands among the webhook's patterns; the store asks
Postgres the same question with an array overlap. What a prefix is, the SQL function `event_patterns` (for publishing in
a transaction of one's own) says once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

TYPE_LENGTH_MAX: Final = 128

_SEGMENT: Final = r"[a-z0-9][a-z0-9_-]*"
TYPE_FORM: Final = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
PATTERN_FORM: Final = re.compile(rf"\*|{_SEGMENT}(?:\.{_SEGMENT})*(?:\.\*)?")


def is_event_type(text: str) -> bool:
    """Returns whether the text is formed as an event type: lower-case segments and dots, at most 128 characters."""
    return len(text) <= TYPE_LENGTH_MAX and TYPE_FORM.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Returns whether the text is an event type, a prefix or `*`."""
    return len(text) <= TYPE_LENGTH_MAX and PATTERN_FORM.fullmatch(text) is not None


def patterns_matching(event_type: str) -> list[str]:
    """Returns every pattern that the event type matches: itself, each prefix of it, and `*`."""
    segments = event_type.split(".")
    prefixes = [".".join(segments[:depth]) + ".*" for depth in range(len(segments) - 1, 0, -1)]
    return [event_type, *prefixes, "*"]


def matches(event_type: str, patterns: Iterable[str]) -> bool:
    """Returns whether the event type matches any of the patterns."""
    return not set(patterns).isdisjoint(patterns_matching(event_type))


def patterns_regex(patterns: Iterable[str]) -> str:
    """Returns the same test as a regular expression that Python and Postgres read alike, for filters in SQL."""
    alternatives = (re.escape(pattern).replace(r"\.\*", r"\..+").replace(r"\*", ".+") for pattern in patterns)
    return f"^({'|'.join(alternatives)})$"
