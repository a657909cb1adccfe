"""What callers may send: each rule at its limit, and all violations at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.errors import Violation
from webhook_grpc.domain.model import WebhookSpec
from webhook_grpc.domain.validation import (
    header_violations,
    label_violations,
    pattern_violations,
    request_id_problem,
    retry_violations,
    secret_violation,
    text_problem,
    url_violation,
    webhook_violations,
)

SPEC = WebhookSpec(name="billing", url="https://example.com/hook", events=("job.*",))
DAY = 86_400.0


def fields(violations: Sequence[Violation]) -> list[str]:
    """Which fields are at fault."""
    return [violation.field for violation in violations]


# --- the whole webhook -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, name="n" * 128, description="d" * 1024),
        replace(SPEC, name="Zoë 🎉", description="two\nlines"),
        replace(SPEC, events=("*",)),
        replace(SPEC, events=tuple(f"job.e{number}" for number in range(100))),
        replace(SPEC, timeout_seconds=1.0, max_in_flight=1),
        replace(SPEC, timeout_seconds=30.0, max_in_flight=100),
        replace(SPEC, rate_limit_per_second=1),
        replace(SPEC, rate_limit_per_second=1000),
        replace(SPEC, retry_delays_seconds=(1.0,)),
        replace(SPEC, headers={"X-Team": "billing"}, labels={"env": ""}),
    ],
)
def test_a_webhook_within_the_limits_has_no_violations(spec: WebhookSpec) -> None:
    assert webhook_violations(spec) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (replace(SPEC, name=""), "webhook.name"),
        (replace(SPEC, name=" \t\n"), "webhook.name"),
        (replace(SPEC, name="n" * 129), "webhook.name"),
        (replace(SPEC, name="a\0b"), "webhook.name"),
        (replace(SPEC, name="a\ud800b"), "webhook.name"),
        (replace(SPEC, description="d" * 1025), "webhook.description"),
        (replace(SPEC, description="\0"), "webhook.description"),
        (replace(SPEC, events=()), "webhook.events"),
        (replace(SPEC, events=("*",) * 101), "webhook.events"),
        (replace(SPEC, events=("job.*", "Job", "*")), "webhook.events[1]"),
        (replace(SPEC, timeout_seconds=0.999), "webhook.timeout"),
        (replace(SPEC, timeout_seconds=30.001), "webhook.timeout"),
        (replace(SPEC, timeout_seconds=-1.0), "webhook.timeout"),
        (replace(SPEC, timeout_seconds=math.nan), "webhook.timeout"),
        (replace(SPEC, max_in_flight=0), "webhook.max_in_flight"),
        (replace(SPEC, max_in_flight=-1), "webhook.max_in_flight"),
        (replace(SPEC, max_in_flight=101), "webhook.max_in_flight"),
        (replace(SPEC, rate_limit_per_second=0), "webhook.rate_limit_per_second"),
        (replace(SPEC, rate_limit_per_second=-1), "webhook.rate_limit_per_second"),
        (replace(SPEC, rate_limit_per_second=1001), "webhook.rate_limit_per_second"),
        (replace(SPEC, retry_delays_seconds=()), "webhook.retry_policy.delays"),
        (replace(SPEC, headers={"Host": "x"}), "webhook.headers[Host]"),
        (replace(SPEC, labels={"": "x"}), "webhook.labels"),
    ],
)
def test_a_webhook_beyond_a_limit_has_that_violation(spec: WebhookSpec, field: str) -> None:
    assert fields(webhook_violations(spec)) == [field]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    spec = WebhookSpec(
        name="",
        url="",
        events=("Job", "*", "a b"),
        retry_delays_seconds=(0.0, 5.0),
        timeout_seconds=60.0,
        max_in_flight=1000,
        rate_limit_per_second=2000,
        headers={"Host": "x", "a b": "y"},
        labels={"": "", "k": "\0"},
        description="d" * 1025,
    )
    assert fields(webhook_violations(spec)) == [
        "webhook.name",
        "webhook.description",
        "webhook.events[0]",
        "webhook.events[2]",
        "webhook.retry_policy.delays[0]",
        "webhook.timeout",
        "webhook.max_in_flight",
        "webhook.rate_limit_per_second",
        "webhook.headers[Host]",
        "webhook.headers",
        "webhook.labels",
        "webhook.labels",
    ]


# --- texts, names and ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "required", "problem"),
    [
        ("", False, None),
        ("", True, "must not be empty"),
        ("  ", False, None),
        ("  ", True, "must not be empty"),
        ("abc", True, None),
        ("abcd", True, "must have at most 3 characters, has 4"),
        ("🎉🎉🎉", True, None),  # characters, not bytes
        ("a\0", True, "must not contain NUL or lone surrogates"),
        ("\udfff", True, "must not contain NUL or lone surrogates"),
    ],
)
def test_a_text_is_bounded_and_can_be_stored(text: str, *, required: bool, problem: str | None) -> None:
    assert text_problem(text, 3, required=required) == problem


@pytest.mark.parametrize("request_id", ["a", "a" * 128, "order 17/2026: paid!", "~"])
def test_a_request_id_is_printable_ascii(request_id: str) -> None:
    assert request_id_problem(request_id) is None


@pytest.mark.parametrize("request_id", ["", "a" * 129, "a\n", "a\tb", "é", "\x7f", "\0", "\ud800"])
def test_anything_else_is_no_request_id(request_id: str) -> None:
    assert request_id_problem(request_id) == "must be 1 to 128 printable ASCII characters"


@pytest.mark.parametrize(
    ("url", "description"),
    [
        ("", "must not be empty"),
        ("http://example.com/", "must start with https:// (or http://, if the operator allows it)"),
        ("https://127.0.0.1/", "must lead to a public address"),
    ],
)
def test_a_bad_url_is_told_in_words(url: str, description: str) -> None:
    assert url_violation(url, EgressPolicy()) == Violation("webhook.url", description)


def test_a_url_is_judged_by_the_operators_policy() -> None:
    assert url_violation("https://example.com/", EgressPolicy()) is None
    assert url_violation("http://example.com/", EgressPolicy(allow_http=True)) is None


def test_an_empty_secret_asks_for_one_and_a_bad_one_is_refused() -> None:
    assert secret_violation("") is None
    assert secret_violation("your_secret_key") is None
    assert secret_violation("x" * 129) == Violation("webhook.secret", "must have 1 to 128 characters, has 129")


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "at_fault"),
    [
        (["job.completed", "job.*", "*"], []),
        (["job.completed", "Job.*", "*", ""], ["events[1]", "events[3]"]),
        (["*"] * 100, []),
        (["*"] * 101, ["events"]),
        ([], []),
    ],
)
def test_patterns_at_fault_are_named_by_their_place(patterns: list[str], at_fault: list[str]) -> None:
    assert fields(pattern_violations("events", patterns)) == at_fault


def test_a_webhook_must_name_some_pattern_but_a_filter_need_not() -> None:
    assert fields(pattern_violations("events", [], required=True)) == ["events"]
    assert pattern_violations("events", []) == []


# --- retry schedules -------------------------------------------------------------------------------------------------

DELAYS = "webhook.retry_policy.delays"


@pytest.mark.parametrize(
    ("delays", "at_fault"),
    [
        (None, []),
        ([1.0], []),
        ([DAY], []),
        ([DAY] * 7, []),
        ([1.0] * 20, []),
        ([], [DELAYS]),
        ([1.0] * 21, [DELAYS]),
        ([DAY] * 7 + [1.0], [DELAYS]),  # more than 7 days
        ([0.999], [f"{DELAYS}[0]"]),
        ([0.0], [f"{DELAYS}[0]"]),
        ([5.0, -5.0], [f"{DELAYS}[1]"]),
        ([5.0, DAY + 1], [f"{DELAYS}[1]"]),
        ([math.nan], [f"{DELAYS}[0]"]),
        ([math.inf], [f"{DELAYS}[0]", DELAYS]),
        ([0.5, 5.0, 0.5], [f"{DELAYS}[0]", f"{DELAYS}[2]"]),
    ],
)
def test_a_schedule_has_1_to_20_delays_of_1_second_to_a_day_within_a_week(
    delays: list[float] | None, at_fault: list[str]
) -> None:
    assert fields(retry_violations(delays)) == at_fault


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abc"},
        {"X-Api-Key": ""},
        {"X-Text": "tabs\tand spaces"},
        {"n" * 64: "v" * 1024},
        {"!#$%&'*+-.^_`|~09aZ": "token characters"},
        {f"x-{number}": "v" for number in range(20)},
        {"Accept": "*/*", "Hostname": "x", "X-Content-Type": "x", "Webhooks": "x", "Security": "x", "Test": "x"},
    ],
)
def test_headers_of_the_customers_own_are_accepted(headers: Mapping[str, str]) -> None:
    assert header_violations(headers) == []


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "TE", "Trailer"),
        *("Connection", "Keep-Alive", "Upgrade", "Expect", "Proxy-Authorization", "Proxy-Connection", "Cookie"),
        *("User-Agent", "Accept-Encoding", "webhook-id", "Webhook-Signature", "webhook-timestamp"),
        *("X-Webhook-Signature", "X-Webhook-Event", "x-webhook-anything", "Sec-Fetch-Mode", "Sec-WebSocket-Key"),
    ],
)
def test_headers_that_http_or_the_signatures_rely_on_are_not_the_customers(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert fields(header_violations({spelling: "x"})) == [f"webhook.headers[{spelling}]"]


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", ":path", "é", "a\r\nb", "a\n", "a\0", "a(b)", "a/b", "a@b", 'a"', "n" * 65, "\uff41"]
)
def test_a_header_name_is_a_token_of_http(name: str) -> None:
    assert fields(header_violations({name: "x"})) == ["webhook.headers"]


@pytest.mark.parametrize(
    "value", ["a\r\nX-Evil: 1", "a\n", "\r", "a\0b", "\x1b[31m", "\x7f", "é", "\ud800", "v" * 1025]
)
def test_a_header_value_can_not_begin_another_header(value: str) -> None:
    assert fields(header_violations({"X-Team": value})) == ["webhook.headers[X-Team]"]


def test_a_bad_header_is_told_without_its_value_which_may_be_a_secret() -> None:
    violations = header_violations({"Authorization": "Bearer s3cret\n", "Host": "s3cret"})
    assert len(violations) == 2
    assert not any("s3cret" in violation.field + violation.description for violation in violations)


def test_headers_are_bounded_in_number_and_in_bytes() -> None:
    assert fields(header_violations({f"x-{number}": "v" for number in range(21)})) == ["webhook.headers"]
    four_kib = {f"x-{number}": "v" * 1021 for number in range(4)}
    assert header_violations(four_kib) == []
    assert fields(header_violations({**four_kib, "x": ""})) == ["webhook.headers"]


def test_a_header_is_named_once_however_it_is_written() -> None:
    assert fields(header_violations({"X-Team": "a", "x-team": "b"})) == ["webhook.headers"]


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "description"),
    [
        ({"k": "v"}, None),
        ({"k" * 63: "v" * 255, "Zoë": "🎉", "empty": ""}, None),
        ({f"k{number}": "v" for number in range(20)}, None),
        ({f"k{number}": "v" for number in range(21)}, "must have at most 20 entries, has 21"),
        ({"": "v"}, "keys must not be empty"),
        ({"k" * 64: "v"}, "keys must have at most 63 characters, has 64"),
        ({"k\0": "v"}, "keys must not contain NUL or lone surrogates"),
        ({"k": "v" * 256}, "values must have at most 255 characters, has 256"),
        ({"k": "\ud800"}, "values must not contain NUL or lone surrogates"),
    ],
)
def test_labels_are_bounded_and_can_be_stored(labels: Mapping[str, str], description: str | None) -> None:
    expected = [Violation("labels", description)] if description else []
    assert label_violations("labels", labels) == expected
