"""Who has short calls in progress, and who had one a moment ago."""

from __future__ import annotations

from webhook_grpc.hub.short_calls import RECENT_SECONDS, ShortCalls


def made(*whose: str, at: float) -> ShortCalls:
    """One call of each, in this order; each has ended at once."""
    calls = ShortCalls()
    for one in whose:
        calls.begin(one, at)
        calls.end(one, at)
    return calls


def test_only_calls_of_others_count() -> None:
    assert not made("a", at=10.0).others_lately("a", 10.0)
    assert made("a", at=10.0).others_lately("b", 10.0)
    assert made("a", "b", at=10.0).others_lately("b", 10.0), "that of a, though b was the last"
    assert not ShortCalls().others_lately("a", 10.0)


def test_a_call_counts_for_a_moment_after_it_has_ended() -> None:
    calls = made("a", at=10.0)
    assert calls.others_lately("b", 10.0 + 0.9 * RECENT_SECONDS)
    assert not calls.others_lately("b", 10.0 + RECENT_SECONDS)


def test_a_call_is_in_progress_until_it_has_ended() -> None:
    calls = ShortCalls()
    for _ in range(2):
        calls.begin("a", 10.0)
    assert (calls.others_in_progress("a"), calls.others_in_progress("b")) == (False, True)
    calls.end("a", 11.0)
    assert calls.others_in_progress("b")
    calls.end("a", 12.0)
    assert not calls.others_in_progress("b")


def test_customers_of_long_ago_are_forgotten() -> None:
    calls = ShortCalls()
    for number in range(100):
        calls.begin(number, 10.0 + number)
        calls.end(number, 10.0 + number)
    assert calls.known_count == 1
