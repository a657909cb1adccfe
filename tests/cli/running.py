"""Runs the program inside the tests' process, with streams and an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shlex
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from webhook_grpc_cli.program import main


@dataclass(frozen=True)
class Ran:
    """What a line came to."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What `-o json` printed."""
        return [json.loads(line) for line in self.lines]

    @property
    def rows(self) -> list[list[str]]:
        """What `-o tsv` printed."""
        return [line.split("\t") for line in self.lines]

    def ok(self) -> Ran:
        assert self.status == 0, self
        return self


class Stream(io.TextIOWrapper):
    """A stream that is a terminal, or is not."""

    def __init__(self, content: bytes = b"", *, is_terminal: bool = False, encoding: str = "utf-8") -> None:
        self.raw_bytes = io.BytesIO(content)
        super().__init__(self.raw_bytes, encoding=encoding, write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        return self.raw_bytes.getvalue().decode(self.encoding)


@dataclass
class Program:
    """The program in a home of its own."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def run_here(
        self, line: str, *, stdin: str = "", terminal: bool = False, encoding: str = "utf-8", **environment: str
    ) -> Ran:
        """Runs a line. `terminal`: all three streams are one."""
        streams = [
            Stream(stdin.encode(), is_terminal=terminal),
            *(Stream(is_terminal=terminal, encoding=encoding) for _ in range(2)),
        ]
        words = shlex.split(line) or [""]
        with _in_their_place(streams), patch.dict("os.environ", {**self.environment, **environment}):
            status = _status(words[1:] if words[0] in {"webhook-grpc", ""} else words)
        return Ran(status, streams[1].text(), streams[2].text())

    async def run(self, line: str, **how: Any) -> Ran:
        """Runs a line in a thread, so that the service of this process can answer."""
        return await asyncio.to_thread(self.run_here, line, **how)


@contextlib.contextmanager
def _in_their_place(streams: list[Stream]) -> Generator[None]:
    with contextlib.ExitStack() as stack:
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            stack.enter_context(patch.object(sys, name, stream))
        yield


def _status(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main.main(words)
    assert isinstance(end.value.code, int)
    return end.value.code
