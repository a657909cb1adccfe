"""The store does what its model says, whatever is done in whatever order."""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.postgres import TestPostgres
from webhook_grpc.store.log import feed

from .machine import StoreMachine
from .real import RealStore

# Unset: few examples, the same in every run. Set: so many, other ones in every run.
EXAMPLES: Final = os.environ.get("WEBHOOK_TEST_EXAMPLES")
SETTINGS: Final = settings(
    max_examples=int(EXAMPLES or 12),
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=not EXAMPLES,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.mark.slow(30)
@pytest.mark.timeout(0 if EXAMPLES else 600)  # a failure is made small before it is reported
def test_the_store_does_what_its_model_says(postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "ROWS_MAX", 5)  # so that the limits of the feed count
    monkeypatch.setattr(feed, "ROWS_PER_SHARD_MAX", 3)
    with RealStore(postgres) as store:

        class Machine(StoreMachine):
            listed_every = 1 if EXAMPLES else 3

            def __init__(self) -> None:
                super().__init__(store)

        run_state_machine_as_test(Machine, settings=SETTINGS)
