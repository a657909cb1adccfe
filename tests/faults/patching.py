"""Patches of the service's code, in a process of the suite's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rewrap(owner: object, name: str, make: Callable[[Any], Any]) -> None:
    """Replaces what `owner` calls `name` by something made of it. Raises AttributeError if there is no such thing."""
    setattr(owner, name, make(getattr(owner, name)))


def reword(owner: object, name: str, old: str, new: str) -> None:
    """Replaces a part of a statement, which must be there: a patch that misses its place would prove nothing."""
    statement: str = getattr(owner, name)
    if old not in statement:
        raise LookupError(f"{name} does not contain {old!r}")
    setattr(owner, name, statement.replace(old, new))
