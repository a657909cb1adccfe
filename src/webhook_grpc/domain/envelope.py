"""What a receiver gets: `{"event":…,"timestamp":…,"data":…}` around the producer's own bytes.

The body is made once, when the event is published, and stored; every attempt signs and sends those bytes.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Final

import orjson

DATA_BYTES_MAX: Final = 256 * 1024
DATA_DEPTH_MAX: Final = 64

_NUMBER_OR_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?')
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def render_body(event_type: str, occur_time_unix_seconds: int, data_json: bytes) -> tuple[bytes, int]:
    """Returns the request body, and where `data_json` starts in it; `data_json` ends one byte before the body's end.

    The event type consists of characters that JSON need not escape (`matching.is_event_type`).
    """
    head = f'{{"event":"{event_type}","timestamp":{occur_time_unix_seconds},"data":'.encode("ascii")
    return head + data_json + b"}", len(head)


def why_not_json(data_json: bytes) -> str | None:
    """Returns what is wrong with the text as JSON (RFC 8259), or None. The caller has bounded its size."""
    error = _parse_error(data_json)
    if error is not None and "infinity" in error.msg:  # a number beyond a double is JSON, if not for orjson
        error = _parse_error(_NUMBER_OR_STRING.sub(_without_number, data_json))
    if error is not None:
        position = len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))  # orjson counts characters
        return f"is not valid JSON: {error.msg} at byte {position}"
    if _depth(data_json) > DATA_DEPTH_MAX:
        return f"is nested more than {DATA_DEPTH_MAX} levels deep"
    return None


def parse(text: bytes) -> Any:
    """Returns valid JSON as Python values. A number beyond a double is the largest double of its sign."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.loads(_NUMBER_OR_STRING.sub(_within_double, text))


def _within_double(match: re.Match[bytes]) -> bytes:
    token = match[0]
    if token.startswith(b'"') or (len(token) < 300 and b"e" not in token.lower()):
        return token
    return repr(math.copysign(sys.float_info.max, float(token))).encode() if math.isinf(float(token)) else token


def _parse_error(text: bytes) -> orjson.JSONDecodeError | None:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return error
    return None


def _without_number(match: re.Match[bytes]) -> bytes:
    """A string as it is; for a number a 0, as long as it was, so that later positions stay right."""
    return match[0] if match[0].startswith(b'"') else b"0".ljust(len(match[0]))


def _depth(data_json: bytes) -> int:
    """How deep valid JSON is nested. Few brackets can't nest deep, so most texts are not scanned."""
    if data_json.count(b"[") + data_json.count(b"{") <= DATA_DEPTH_MAX:
        return 0
    depth = deepest = 0
    for match in _STRUCTURE.finditer(data_json):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest
