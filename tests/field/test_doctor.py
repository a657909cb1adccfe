"""`doctor --server` on servers that others have set up: it says what to change, and is not broken off by it."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from typing import Any, LiteralString, cast
from unittest.mock import patch

import pytest

from tests.field.conftest import Field
from tests.support.postgres import query
from tests.support.service import SECRET_KEY
from tests.support.store import options
from webhook_grpc.commands.doctor import findings
from webhook_grpc.commands.findings import Finding
from webhook_grpc.store.connection import server_checks, server_facts, session
from webhook_grpc.store.db import connect
from webhook_grpc.store.schema.migrate import migrate, plan

_DEADLINE_MS = 100
_LONGER_SECONDS = 0.2
_SLEEPS = f"(SELECT pg_sleep({_LONGER_SECONDS}))::text IS NOT NULL"
_FILL: LiteralString = """
INSERT INTO webhook_grpc.idempotency_keys
SELECT 7, 'past-' || n, gen_random_uuid(), n, now() FROM generate_series(1, 20000) n
"""
_BELIEVE: LiteralString = """
UPDATE pg_class SET reltuples = %s, relpages = 0 WHERE oid = 'webhook_grpc.idempotency_keys'::regclass
"""


def found(url: str) -> dict[str, Finding]:
    """Returns what it says, by check."""
    settings = {"WEBHOOK_DATABASE_URL": url, "WEBHOOK_SECRET_KEYS": b64encode(SECRET_KEY).decode()}
    with patch.dict(os.environ, settings):
        return {one.check: one for one in findings()}


@pytest.mark.slow(3)
def test_deadlines_of_the_role_break_off_neither_doctor_nor_migrate_and_are_named_with_what_to_run(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking takes twice as long as the role lets a statement last, and a transaction stand still."""
    monkeypatch.setattr(server_facts, "SELECT_DATABASE", f"{server_facts.SELECT_DATABASE} AND {_SLEEPS}")
    monkeypatch.setattr(server_facts, "SELECT_ROLE", f"{server_facts.SELECT_ROLE} WHERE {_SLEEPS}")
    monkeypatch.setattr(server_checks, "SELECT_READ_ONLY", f"{server_checks.SELECT_READ_ONLY} WHERE {_SLEEPS}")
    deadlines = server_facts._deadlines  # pyright: ignore[reportPrivateUsage]

    def after_a_pause(connection: Any) -> dict[str, tuple[int, str]]:
        time.sleep(_LONGER_SECONDS)  # the fault: the session is idle in its transaction
        return deadlines(connection)

    monkeypatch.setattr(server_facts, "_deadlines", after_a_pause)
    ms = str(_DEADLINE_MS)
    field.alter(statement_timeout=ms, idle_in_transaction_session_timeout=ms)

    by_check = found(field.url)

    said = by_check["session settings"]
    assert said.state == "warning"
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        assert f"{name}={_DEADLINE_MS}ms (user)" in said.detail
    assert [one for one in by_check.values() if one.state in {"problem", "skipped"} and one.check != "caller"] == []
    assert migrate(field.url) == []
    assert plan(field.url) == []

    query(field.admin_url, cast("LiteralString", said.remedy))
    assert found(field.url)["session settings"].state == "ok"


async def test_a_connection_gets_our_settings_where_the_deadline_of_the_role_is_shorter_than_that_takes(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SET_SESSION", f"{session.SET_SESSION} WHERE {_SLEEPS}")
    field.alter(statement_timeout=str(_DEADLINE_MS))
    async with await connect(options(field.url), "settle") as connection:
        cursor = await connection.execute("SELECT current_setting('statement_timeout'), current_setting('jit')")
        [(deadline, jit)] = await cursor.fetchall()
    assert deadline == f"{int((options(field.url).statement_timeout_seconds + 1) * 1000)}ms".replace("000ms", "s")
    assert jit == "off"


def test_statistics_that_are_far_off_are_named_until_the_table_is_analysed(field: Field) -> None:
    query(field.admin_url, _FILL)
    query(field.admin_url, "ANALYZE webhook_grpc.idempotency_keys")
    assert found(field.url)["statistics"].state == "ok"
    name = "webhook_grpc.idempotency_keys"
    for rows, words in ((5_000_000, "is believed to have 5,000,000 rows and has about 20,000"), (-1, "was never")):
        query(field.admin_url, _BELIEVE, [rows])
        said = found(field.url)["statistics"]
        assert (said.state, said.detail.startswith(f"{name} {words}")) == ("warning", True), said
        assert said.remedy == f"as their owner: ANALYZE {name}"
        query(field.url, cast("LiteralString", said.remedy.partition(": ")[2]))
        assert found(field.url)["statistics"].state == "ok"
