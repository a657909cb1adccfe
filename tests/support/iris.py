"""The package that jsonschema checks IRIs with, imported without what makes that slow.

`rfc3987_syntax` makes forty parsers when it is imported, one for each rule of its grammar, which takes three seconds of
CPU. jsonschema uses one of them, for formats that few schemas have. Here each is made when it is first used.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

import lark

_Parser: Final = lark.Lark


class LateParser:
    """A parser that is made when it first parses."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._make: Callable[[], Any] = functools.partial(_Parser, *arguments, **options)

    @functools.cached_property
    def _parser(self) -> Any:
        return self._make()

    def parse(self, *arguments: Any, **options: Any) -> Any:
        """Parses as the parser does. Raises what it raises."""
        return self._parser.parse(*arguments, **options)


def install() -> None:
    """Imports the package. To be called before jsonschema is imported."""
    with mock.patch.object(lark, "Lark", LateParser):
        importlib.import_module("rfc3987_syntax")
