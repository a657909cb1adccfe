"""What the doctor says of a server, a database and a role: one line each, fine or with what to change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from webhook_grpc.commands.findings import Finding
from webhook_grpc.commands.postgres import (
    CHECKS,
    judged,
    judged_connections,
    judged_hosts,
    judged_locale,
    judged_pooler,
    judged_role,
    judged_settings,
    judged_tls,
)
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.connection.standing import Right, RoleStanding, Route, Standing

ROUTE = Route("db.internal", 5432, ("db.internal",), "any", "verify-full", True, "TLSv1.3", Pooling.NONE)
LOCAL = replace(
    ROUTE, host="/run/postgresql", hosts=("/run/postgresql",), sslmode="prefer", has_tls=False, tls_version=None
)
FINE = Standing(
    ROUTE, "UTF8", "C.UTF-8", False, {}, {"the server": 97, "the role app": -1}, {"the server": 10, "the role app": 4}
)
ROLE = RoleStanding("app", False, False)
LACKING = (
    Right("SCHEMA", "webhook_grpc", "USAGE"),
    *(Right("TABLE", f"webhook_grpc.{name}", one) for name in ("events", "meta") for one in ("SELECT", "INSERT")),
    *(Right("TABLE", f"webhook_grpc.{name}", "SELECT") for name in ("tokens", "workers", "shards")),
    Right("SEQUENCE", "webhook_grpc.webhooks_id_seq", "USAGE"),
)
GRANTED = (
    "USAGE on webhook_grpc, SELECT, INSERT on webhook_grpc.events, SELECT, INSERT on webhook_grpc.meta, "
    "SELECT on webhook_grpc.tokens, SELECT on webhook_grpc.workers and on 2 more "
    '→ as the owner of the tables: GRANT USAGE ON SCHEMA webhook_grpc TO "app"; '
    'GRANT SELECT, INSERT ON TABLE webhook_grpc.events, webhook_grpc.meta TO "app"; '
    'GRANT SELECT ON TABLE webhook_grpc.tokens, webhook_grpc.workers, webhook_grpc.shards TO "app"; '
    'GRANT USAGE ON SEQUENCE webhook_grpc.webhooks_id_seq TO "app"'
)


def seen(finding: Finding) -> tuple[str, str]:
    """Returns the state, and all words."""
    return finding.state, f"{finding.detail} → {finding.remedy}"


def test_all_is_fine_on_a_server_as_it_should_be() -> None:
    found = list(judged(FINE, Pooling.NONE, 19))
    assert [one.check for one in found] == list(CHECKS)
    assert {one.state for one in found} == {"ok"}
    assert not any(one.remedy for one in found)
    assert judged_role(ROLE).detail == "app reads and writes rows, and can change no table"


@pytest.mark.parametrize(
    ("finding", "state", "words"),
    [
        (judged_hosts(replace(ROUTE, hosts=("a", "b"))), "warning", "add target_session_attrs=read-write"),
        (judged_hosts(replace(ROUTE, hosts=("a", "b"), target_session_attrs="read-write")), "ok", "of 2 hosts"),
        (judged_hosts(LOCAL), "ok", "a unix socket"),
        (judged_tls(LOCAL), "ok", "none, on this machine"),
        (
            judged_tls(replace(ROUTE, has_tls=False, sslmode="prefer")),
            "warning",
            "read along; sslmode=prefer → add sslmode=verify-full",
        ),
        (
            judged_tls(replace(ROUTE, sslmode="require")),
            "warning",
            "TLSv1.3, the server is not verified; sslmode=require → add",
        ),
        (
            judged_pooler(replace(ROUTE, pooling=Pooling.TRANSACTION), Pooling.NONE),
            "problem",
            "set WEBHOOK_DATABASE_POOLER=transaction",
        ),
        (judged_pooler(replace(ROUTE, pooling=Pooling.SESSION), Pooling.NONE), "ok", "taken for one in session mode"),
        (judged_pooler(ROUTE, Pooling.TRANSACTION), "ok", "none between; WEBHOOK_DATABASE_POOLER=transaction"),
        (judged_locale(replace(FINE, encoding="SQL_ASCII")), "problem", "ENCODING 'UTF8'"),
        (judged_locale(replace(FINE, is_collation_changed=True)), "warning", "REFRESH COLLATION VERSION"),
        (
            judged_settings(replace(FINE, given={"statement_timeout": ("300ms", "user")}), Pooling.NONE),
            "ok",
            "statement_timeout=300ms (user); each connection of the service has its own",
        ),
        (
            judged_settings(replace(FINE, given={"default_transaction_read_only": ("on", "user")}), Pooling.NONE),
            "problem",
            "SET default_transaction_read_only = off",
        ),
        (judged_connections(FINE, 90), "warning", "90 needed; 87 of 97 left of the server"),
        (judged_connections(FINE, 98), "problem", "raise the limit of the server"),
        (judged_connections(replace(FINE, route=replace(ROUTE, pooling=Pooling.SESSION)), 98), "ok", "the pooler says"),
        (
            judged_role(replace(ROLE, is_superuser=True)),
            "warning",
            "app is a superuser → give the service a role of its own",
        ),
        (
            judged_role(replace(ROLE, lacking=LACKING)),
            "problem",
            GRANTED,
        ),
        (judged_role(replace(ROLE, exists=False)), "problem", "there is no role app → make it"),
        (judged_role(replace(ROLE, name='a"b', may_log_in=False)), "problem", 'ALTER ROLE "a""b" LOGIN'),
        (judged_role(replace(ROLE, is_owner=True)), "ok", "app owns the tables"),
    ],
)
def test_what_is_not_fine_says_what_to_change(finding: Finding, state: str, words: str) -> None:
    assert finding.state == state
    assert words in seen(finding)[1]
