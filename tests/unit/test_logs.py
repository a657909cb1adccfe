"""Logs of exceptions: bounded whatever the exception holds, and without what was in local variables."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import aiohttp
import pytest
import yarl
from multidict import CIMultiDict, CIMultiDictProxy

from webhook_grpc.process.log import tracebacks

FORMATS = ("json", "console")

# Logs one exception in the form that the argument names, as the service does, and the same by way of asyncio.
PROGRAM = """
import asyncio, sys
import structlog
from tests.unit.test_logs import hostile_failure
from webhook_grpc.process.log.logs import configure_logging
from webhook_grpc.settings import Settings

configure_logging(Settings.model_construct(log_format=sys.argv[1], log_level="info", log_lines_waiting_max=100))
try:
    hostile_failure()
except Exception as error:
    structlog.get_logger().exception("attempt failed")
    loop = asyncio.new_event_loop()
    loop.call_exception_handler({"message": "a task failed", "exception": error})
"""


class Hostile:
    """A value that must not be shown: it ends the process that tries."""

    def __repr__(self) -> str:
        sys.stderr.write("\n__repr__ WAS CALLED\n")
        raise SystemExit(3)

    __str__ = __repr__


def deep(depth: int, secret: object) -> None:
    if depth == 0:
        raise ValueError("x" * 1_000_000, secret, 10**5000)
    deep(depth - 1, secret)


def hostile_failure() -> None:
    """Raises an exception that is large in every way."""
    secret = [Hostile()]
    password = "hunter2" * 10  # must not be shown
    try:
        deep(900, [secret, password])
    except ValueError as error:
        raise ExceptionGroup("several", [error, KeyError(secret)] * 50) from error


def failure_of(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        action()
    return caught.value


@pytest.mark.parametrize("form", FORMATS)
def test_an_exception_that_is_large_in_every_way_is_logged_within_bounds_and_without_locals(form: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, form], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = ended.stderr
    assert len(said) < 3 * tracebacks.CHARACTERS_MAX
    assert "hunter2" not in said
    assert "__repr__ WAS CALLED" not in said
    assert said.count("hostile_failure") >= 2, "the structured log and asyncio's both say where"
    if form == "console":
        assert said.count("ExceptionGroup: several") == 2
    else:
        records = [json.loads(line) for line in said.splitlines()]
        assert [record["event"] for record in records] == ["attempt failed", "a task failed"]
        assert {record["exception"][0]["exc_type"] for record in records} == {"ExceptionGroup"}


def test_a_deep_recursion_is_shown_by_its_first_and_its_last_frames() -> None:
    error = failure_of(lambda: deep(500, None))
    [record] = tracebacks.as_records(error)
    names = [frame["name"] for frame in record["frames"]]
    assert len(names) == tracebacks.FRAMES_MAX
    assert names[:2] == ["failure_of", "<lambda>"]
    assert names[-1] == "deep"
    assert record["frames_left_out"] == 503 - tracebacks.FRAMES_MAX
    text = tracebacks.as_text([record])
    assert "483 frames left out" in text
    assert len(text) <= tracebacks.CHARACTERS_MAX


def test_causes_are_shown_each_once_and_a_circle_of_them_ends() -> None:
    first, second = ValueError("first"), TypeError("second")
    first.__cause__, second.__cause__ = second, first
    relations = [(record["relation"], record["exc_value"]) for record in tracebacks.as_records(first)]
    assert relations == [("", "first"), ("caused by", "second")]
    handled = ValueError("handled")
    handled.__context__ = KeyError("key")
    assert tracebacks.as_text(tracebacks.as_records(handled)) == "ValueError: handled\nwhile handling KeyError: key"
    handled.__suppress_context__ = True
    assert tracebacks.as_text(tracebacks.as_records(handled)) == "ValueError: handled"


def test_a_long_chain_of_causes_is_cut() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 1000):
        error, error.__cause__ = ValueError(str(number)), error
    assert len(tracebacks.as_records(error)) == tracebacks.EXCEPTIONS_MAX


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(2, "No such file", "/etc/x"), "[Errno 2] No such file: '/etc/x'"),  # a message of its own
        (ValueError("a", 5, None, 2.5, True), "a, 5, None, 2.5, True"),
        (ValueError(Hostile()), "<Hostile>"),
        (ValueError(10**5000), "<int>"),
        (KeyError("name"), "name"),
        (ValueError(), ""),
        (Speechless(), "(no message: RuntimeError)"),
        (ValueError("x" * 2000), "x" * (tracebacks.MESSAGE_CHARACTERS_MAX - 7) + "… (cut)"),
    ],
)
def test_a_message_shows_texts_and_numbers_and_of_other_things_the_type(error: Exception, message: str) -> None:
    assert tracebacks.message_of(error) == message


def test_nothing_is_said_of_no_exception() -> None:
    assert (tracebacks.as_records(None), tracebacks.as_text([])) == ([], "")


_URL = "https://canary-user:canary@pass@hooks.example.com/hook/7?token=canary'query&x=1#canary"


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.InvalidURL(_URL, "of an unknown kind"),
        aiohttp.TooManyRedirects(
            aiohttp.RequestInfo(
                yarl.URL(_URL, encoded=True), "POST", CIMultiDictProxy(CIMultiDict[str]()), yarl.URL("/")
            ),
            (),
            message=_URL,
        ),
        ValueError(_URL, f"while sending to {_URL}: no answer"),
        KeyError(_URL),
        OSError(5, "no answer", _URL),
        RuntimeError("POST /hook/7?token=canary HTTP/1.1"),
        RuntimeError("x" * 990 + _URL),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_user_info_and_no_query_of_a_url_gets_into_the_log_by_an_exception_s_message(error: Exception) -> None:
    assert "canary" in str(error)
    assert "canary" not in json.dumps(tracebacks.as_records(error))


def test_a_message_without_a_url_stays_as_it_is() -> None:
    said = "what? why: a#1 and/or b, 50 % of https://hooks.example.com/hook/7 and http://h:80"
    assert tracebacks.message_of(ValueError(said)) == said


def test_cutting_urls_out_of_a_hostile_message_takes_no_time_to_speak_of() -> None:
    for text in ("/" * 10_000, "//a" * 5000, "/?" * 5000, "//@" * 5000):
        began_at = time.thread_time()
        tracebacks.message_of(ValueError(text))
        assert time.thread_time() - began_at < 0.1
