"""Shards that are released share the work: those with webhooks, those that are busy, and not those that are stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain import shard_release
from webhook_grpc.domain.ids import SHARD_COUNT

ALL = frozenset(range(SHARD_COUNT))

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("webhooks", [2, 6, 20, 40])
@pytest.mark.parametrize("first", [1, 7, 50])
def test_the_shards_of_webhooks_that_were_created_one_after_the_other_are_halved(webhooks: int, first: int) -> None:
    used = {(first + number) % SHARD_COUNT for number in range(webhooks)}
    assert len(used & shard_release.to_release(32, ALL, set(), set())) == webhooks / 2
    assert len(used & shard_release.to_release(32, ALL - used, used, set())) == webhooks / 2, (
        "as well while they are busy"
    )


def test_a_third_process_gets_a_third() -> None:
    left = ALL - shard_release.to_release(32, ALL, set(), set())
    third = shard_release.to_release(10, left, set(), set())
    for first in range(0, SHARD_COUNT, 16):
        assert len(third & set(range(first, first + 16))) in {2, 3}


def test_a_stuck_shard_is_released_only_when_there_is_nothing_else() -> None:
    idle, busy, stuck = {0, 1}, {2, 3}, {4, 5}
    assert shard_release.to_release(4, idle, busy, stuck) == idle | busy
    assert shard_release.to_release(6, idle, busy, stuck) == idle | busy | stuck


@given(st.integers(0, 70), st.dictionaries(st.integers(0, SHARD_COUNT - 1), st.sampled_from(["idle", "busy", "stuck"])))
def test_as_many_are_chosen_as_are_to_be_released(count: int, states: dict[int, str]) -> None:
    idle, busy, stuck = (
        {shard for shard, is_ in states.items() if is_ == state} for state in ("idle", "busy", "stuck")
    )
    chosen = shard_release.to_release(count, idle, busy, stuck)
    assert len(chosen) == min(count, len(states))
    assert chosen <= states.keys()
