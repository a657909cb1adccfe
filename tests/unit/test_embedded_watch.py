"""The embedded Postgres is looked after as long as the service runs; why it does not start is said once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from tests.support import slowness
from tests.support.symptoms import Line
from webhook_grpc.process.embedded_watch import EmbeddedWatch
from webhook_grpc.store.schema.embedded import EmbeddedPostgresError


class Played:
    """Has ended as often as it is said, and starts when it has failed so often as there are problems."""

    def __init__(self, looks: Sequence[bool], problems: Sequence[str] = ()) -> None:
        self._looks = list(looks)
        self._problems = list(problems)
        self.starts = 0
        self.was_looked_at, self.was_started = threading.Event(), threading.Event()

    def has_ended(self) -> bool:
        if not self._looks:
            self.was_looked_at.set()
        return self._looks.pop(0) if self._looks else False

    def start_again(self) -> None:
        if self._problems:
            raise EmbeddedPostgresError(self._problems.pop(0))
        self.starts += 1
        self.was_started.set()


@pytest.mark.symptom("embedded does not start")
def test_a_start_that_fails_is_tried_again_and_each_reason_is_said_once(symptoms: list[Line]) -> None:
    played = Played([True, True], ["no room", "no room", "in use"])
    with EmbeddedWatch(played, 0.001):
        assert played.was_started.wait(slowness.scaled(20))
    problems = [line["problem"] for line in symptoms if line["event"] == "the embedded Postgres does not start"]
    assert problems == ["no room", "in use"]


def test_a_look_that_misses_it_once_starts_nothing() -> None:
    """Somebody restarts it at that moment."""
    played = Played([True, False, True, False, False])
    with EmbeddedWatch(played, 0.001):
        assert played.was_looked_at.wait(slowness.scaled(20))
    assert played.starts == 0


def test_the_end_of_the_service_ends_the_tries() -> None:
    played = Played([True, True], ["no room"] * 100)
    with EmbeddedWatch(played, 0.01):
        assert played.was_looked_at.wait(0) is False
    assert played.starts == 0
