"""How it is judged that publishing is back after a jam."""

from __future__ import annotations

import pytest

from .jam_faults import first_after

pytestmark = pytest.mark.fast


def test_the_first_acknowledgement_after_the_fault_counts_whatever_comes_later() -> None:
    unknown = 0.0  # a call that failed
    answered = [8.0, 9.9, unknown]
    assert first_after(10.0, answered) is None
    assert first_after(10.0, [*answered, 10.4, 12.0, 19.0, unknown]) == 10.4
