"""When a process that ended is started again, and when that is given up."""

from __future__ import annotations

from webhook_grpc.domain.restarts import RestartPolicy, Restarts

POLICY = RestartPolicy(seconds_min=0.5, seconds_max=3.0, starts_max=3)


def pauses(restarts: Restarts, *served: float | None) -> list[float]:
    found: list[float] = []
    for seconds in served:
        restarts.note_end(seconds)
        found.append(restarts.pause_seconds(POLICY))
    return found


def test_the_pause_doubles_up_to_the_longest() -> None:
    assert pauses(Restarts(), 1.0, 1.0, None, 1.0, 1.0) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_pause_stays_bounded_however_often_a_process_dies() -> None:
    assert pauses(Restarts(), *[None] * 5000)[-1] == 3.0


def test_a_process_that_lasted_begins_with_the_shortest_pause() -> None:
    assert pauses(Restarts(), None, 1.0, 3600.0) == [0.5, 1.0, 0.5]


def test_only_starts_that_failed_in_a_row_are_too_many() -> None:
    restarts = Restarts()
    found: list[bool] = []
    for served in (None, None, 1.0, None, None, None):
        restarts.note_end(served)
        found.append(restarts.are_too_many(POLICY))
    assert found == [False, False, False, False, False, True]
