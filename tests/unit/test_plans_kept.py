"""When a session keeps plans: for small statements, for a second at most, and without a change for each statement."""

from __future__ import annotations

from webhook_grpc.store.connection.plans import KEEP, KEPT_SECONDS_MAX, PLAN_EACH_TIME, RENEW, Plans


def test_a_new_session_plans_each_time_until_a_statement_may_keep_its_plan() -> None:
    plans = Plans()
    assert plans.before(0.0, keeps_plan=False) is None
    assert plans.before(0.0, keeps_plan=True) == KEEP
    assert plans.before(0.1, keeps_plan=True) is None


def test_plans_are_made_again_after_a_second() -> None:
    plans = Plans()
    plans.before(0.0, keeps_plan=True)
    assert plans.before(KEPT_SECONDS_MAX - 0.01, keeps_plan=True) is None
    assert plans.before(KEPT_SECONDS_MAX, keeps_plan=True) == RENEW
    assert plans.before(KEPT_SECONDS_MAX + 0.5, keeps_plan=True) is None
    assert plans.before(2 * KEPT_SECONDS_MAX, keeps_plan=True) == RENEW


def test_a_large_statement_never_uses_a_kept_plan() -> None:
    plans = Plans()
    plans.before(0.0, keeps_plan=True)
    assert plans.before(0.1, keeps_plan=False) == PLAN_EACH_TIME
    assert plans.before(0.2, keeps_plan=False) is None


def test_small_and_large_statements_in_turns_change_the_session_seldom() -> None:
    plans = Plans()
    plans.before(0.0, keeps_plan=True)
    changes = [plans.before(0.01 * number, keeps_plan=number % 2 == 0) for number in range(1, 300)]
    assert [change for change in changes if change] == [PLAN_EACH_TIME, KEEP, PLAN_EACH_TIME, KEEP, PLAN_EACH_TIME]


def test_plans_of_before_a_large_statement_are_not_used_after_it() -> None:
    plans = Plans()
    plans.before(0.0, keeps_plan=True)
    plans.before(0.1, keeps_plan=False)
    assert plans.before(5.0, keeps_plan=True) == KEEP
    assert "DISCARD PLANS" in KEEP
