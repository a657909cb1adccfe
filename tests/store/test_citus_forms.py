"""The statements of the store keep to the forms that Citus runs too; no server is needed to see that.

The rules, and the errors that they come from, were found on Citus 13.2 with a schema for each cell: a statement that
writes has the time from its input (`now() AS at`), and an INSERT … SELECT reads a CTE joined to `meta`.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.statements import function_statements, refusals, statements

REFUSED: Final = {
    "UPDATE … SET": (
        "UPDATE webhooks SET updated_at = now() WHERE id = 1",
        "UPDATE … SET with a function of time or chance",
    ),
    "UPDATE … SET, deeper": (
        "WITH c AS (UPDATE shards SET epoch = epoch + floor(random()) RETURNING 1) SELECT * FROM c",
        "UPDATE … SET with a function of time or chance",
    ),
    "UPDATE … WHERE": (
        "UPDATE workers SET retiring = true WHERE lease_until < clock_timestamp()",
        "UPDATE … WHERE with a volatile function",
    ),
    "RETURNING": (
        "UPDATE workers SET retiring = true RETURNING clock_timestamp()",
        "RETURNING with a function of time or chance",
    ),
    "RETURNING of an INSERT": (
        "INSERT INTO workers VALUES (%(worker)s, now()) RETURNING current_timestamp",
        "RETURNING with a function of time or chance",
    ),
    "CASE": (
        "UPDATE shards s SET abandoned_at = CASE WHEN c.a THEN clock_timestamp() ELSE s.abandoned_at END FROM c",
        "CASE with a function of time or chance",
    ),
    "coalesce": (
        "DELETE FROM webhook_health WHERE coalesce(hold_until <= now(), true)",
        "coalesce with a function of time or chance",
    ),
    "ON CONFLICT": (
        "WITH i AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM i ON CONFLICT (a) DO UPDATE SET at = now()",
        "ON CONFLICT with a function of time or chance",
    ),
    "INSERT … SELECT": (
        "INSERT INTO commands SELECT %(shard)b, now() FROM meta",
        "INSERT … SELECT that reads no CTE",
    ),
    "INSERT … SELECT in a CTE": (
        "WITH k AS (INSERT INTO keys SELECT %(key)b::text FROM meta RETURNING key) SELECT 1 FROM k",
        "INSERT … SELECT that reads no CTE",
    ),
    "INSERT … SELECT from a subquery with a CTE": (
        "WITH i AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM (SELECT a FROM i) s",
        "INSERT … SELECT that reads no CTE",
    ),
}
ALLOWED: Final = (
    "SELECT CASE WHEN previous_secret_until > now() THEN previous_secret END FROM webhooks",
    "INSERT INTO workers (worker_id, lease_until) VALUES (%(worker)s, now() + interval '1 second')",
    "DELETE FROM workers WHERE lease_until < now()",
    "WITH i AS (SELECT now() AS at, true AS singleton) INSERT INTO t SELECT at FROM i JOIN meta USING (singleton)",
)


def test_every_statement_keeps_to_the_forms_that_citus_runs() -> None:
    found = {name: refused for name, statement in statements().items() if (refused := refusals(statement))}
    assert found == {}


def test_the_statements_in_functions_do_so_too() -> None:
    found = {
        name: refused
        for name, bodies in function_statements().items()
        if (refused := {refusal for body in bodies for refusal in refusals(body)})
    }
    # It reads `webhooks`, a table of the same cell, and ran on Citus as it is; the rule is about those that read none.
    assert found == {"publish_event": {"INSERT … SELECT that reads no CTE"}}
    assert {"publish_event", "claim_request_id", "delete_audit_entries"} <= set(function_statements())


def test_the_statements_are_found() -> None:
    known = {
        "store.outbox.publishing.PUBLISH",
        "store.outbox.publishing.PUBLISH_ONE_ONCE",
        "store.outbox.settlement.SETTLE",
        "store.outbox.commands.SELECT_WAITING_COMMANDS",
        "store.registry.webhooks.INSERT_WEBHOOK",
        "store.log.feed.SELECT_LOG_ENDS",
        "store.clock.SELECT_DATABASE_TIME",
        "hub.hints.NOTIFY",
    }
    assert known <= set(statements())


@pytest.mark.parametrize("form", REFUSED)
def test_a_form_that_citus_refuses_is_found(form: str) -> None:
    statement, refusal = REFUSED[form]
    assert refusal in refusals(statement)


@pytest.mark.parametrize("statement", ALLOWED)
def test_a_form_that_citus_runs_is_not(statement: str) -> None:
    assert refusals(statement) == set()
