"""Connections to the doors leave deliveries their file descriptors."""

from __future__ import annotations

import pytest

from webhook_grpc.process.machine.descriptors import SPARE, connections_of_doors


@pytest.mark.parametrize(
    ("wanted", "kept", "limit", "given"),
    [
        ([2000, 2000], 3300, 20_000, [2000, 2000]),
        ([2000, 2000], 3300, 4300, [537, 537]),  # a quarter of the limit
        ([2000, 1000], 3000, 4700, [1000, 500]),  # what is left, in proportion
        ([2000], 3300, 16, [4]),
        ([1, 2000], 3300, 100, [1, 24]),
    ],
)
def test_the_doors_share_what_the_others_leave(wanted: list[int], kept: int, limit: int, given: list[int]) -> None:
    assert connections_of_doors(wanted, kept, limit) == given


def test_nothing_is_taken_from_the_others_where_there_is_enough_for_them() -> None:
    for limit in range(5000, 12_000, 97):
        assert sum(connections_of_doors([2000, 2000], 3300, limit)) <= limit - 3300 - SPARE + 4 or limit < 4667 * 4 / 3
