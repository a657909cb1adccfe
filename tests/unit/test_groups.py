"""pytest-xdist keeps the tests of a group together: else each begins with a service, browser or build of its own."""

from __future__ import annotations

from typing import cast

import pytest

from tests.support import sharing


@pytest.mark.xdist_group("groups")
def test_a_test_of_a_group_is_known_by_the_groups_name(request: pytest.FixtureRequest) -> None:
    """Which pytest-xdist appends to the test's id; it goes by these ids. pytest 9.2 reads ids from elsewhere."""
    needs_xdist(request)
    assert name_of(request).endswith("@groups"), "pytest and pytest-xdist do not go together"


@pytest.mark.asyncio(loop_scope="module")
async def test_each_test_that_shares_with_its_module_is_in_a_group(request: pytest.FixtureRequest) -> None:
    """tests/conftest.py adds the mark, and has to do so before pytest-xdist reads the marks."""
    needs_xdist(request)
    shared = [test.nodeid for test in request.session.items if sharing.shares(test)]
    assert [name for name in shared if "@" not in name.rpartition("]")[2]] == []
    assert name_of(request).endswith("@unit/test_groups")


def name_of(request: pytest.FixtureRequest) -> str:
    """Returns the id of the test that runs."""
    return cast("pytest.Item", request.node).nodeid  # pyright: ignore[reportUnknownMemberType] - pytest has no type for it


def needs_xdist(request: pytest.FixtureRequest) -> None:
    """Skips a test in a run without pytest-xdist's groups."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("xdist does not run this: `make test` does")
