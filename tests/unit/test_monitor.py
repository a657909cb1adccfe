"""The words of `health changed`: what keeps a service from serving now, and not what once did."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from webhook_grpc.domain.progress import Cause, Progress, Service
from webhook_grpc.engine.health.monitor import Monitor


@pytest.mark.parametrize(
    ("is_over", "why"), [(True, "lease: not renewed in time"), (False, "lease: 28P01 no password")]
)
async def test_a_lease_that_ran_out_has_no_cause_but_that_of_its_last_renewal(is_over: bool, why: str) -> None:
    """A process that was stopped, or suspended with its machine, once had a database with another password."""

    async def set_serving(_: str, __: bool) -> None:
        pass

    def look(_: float) -> None:
        pass

    progress, shards = Progress(), SimpleNamespace(may_send=True)
    renewing = progress.work("lease", *Service)
    renewing.fail(Cause("no password", "28P01"))
    ownership: Any = SimpleNamespace(renewing=renewing, shards=shards)
    stillness: Any = SimpleNamespace(look=look)
    monitor = Monitor(progress, ownership, stillness, set_serving)
    await monitor.look(0)
    if is_over:
        renewing.succeed()
    shards.may_send = False
    with capture_logs() as lines:
        await monitor.look(600)
    assert {line["why"] for line in lines if line["event"] == "health changed"} == {why}
