"""The ports of the tests' own servers are ones that a webhook may have."""

from __future__ import annotations

import pytest

from tests.support import ports
from webhook_grpc.domain.egress import EgressPolicy, why_url_blocked

POLICY = EgressPolicy(allow_http=True)


@pytest.mark.parametrize("worker", ["gw0", "gw11"])
def test_a_webhook_may_have_each_port(monkeypatch: pytest.MonkeyPatch, worker: str) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    first = ports.free_port() // 1000 * 1000
    refused = [port for port in range(first, first + 1000) if why_url_blocked(f"http://a.example.com:{port}/", POLICY)]
    assert refused == []
