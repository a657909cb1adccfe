"""The tests of the store, unchanged, on a cell: of Citus where there is one, of plain Postgres in `make test-long`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.citus.coordinator import coordinator
from tests.support import cells
from tests.support.full import IS_FULL

ROOT: Final = Path(__file__).parents[2]
_HOUR: Final = 3600
SLOWER: Final = (
    "5"  # what deadlines are multiplied by: each fresh cell has some eighteen partitions to make on two nodes
)
# Each of these is about a database, a server or a connection, and says nothing of the statements on a cell.
NOT_OF_CELLS: Final = (
    "test_embedded.py",
    "test_healing.py",
    "test_kept_plans.py",
    "test_migration_crashes.py",
    "test_migration_plan.py",
    "test_migrations.py",
    "test_plans.py",
    "test_query_plans.py",
    "test_list_plans.py",
    "test_statistics.py",
    "test_publish_event_transactions.py",
)


def run_on_cells(**given: str) -> None:
    """Runs the tests of the store on cells, in an environment with these variables. Fails as they do."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WEBHOOK_", "PYTEST_"))}
    ignored = [f"--ignore=tests/store/{name}" for name in NOT_OF_CELLS]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/store", *ignored],
        cwd=ROOT,
        env={**inherited, **given, cells.VARIABLE: "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:]


@pytest.mark.slow(600)
@pytest.mark.timeout(_HOUR)
def test_the_tests_of_the_store_pass_on_a_cell_of_citus() -> None:
    with coordinator() as url:
        run_on_cells(WEBHOOK_TEST_DATABASE_URL=url, WEBHOOK_TEST_PACE=SLOWER)


@pytest.mark.slow(120)
@pytest.mark.timeout(_HOUR)
@pytest.mark.skipif(not IS_FULL, reason="runs the tests of the store once more, on a schema: make test-long")
def test_the_tests_of_the_store_pass_on_a_schema_of_plain_postgres() -> None:
    """So what fails on Citus is Citus' doing, and not the tier's."""
    run_on_cells()
