"""A run of `events publish --ndjson` never waits for room in the publisher, where no signal would break it off."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from webhook_grpc_cli.commands import ndjson

LINE = b'{"event_type":"a.b","data":{"text":"%s"}}\n' % (b"x" * 1_000_000)
LINES = 40


class Away:
    """A publisher whose service is away until somebody waits for its oldest result."""

    def __init__(self) -> None:
        self.waiting = deque[tuple[int, Future[Any]]]()
        self.most_bytes = 0

    def publish(self, event_type: str, data: str, **_: Any) -> Future[Any]:
        self.waiting.append((len(event_type) + len(data), Future()))
        self.most_bytes = max(self.most_bytes, sum(size for size, _ in self.waiting))
        return self.waiting[-1][1]

    def wait(self, futures: list[Future[Any]]) -> None:
        _, oldest = self.waiting.popleft()
        assert futures == [oldest]
        oldest.set_result(SimpleNamespace(duplicate=False))


def test_lines_that_are_large_wait_for_results_before_the_publisher_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away()
    monkeypatch.setattr(ndjson, "wait", away.wait)
    session = SimpleNamespace(place=SimpleNamespace(customer_id=1))
    run = ndjson.Ndjson(cast("Any", session), "lines", "run", None)
    was_interrupted = run.publish_lines(away, io.BytesIO(LINE * LINES), most=1_000)
    assert (was_interrupted, len(away.waiting)) == (False, 0)
    assert away.most_bytes <= 32_000_000 + len(LINE), "half of what a publisher takes"
