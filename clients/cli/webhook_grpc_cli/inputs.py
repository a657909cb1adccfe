"""What a line gives as text, as `@FILE` or on stdin (`-`)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .failures import UsageFailure

BYTES_MAX: Final = 5 * 1024 * 1024  # the service takes no larger request


def text_given(argument: str) -> str:
    """Returns the text, that of the file behind `@`, or stdin for `-`. Raises UsageFailure."""
    try:
        if argument == "-":
            data = sys.stdin.buffer.read(BYTES_MAX + 1)
        elif argument.startswith("@"):
            with Path(argument[1:]).open("rb") as file:
                data = file.read(BYTES_MAX + 1)
        else:
            return argument
        if len(data) > BYTES_MAX:
            raise UsageFailure(f"{argument} has more than {BYTES_MAX} bytes, which is more than the service takes")
        return data.decode("utf-8")
    except OSError as error:
        raise UsageFailure(f"{argument}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageFailure(f"{argument} is no text in UTF-8") from None


def ids_given(arguments: Sequence[str]) -> Iterator[str]:
    """Yields the ids of the line; `-` stands for those on stdin, one a line, which are read as they come."""
    for argument in arguments:
        yield from _lines(sys.stdin) if argument == "-" else [argument]


def number_of(text: str) -> int:
    """Returns an id that is a whole number. Raises UsageFailure."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise UsageFailure(f"`{text}` is no id of this kind: a whole number is wanted")
    return int(text)


def secret_in(path: str) -> str:
    """Returns the secret that a file holds. Raises UsageFailure."""
    secret = text_given(f"@{path}").strip()
    if not secret:
        raise UsageFailure(f"{path} is empty")
    return secret


def _lines(stream: Iterable[str]) -> Iterator[str]:
    try:
        for line in stream:
            if words := line.split("\t")[0].strip():
                yield words
    except UnicodeDecodeError:
        raise UsageFailure("stdin is no text in UTF-8") from None
