"""The decorator of values: immutable to the type checker, and cheap to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Value = TypeVar("Value")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[Value]) -> type[Value]:
    """Makes a dataclass with slots that is compared by its values, and that nobody may change.

    The type checker sees to the latter. `frozen=True` would, too, while the program runs, but makes each field cost as
    much as a call: a value of twelve fields takes 1.3 µs instead of 0.3.
    To make the class takes two thirds of the time, too.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
