"""When work counts as standing still, and what the log says of it: by hand, second by second."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from webhook_grpc.domain.progress import DATABASE, UNTRIED_SECONDS_MIN, Cause, News, Progress, Service, Work
from webhook_grpc.engine.health import monitor

LOCKED = Cause("canceling statement due to lock timeout", "55P03")
DENIED = Cause("permission denied for table deliveries", "42501")


class Clock:
    """A progress whose time goes on in steps of half a second, as the monitor looks."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._now = 100.0
        self.progress.advance(self._now)

    def work(self, **options: bool) -> Work:
        return self.progress.work("settle results", Service.DELIVERY, **options)  # pyright: ignore[reportArgumentType]

    def run(self, seconds: float) -> list[News]:
        said: list[News] = []
        for _ in range(int(seconds * 2)):
            self._now += 0.5
            said += self.progress.advance(self._now)
        return said

    def jump(self, seconds: float) -> list[News]:
        """Time in which the process did not run."""
        self._now += seconds
        return self.progress.advance(self._now)

    @property
    def is_serving(self) -> bool:
        return not self.progress.stalled(Service.DELIVERY)


def messages(said: list[News]) -> list[str]:
    return [news.message for news in said]


def failing(clock: Clock, work: Work, seconds: float, cause: Cause = LOCKED) -> list[News]:
    """Tries once a second, and fails."""
    said: list[News] = []
    for _ in range(int(seconds)):
        work.begin()
        work.fail(cause)
        said += clock.run(1)
    return said


def test_a_single_failure_that_nobody_repeats_is_no_stall() -> None:
    """A call fails while Postgres fails over, and for a while nobody calls."""
    clock = Clock()
    work = clock.work()
    failing(clock, work, 1)
    for _ in range(40):
        clock.run(1)
        assert clock.is_serving


def test_a_service_stops_to_serve_when_its_work_has_failed_for_ten_seconds_and_not_before() -> None:
    clock = Clock()
    work = clock.work()
    failing(clock, work, 9)
    assert clock.is_serving
    failing(clock, work, 2)
    assert not clock.is_serving
    assert clock.progress.stalled(Service.WEBHOOKS) == [], "the other service is not concerned"
    work.succeed()
    assert clock.is_serving


def test_a_success_between_failures_counts() -> None:
    clock = Clock()
    work = clock.work()
    for _ in range(5):
        failing(clock, work, 8)
        work.succeed()
        assert clock.is_serving


def test_a_try_that_does_not_end_counts_as_one_that_fails() -> None:
    clock = Clock()
    work = clock.work()
    work.begin()
    assert clock.run(9.5) == []
    [news] = clock.run(1)
    assert (news.message, news.cause and news.cause.text) == ("the database fails", "no answer in time")
    assert not clock.is_serving


def test_a_try_that_comes_on_step_by_step_is_no_stall() -> None:
    clock = Clock()
    work = clock.work()
    for _ in range(5):
        work.begin()
        assert clock.run(9) == []
    assert clock.is_serving


def test_a_process_that_was_stopped_has_not_stood_still() -> None:
    clock = Clock()
    work = clock.work()
    work.begin()
    assert clock.jump(3600) == []
    assert clock.is_serving


def test_what_nobody_has_tried_for_long_does_not_keep_a_service_from_serving() -> None:
    """Else a process whose publishing failed would get no calls, and so never learn that it works again."""
    clock = Clock()
    work = clock.work()
    failing(clock, work, 12)
    clock.run(28)
    assert not clock.is_serving
    clock.run(3)
    assert clock.is_serving
    work.fail(LOCKED)
    assert not clock.is_serving, "nothing has succeeded since"


