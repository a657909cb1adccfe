"""Puts the texts of several processes together: each sample gets the label `process`, each family stands once.

Nothing is added up: counters of a process that was restarted begin at 0, and only `rate` before `sum` gets that right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

_HELP: Final = "# HELP "


def merged(texts: Mapping[str, str]) -> str:
    """Returns one text out of those of several processes, by their numbers, as prometheus_client writes them."""
    heads: dict[str, str] = {}
    samples: dict[str, list[str]] = {}
    for number, text in texts.items():
        for name, head, lines in _families(text):
            heads.setdefault(name, head)
            samples.setdefault(name, []).extend(_labelled(line, number) for line in lines)
    return "".join(head + "".join(samples[name]) for name, head in heads.items())


def _families(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Returns the name, the comments and the samples of each family."""
    for part in text.split(_HELP)[1:]:
        help_line, type_line, *lines = part.splitlines(keepends=True)
        yield part.split(" ", 1)[0], f"{_HELP}{help_line}{type_line}", lines


def _labelled(line: str, number: str) -> str:
    """Returns a sample with one more label, before the others."""
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f'{name}{{process="{number}",{rest}'
    name, _, rest = line.partition(" ")
    return f'{name}{{process="{number}"}} {rest}'
