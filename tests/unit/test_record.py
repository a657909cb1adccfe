"""Values: compared by what they hold, and printed without what nobody may see."""

from __future__ import annotations

from dataclasses import field, replace

import pytest

from webhook_grpc.domain.record import record


@record
class Sealed:
    """A value with a secret and with something that is not compared."""

    name: str
    secret: bytes = field(default=b"", repr=False)
    seen: list[int] = field(default_factory=list[int], compare=False)


@record
class Other:
    """A value of another kind with the same fields."""

    name: str
    secret: bytes = b""
    seen: tuple[int, ...] = ()


@record
class Alone:
    """A value of one field."""

    name: str


@record
class Nothing:
    """A value without fields."""


def test_values_are_equal_if_they_are_of_one_kind_and_hold_the_same() -> None:
    one = Sealed("a", b"1", [1])
    assert one == Sealed("a", b"1", [2])
    assert hash(one) == hash(Sealed("a", b"1", [2]))
    assert one != Sealed("a", b"2", [1])
    assert one != Other("a", b"1")
    assert {Alone("a"), Alone("a"), Alone("b")} == {Alone("b"), Alone("a")}
    assert Alone("a") != "a"
    assert Nothing() == Nothing() != Alone("a")
    assert hash(Nothing()) == hash(Nothing())


def test_a_value_is_printed_without_what_is_not_to_be_shown() -> None:
    assert repr(Sealed("a", b"secret")) == "Sealed(name='a', seen=[])"
    assert repr([Alone("a"), Nothing()]) == "[Alone(name='a'), Nothing()]"


def test_a_value_has_slots_and_gives_others() -> None:
    assert replace(Sealed("a", b"1"), name="b") == Sealed("b", b"1")
    with pytest.raises(AttributeError):
        setattr(Alone("a"), "other", 1)  # noqa: B010 - the type checker knows that it can't be
