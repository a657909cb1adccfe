"""Refused calls on their way into the audit: so many of each caller, and none is lost while the database is away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.store import AUDIT
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import Progress
from webhook_grpc.hub import refused_calls
from webhook_grpc.hub.refused_calls import RefusedCalls
from webhook_grpc.store.db import LoopConnection

PER_MINUTE = 3


class Connection:
    """Takes the statements, or is away."""

    def __init__(self) -> None:
        self.progress = Progress(10.0)
        self.is_away = False
        self.stored: list[str] = []

    async def rows(self, statement: str, params: Any) -> list[Any]:
        del statement
        if self.is_away:
            raise Unavailable("STORAGE_UNAVAILABLE", "away")
        self.stored += params["request_id"]
        return []


class Scene:
    """The refused calls of a minute that the test moves on."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.now = 60.0
        self.refused = RefusedCalls(cast("LoopConnection", self.connection), PER_MINUTE, lambda: self.now)

    def note(self, caller: str, count: int) -> None:
        for n in range(count):
            self.refused.note(entry(caller, n))


def entry(caller: str, n: int) -> AuditEntry:
    return replace(AUDIT, caller=caller, request_id=f"{caller}-{n}", result="PERMISSION_DENIED")


async def test_so_many_of_each_caller_are_stored_in_a_minute_and_the_log_says_how_many_are_not() -> None:
    scene = Scene()
    scene.note("one", PER_MINUTE + 2)
    scene.note("two", 1)
    scene.now += 59
    scene.note("one", 1)
    with capture_logs() as lines:
        scene.now += 1
        scene.refused.note(entry("one", 9))
        scene.refused.note(entry("one", 10))
        scene.now += 60
        scene.refused.note(entry("one", 11))

    await scene.refused.store()

    assert scene.connection.stored == ["one-0", "one-1", "one-2", "two-0", "one-9", "one-10", "one-11"]
    assert [line["count"] for line in lines] == [3], "each is said once"
    assert scene.refused.left_out_count == 3


async def test_what_could_not_be_stored_waits_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_calls, "WAITING_MAX", 2)
    scene = Scene()
    scene.connection.is_away = True
    scene.note("one", 3)
    with pytest.raises(Unavailable):
        await scene.refused.store()
    scene.connection.is_away = False
    await scene.refused.store()
    await scene.refused.store()
    assert scene.connection.stored == ["one-0", "one-1"]


async def test_callers_are_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused_calls, "CALLERS_MAX", 2)
    scene = Scene()
    for caller in ("one", "two", "three", "one"):
        scene.note(caller, 1)
    await scene.refused.store()
    assert scene.connection.stored == ["one-0", "two-0", "one-0"]
