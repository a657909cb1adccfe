"""pytest-xdist keeps the tests of a group together: else each begins with a service, browser or build of its own."""

from __future__ import annotations

from typing import cast

import pytest


@pytest.mark.xdist_group("groups")
def test_a_test_of_a_group_is_known_by_the_groups_name(request: pytest.FixtureRequest) -> None:
    """Which pytest-xdist appends to the test's id; it goes by these ids. pytest 9.2 reads ids from elsewhere."""
    test = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType] - pytest has no type for it
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("xdist does not run this: `make test` does")
    assert test.nodeid.endswith("@groups"), "pytest and pytest-xdist do not go together"
