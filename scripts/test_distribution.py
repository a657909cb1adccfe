"""Runs the tests of the store on the distribution's Postgres, with the settings that it comes with (JIT is on).

Where it is not installed this says so and ends well; with `CI=true` that is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from tests.support.distribution import DistributionPostgres, bin_path

ELSEWHERE: Final = ("--ignore=tests/store/test_plans.py",)  # `make test` runs these on the distribution's Postgres


def main() -> int:
    """Returns what pytest returned."""
    if bin_path() is None:
        print("skipped: Debian's package postgresql (15 or newer) is not installed; .ci/packages installs it")
        return int(os.environ.get("CI") == "true")
    server = DistributionPostgres()
    try:
        environment = {**os.environ, "WEBHOOK_TEST_DATABASE_URL": server.url}
        pytest = [sys.executable, "-m", "pytest", "-n", "auto", "--dist", "loadgroup"]
        return subprocess.run(
            [*pytest, "tests/store", *ELSEWHERE, *sys.argv[1:]], env=environment, check=False
        ).returncode
    finally:
        server.remove()


if __name__ == "__main__":
    sys.exit(main())
