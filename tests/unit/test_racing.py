"""Happy Eyeballs (RFC 8305), in simulated time: which address is dialled when, and which connection is taken."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from tests.simulation.loop import SimulatedLoop
from webhook_grpc.engine.http.faults import BlockedDestination
from webhook_grpc.engine.http.racing import DIAL_NEXT_SECONDS, first_of


@dataclass
class Dial:
    """An address that answers after some seconds, or fails."""

    seconds: float
    error: Exception | None = None
    leaving_seconds: float = 0.0
    """How long it takes to end when it is given up."""
    began_at: float | None = None
    is_given_up: bool = False
    is_aborted: bool = False

    async def __call__(self) -> Dial:
        self.began_at = asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.is_given_up = True
            await asyncio.sleep(self.leaving_seconds)
            raise
        if self.error is not None:
            raise self.error
        return self

    def abort(self) -> None:
        self.is_aborted = True


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = SimulatedLoop(1)
    try:
        with loop.patched_time():
            return loop.run_until_complete(main())
    finally:
        loop.close()


def began(*dials: Dial) -> list[float | None]:
    """When each began, in seconds after the first."""
    assert dials[0].began_at is not None
    return [None if dial.began_at is None else round(dial.began_at - dials[0].began_at, 3) for dial in dials]


def test_the_next_address_is_dialled_beside_one_that_says_nothing_and_the_other_is_given_up() -> None:
    dead, alive, unneeded = Dial(100), Dial(0.01), Dial(0.01)
    assert run(lambda: first_of([dead, alive, unneeded])) is alive
    assert began(dead, alive, unneeded) == [0, DIAL_NEXT_SECONDS, None]
    assert dead.is_given_up


def test_a_slow_first_address_wins_if_the_second_is_slower() -> None:
    slow, slower = Dial(0.3), Dial(5)
    assert run(lambda: first_of([slow, slower])) is slow
    assert slower.is_given_up


def test_an_address_that_refuses_makes_the_next_one_begin_at_once() -> None:
    refused, alive = Dial(0.01, ConnectionRefusedError()), Dial(0.01)
    assert run(lambda: first_of([refused, alive])) is alive
    assert began(refused, alive) == [0, 0.01]


def test_of_two_that_are_made_at_once_one_is_closed() -> None:
    first, second = Dial(DIAL_NEXT_SECONDS + 0.1), Dial(0.1)
    taken = run(lambda: first_of([first, second]))
    [other] = {id(first): first, id(second): second}.keys() - {id(taken)}
    assert [dial.is_aborted or dial.is_given_up for dial in (first, second) if id(dial) == other] == [True]


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ([ConnectionRefusedError(), OSError(errno.EMFILE, "x")], 1),
        ([BlockedDestination(), ConnectionRefusedError()], 1),
        ([ConnectionRefusedError(), OSError(errno.EHOSTUNREACH, "x")], 0),
    ],
)
def test_of_all_failures_the_one_that_says_most_is_raised(errors: list[OSError], raised: int) -> None:
    """A fault of this process says that nothing is known of the receiver."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is what this is about
        run(lambda: first_of([Dial(0.01, error) for error in errors]))
    assert caught.value is errors[raised]


def test_whoever_stops_waiting_ends_all_dials() -> None:
    dials = [Dial(100), Dial(100)]

    async def impatient() -> None:
        async with asyncio.timeout(1):
            await first_of(dials)

    with pytest.raises(TimeoutError):
        run(impatient)
    assert [dial.is_given_up for dial in dials] == [True, True]


@pytest.mark.parametrize("is_made_first", [True, False])
def test_what_nobody_thought_of_is_raised_and_closes_what_was_made_at_that_moment(is_made_first: bool) -> None:
    """The one that begins first takes longer by that: both have ended when the race looks."""
    made, broken = Dial(0.125), Dial(0.125, ValueError("nobody thought of this"))
    dials = [made, broken] if is_made_first else [broken, made]
    dials[0].seconds += DIAL_NEXT_SECONDS
    with pytest.raises(ValueError, match="nobody thought"):
        run(lambda: first_of(dials))
    assert made.is_aborted


def test_whoever_leaves_while_the_others_are_given_up_closes_what_was_made() -> None:
    slow, alive = Dial(100, leaving_seconds=100), Dial(0.1)

    async def impatient() -> None:
        async with asyncio.timeout(1):
            await first_of([slow, alive])

    with pytest.raises(TimeoutError):
        run(impatient)
    assert alive.is_aborted