def test_the_log_says_once_what_fails_and_why_and_once_that_it_works_again() -> None:
    clock = Clock()
    work = clock.work()
    clock.run(5)
    said = failing(clock, work, 20)
    [news] = said
    assert (news.message, news.work, news.cause) == ("the database fails", "settle results", LOCKED)
    assert news.seconds == pytest.approx(5, abs=1)
    work.succeed()
    [news] = clock.run(5)
    assert (news.message, news.cause) == ("the database answers again", None)
    assert news.seconds == pytest.approx(21, abs=1)
    assert clock.run(60) == []


def test_work_that_nobody_tries_any_more_gets_a_line_that_closes_and_claims_nothing() -> None:
    clock = Clock()
    work = clock.work()
    failing(clock, work, 20)
    assert clock.run(UNTRIED_SECONDS_MIN - 2) == [], "some wait a minute before the next try"
    [news] = clock.run(4)
    assert (news.message, news.work, news.cause) == ("what failed is no longer tried", "settle results", None)
    assert news.seconds == pytest.approx(20, abs=2), "for how long it was seen to fail"
    work.succeed()
    assert clock.run(60) == [], "each line of a failure is closed once"
    assert messages(failing(clock, work, 1)) == ["the database fails"]


def test_a_try_that_hangs_is_no_work_that_nobody_tries() -> None:
    clock = Clock()
    work = clock.work()
    work.begin()
    assert messages(clock.run(2 * UNTRIED_SECONDS_MIN)) == ["the database fails"]


def test_another_cause_in_the_same_spell_is_said_too_and_each_once() -> None:
    clock = Clock()
    work = clock.work()
    said: list[News] = []
    for _ in range(10):
        said += failing(clock, work, 1, LOCKED)
        said += failing(clock, work, 1, DENIED)
    assert [news.cause for news in said] == [LOCKED, DENIED]


def test_the_causes_that_a_spell_names_are_bounded() -> None:
    clock = Clock()
    work = clock.work()
    said = [news for number in range(100) for news in failing(clock, work, 1, Cause(f"cause {number}"))]
    assert len(said) == 8


def test_a_failure_that_passed_between_two_looks_is_said() -> None:
    clock = Clock()
    work = clock.work()
    work.fail(LOCKED)
    work.succeed()
    assert messages(clock.jump(30) + clock.run(5)) == ["the database fails", "the database answers again"]


def test_work_that_fails_every_other_time_for_hours_leaves_few_lines() -> None:
    clock = Clock()
    work = clock.work()
    said: list[News] = []
    for _ in range(600):
        said += failing(clock, work, 1)
        work.succeed()
        said += clock.run(5)
    assert 2 <= len(said) <= 20
    work.succeed()
    assert messages(clock.run(61)) == ["the database answers again"]


def test_what_may_be_so_for_a_moment_is_said_only_when_it_lasts() -> None:
    clock = Clock()
    work = clock.work(is_said_at_once=False)
    assert failing(clock, work, 9) == []
    work.succeed()
    assert clock.run(5) == []
    assert messages(failing(clock, work, 12)) == ["the database fails"]


def test_a_try_that_was_broken_off_says_nothing() -> None:
    clock = Clock()
    work = clock.work()
    work.begin()
    work.leave()
    assert clock.run(60) == []
    assert clock.is_serving


def test_what_lacks_different_rights_has_lines_of_its_own_and_an_outage_has_one() -> None:
    assert DENIED.line != Cause("permission denied for table webhooks", "42501").line
    full = [Cause(f'could not extend file "base/{number}"', "53100") for number in range(2)]
    assert full[0].line == full[1].line


def test_a_line_of_the_log_names_what_each_work_lacks() -> None:
    lacks = {"look": DENIED, "publish": DENIED, "settle": Cause("permission denied for table attempts", "42501")}
    with capture_logs() as logs:
        monitor._say([News(work, DATABASE, cause, 1.0) for work, cause in lacks.items()])  # pyright: ignore[reportPrivateUsage]
    assert [(line["work"], line["text"]) for line in logs] == [
        ("look, publish", DENIED.text),
        ("settle", "permission denied for table attempts"),
    ]
