"""The table of reasons has every reason that the source raises, with its kind, and no other."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import webhook_grpc
from webhook_grpc.api.codes import CODES
from webhook_grpc.domain import errors
from webhook_grpc.domain.reasons import REASONS
from webhook_grpc.server.http.problem import OWN_REASONS

SOURCE = Path(webhook_grpc.__file__).parent
FORM = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
FORMS_OF_VARIABLES = ("WEBHOOK_DATABASE_", "WEBHOOK_GRPC_", "WEBHOOK_HTTP_", "WHK_", "OTEL_", "GRPC_", "PYDANTIC_")
# What looks like a reason and is none.
OTHERS = {
    "CERTIFICATE_REQUIRED", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "WRONG_VERSION_NUMBER",  # OpenSSL's
    "HTTP_ADDRESS", "TLS_CERTIFICATE_FILE", "TLS_KEY_FILE",  # settings
    "INVALID_ARGUMENT",  # a code, in an example
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",  # systemd's variables
    "NOT_OWNER",  # stands in the log only
    "OUTPUT_ONLY",  # of protos
    "LC_ALL",  # a variable of the environment
}  # fmt: skip
KINDS = {kind.__name__: kind for kind in CODES} | {"field_invalid": errors.InvalidArgument}


in_one_process = pytest.mark.xdist_group("unit/test_reasons")  # which reads the source once


@functools.cache
def read_source() -> tuple[set[str], list[tuple[str, list[str]]]]:
    """Every text that stands in the source without the table itself, and the calls that make an error.

    Of a call: the kind of the error, and what is said literally.
    """
    words, calls = set[str](), list[tuple[str, list[str]]]()
    for path in SOURCE.rglob("*.py"):
        for node in () if path.name == "reasons.py" else ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                said = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                calls.append((node.func.id, said))
    return words, calls


def words() -> set[str]:
    """Every text that stands in the source."""
    return read_source()[0]


def calls() -> list[tuple[str, list[str]]]:
    """The calls that make an error: its kind, and what is said literally."""
    return read_source()[1]


def absences() -> set[str]:
    """The reasons of what does not exist: made of the kind of the object."""
    return {f"{said[0].upper()}_NOT_FOUND" for kind, said in calls() if kind == "NotFound" and said}


@in_one_process
def test_every_reason_of_the_source_is_in_the_table() -> None:
    found = {word for word in words() if FORM.fullmatch(word) and not word.startswith(FORMS_OF_VARIABLES)}
    found |= absences()
    assert found - OTHERS - REASONS.keys() == set(), "add them to domain/reasons.py, then: make reference"


@in_one_process
def test_the_table_has_no_reason_that_nothing_raises() -> None:
    assert REASONS.keys() - words() - absences() == set()


@in_one_process
def test_each_reason_has_the_kind_with_which_it_is_raised() -> None:
    raised = {(word, KINDS[kind]) for kind, said in calls() for word in said if word in REASONS}
    assert len(raised) > 25
    assert {(name, kind) for name, kind in raised if REASONS[name].kind is not kind} == set()


def test_reasons_without_a_kind_are_those_of_the_http_door() -> None:
    assert {name for name, reason in REASONS.items() if reason.kind is None} == set(OWN_REASONS)
    assert {reason.kind for reason in REASONS.values()} == {*CODES, None}, "each kind has a reason"


@pytest.mark.parametrize("name", REASONS)
def test_each_remedy_is_a_sentence_that_says_what_to_do(name: str) -> None:
    remedy = REASONS[name].remedy
    assert remedy[0].isupper()
    assert remedy.endswith(".")
    assert "|" not in remedy
