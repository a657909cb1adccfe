"""What a log line holds of an exception: bounded, without local variables, cheap enough for the event loop.

Local variables could hold secrets, and showing them runs the `__repr__` of whatever they are, for as long as that
takes: an attempt that failed was once rendered for longer than the lease. Source lines are left out too, for they are
read from files.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, cast

FRAMES_MAX: Final = 20  # of each exception: half of them the first, half the last
EXCEPTIONS_MAX: Final = 8  # with causes and the members of groups
MESSAGE_CHARACTERS_MAX: Final = 1000
NAME_CHARACTERS_MAX: Final = 200  # of a file, a function or a class
CHARACTERS_MAX: Final = 16_000  # of a whole traceback as text

# What may be a credential in a URL: user and password (RFC 3986 allows no `/` in them), the query and the fragment.
# Of a path alone, as it stands in a request line, the query is cut too.
_USER_INFO: Final = re.compile(r"(?<=//)[^\s/?#]*@")
_QUERY: Final = re.compile(r"(/[^\s/?#]*)[?#]\S+")
_SEARCHED_MAX: Final = 10_000  # so much of a message is looked through

Place = tuple[CodeType, int]  # and the line in it

_FRAMES_WALKED_MAX: Final = 10_000  # then they are no longer counted
_CUT: Final = "… (cut)"


def as_records(error: BaseException | None) -> list[dict[str, Any]]:
    """Returns the exception, its causes and members of groups as plain values, the exception itself first."""
    return [
        {
            "exc_type": _shortened(type(one).__qualname__, NAME_CHARACTERS_MAX),
            "exc_value": message_of(one),
            "relation": relation,
            "frames": frames,
            "frames_left_out": left_out,
        }
        for relation, one in itertools.islice(_related(error), EXCEPTIONS_MAX)
        for frames, left_out in [_frames(one.__traceback__)]
    ]


def as_text(records: Iterable[dict[str, Any]]) -> str:
    """Returns what as_records() returned as lines for a terminal: at most CHARACTERS_MAX characters."""
    lines = itertools.chain.from_iterable(_lines(record) for record in records)
    return _shortened("\n".join(lines), CHARACTERS_MAX)


def message_of(error: BaseException) -> str:
    """Returns the exception's message, at most MESSAGE_CHARACTERS_MAX characters of it.

    Texts and numbers among its arguments are shown, of other arguments the type: their `__repr__` may take any time.
    URLs are shown without what may be a credential: libraries put the URL of a webhook into messages of their own.
    """
    if type(error).__str__ in {BaseException.__str__, KeyError.__str__}:
        said = ", ".join(map(_plain, error.args[:EXCEPTIONS_MAX]))
    else:
        try:
            said = str(error)
        except Exception as failure:  # noqa: BLE001 - whatever it raises, the log must say something
            said = f"(no message: {type(failure).__name__})"
    return _shortened(without_credentials(said[:_SEARCHED_MAX]), MESSAGE_CHARACTERS_MAX)


def without_credentials(text: str) -> str:
    """Returns a text with its URLs cut: no user and password, no query, no fragment."""
    return _QUERY.sub(r"\1?…", _USER_INFO.sub("…@", text))


def _plain(argument: object) -> str:
    if isinstance(argument, str):
        return argument[:_SEARCHED_MAX]
    if argument is None or type(argument) in {bool, float}:
        return repr(argument)
    if type(argument) is int and argument.bit_length() <= 64:  # longer ones take long to write down
        return repr(argument)
    return f"<{type(argument).__name__}>"


def _related(error: BaseException | None) -> Iterator[tuple[str, BaseException]]:
    """The exception and what it came from, breadth first, each once."""
    waiting = deque([("", error)] if error is not None else [])
    seen = set[int]()
    while waiting:
        relation, one = waiting.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield relation, one
        if one.__cause__ is not None:
            waiting.append(("caused by", one.__cause__))
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(("while handling", one.__context__))
        if isinstance(one, BaseExceptionGroup):
            members = cast("BaseExceptionGroup[BaseException]", one).exceptions
            waiting.extend(("with", member) for member in members[:EXCEPTIONS_MAX])


def frames_of(innermost: FrameType | None) -> tuple[list[dict[str, Any]], int]:
    """Returns where a thread is, the innermost frame first: the first and the last frames, and how many are between."""
    return _first_and_last(_outwards(innermost))


def _frames(traceback: TracebackType | None) -> tuple[list[dict[str, Any]], int]:
    """The first and the last frames of a traceback, and how many lie between them."""
    return _first_and_last(_inwards(traceback))


def _first_and_last(places: Iterator[Place]) -> tuple[list[dict[str, Any]], int]:
    walked = itertools.islice(places, _FRAMES_WALKED_MAX)
    first = [_frame(*place) for place in itertools.islice(walked, FRAMES_MAX // 2)]
    last = deque[Place](maxlen=FRAMES_MAX // 2)
    count = 0
    for place in walked:
        count += 1
        last.append(place)
    return first + [_frame(*place) for place in last], count - len(last)


def _inwards(traceback: TracebackType | None) -> Iterator[Place]:
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next


def _outwards(frame: FrameType | None) -> Iterator[Place]:
    while frame is not None:
        yield frame.f_code, frame.f_lineno
        frame = frame.f_back


def _frame(code: CodeType, lineno: int) -> dict[str, Any]:
    return {
        "filename": _shortened(code.co_filename, NAME_CHARACTERS_MAX),
        "lineno": lineno,
        "name": _shortened(code.co_name, NAME_CHARACTERS_MAX),
    }


def _lines(record: dict[str, Any]) -> Iterator[str]:
    yield f"{record['relation']} {record['exc_type']}: {record['exc_value']}".strip()
    for number, frame in enumerate(record["frames"]):
        if number == FRAMES_MAX // 2 and record["frames_left_out"]:
            yield f"  … {record['frames_left_out']} frames left out"
        yield f"  {frame['filename']}:{frame['lineno']} in {frame['name']}"


def _shortened(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - len(_CUT)] + _CUT
