"""Which webhooks an event goes to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.matching import (
    TYPE_LENGTH_MAX,
    is_event_type,
    is_pattern,
    matches,
    patterns_matching,
    patterns_regex,
)

ORIGINAL_TYPES = [
    "environment.created",
    "environment.started",
    "environment.stopped",
    "job.completed",
    "job.failed",
    "alert.triggered",
    "quota.exceeded",
]

# Few words, so that types and patterns often have to do with each other.
segments = st.sampled_from(["a", "b", "ab", "a-b", "a_b", "0"])
event_types = st.lists(segments, min_size=1, max_size=4).map(".".join)
patterns = st.one_of(event_types, event_types.map(lambda text: text + ".*"), st.just("*"))


@pytest.mark.parametrize("text", [*ORIGINAL_TYPES, "a", "0", "a.b.c.d.e", "job-2.sub_type", "a" * TYPE_LENGTH_MAX])
def test_lower_case_segments_joined_by_dots_are_an_event_type(text: str) -> None:
    assert is_event_type(text)
    assert is_pattern(text)


@pytest.mark.parametrize("text", ["*", "job.*", "a.b.*", "0-_.*", "a" * (TYPE_LENGTH_MAX - 2) + ".*"])
def test_a_prefix_and_a_star_are_patterns_but_no_event_types(text: str) -> None:
    assert is_pattern(text)
    assert not is_event_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "Job.completed",
        "job completed",
        "job.completed\n",
        "-a",
        "_a",
        "a.-b",
        "jöb",
        "job.\u0661",
        "a/b",
        'a"b',
        "a\\b",
        "a" * (TYPE_LENGTH_MAX + 1),
        "**",
        "*.*",
        "*.completed",
        "job*",
        "job.*.failed",
        "job.**",
        ".*",
        "a" * (TYPE_LENGTH_MAX - 1) + ".*",
    ],
)
def test_anything_else_is_neither(text: str) -> None:
    assert not is_event_type(text)
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("event_type", "pattern", "expected"),
    [
        ("job.completed", "job.completed", True),
        ("job.completed", "job.failed", False),
        ("job.completed", "job", False),
        ("job.completed", "job.completed.late", False),
        ("job.completed", "job.*", True),
        ("job.completed", "job.completed.*", False),  # below job.completed, not job.completed itself
        ("job.completed", "jo.*", False),
        ("jobs.completed", "job.*", False),
        ("job", "job.*", False),
        ("job.a.b.c", "job.*", True),
        ("job.a.b.c", "job.a.*", True),
        ("job.a.b.c", "job.a.b.*", True),
        ("job.a.b.c", "a.*", False),
        ("jobxcompleted", "job.completed", False),  # the dot is a dot, not any character
        ("job", "*", True),
        ("job.a.b.c", "*", True),
    ],
)
def test_a_pattern_matches_itself_what_is_below_it_or_everything(
    event_type: str, pattern: str, *, expected: bool
) -> None:
    assert matches(event_type, [pattern]) is expected


def test_one_matching_pattern_among_others_is_enough() -> None:
    assert matches("job.failed", ["alert.*", "job.failed"])
    assert not matches("job.failed", ["alert.*", "job.completed"])
    assert not matches("job.failed", [])


def test_an_event_type_names_every_pattern_that_it_matches() -> None:
    assert patterns_matching("job.a.b") == ["job.a.b", "job.a.*", "job.*", "*"]


@given(event_types, patterns)
def test_what_an_event_type_names_is_what_matches(event_type: str, pattern: str) -> None:
    below = pattern.removesuffix("*")
    by_definition = pattern in ("*", event_type) or (pattern != below and event_type.startswith(below))
    assert matches(event_type, [pattern]) is by_definition


@given(event_types, st.lists(patterns, min_size=1, max_size=5))
def test_the_regular_expression_asks_the_same_question(event_type: str, chosen: list[str]) -> None:
    by_regex = re.fullmatch(patterns_regex(chosen), event_type) is not None
    assert matches(event_type, chosen) is by_regex


@given(event_types)
def test_every_pattern_that_an_event_type_names_is_one_that_may_be_registered(event_type: str) -> None:
    assert all(is_pattern(pattern) for pattern in patterns_matching(event_type))
