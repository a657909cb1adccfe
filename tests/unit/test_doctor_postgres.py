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
    judged_statistics,
    judged_tls,
)
from webhook_grpc.store.connection.server_facts import Counted, Right, RoleStanding, Route, Standing
from webhook_grpc.store.connection.session import Pooling

ROUTE = Route("db.internal", 5432, ("db.internal",), "any", "verify-full", True, "TLSv1.3", Pooling.NONE)
LOCAL = replace(
    ROUTE, host="/run/postgresql", hosts=("/run/postgresql",), sslmode="prefer", has_tls=False, tls_version=None
)
FINE = Standing(
    ROUTE,
    encoding="UTF8",
    collation="C.UTF-8",
    is_collation_changed=False,
    given={},
    deadlines={},
    role="app",
    database="db",
    limits={"the server": 97, "the role app": -1},
    open_count={"the server": 10, "the role app": 4},
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


SHORT = (
    "lock_timeout=5ms (database), statement_timeout=300ms (client); a connection of the service may be ended "
    'before it has its own → ALTER ROLE "app" IN DATABASE "db" SET lock_timeout = 0; take statement_timeout '
    "out of the options of WEBHOOK_DATABASE_URL, or out of PGOPTIONS"
)
# A table of 100,000 rows that was counted when it had as many.
KNOWN = Counted("s.events", False, 100_000, 2000, 2000, 100_000, True, True)
OFF = "s.events is believed to have 100,000 rows and has about 2,000,000 → as their owner: ANALYZE s.events"
NEVER = "s.events was never analysed → as their owner: ANALYZE s.events"


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
            judged_settings(replace(FINE, deadlines={"statement_timeout": (5000, "user")}), Pooling.NONE),
            "ok",
            "statement_timeout=5s (user); each connection of the service has its own",
        ),
        (
            judged_settings(
                replace(FINE, deadlines={"lock_timeout": (5, "database"), "statement_timeout": (300, "client")}),
                Pooling.NONE,
            ),
            "warning",
            SHORT,
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


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (KNOWN, ""),
        (replace(KNOWN, rows_seen=2_000_000), OFF),
        (replace(KNOWN, rows_seen=2_000_000, pages_now=40_000), ""),  # as many on a page as there were
        (replace(KNOWN, rows_seen=2_000_000, is_seen_whole=False), ""),  # a crash has begun its own figures again
        (replace(KNOWN, rows_seen=2_000_000, is_queue=True), ""),
        (replace(KNOWN, rows=3.0, rows_seen=500), ""),  # of few it does not matter
        (replace(KNOWN, rows=-1.0, pages=0), NEVER),
        (replace(KNOWN, has_values=False), NEVER),
        (replace(KNOWN, rows=-1.0, pages=0, pages_now=3), ""),
        (replace(KNOWN, rows=0.0, rows_seen=0, has_values=False), ""),  # nothing has values
    ],
)
def test_statistics_are_wrong_where_statements_would_be_planned_for_ten_times_other_rows(
    table: Counted, words: str
) -> None:
    found = judged_statistics([table, replace(KNOWN, name="s.attempts")], counts_by_itself=True)
    assert (found.state, seen(found)[1] if words else "") == ("warning" if words else "ok", words)


def test_of_many_tables_some_are_named_all_are_to_be_analysed_and_autovacuum_is_to_be_on() -> None:
    found = judged_statistics([replace(KNOWN, name=f"t{n}", rows=-1) for n in range(7)], counts_by_itself=False)
    assert found.detail == ", ".join(f"t{n} was never analysed" for n in range(5)) + " and 2 more"
    tables = ", ".join(f"t{n}" for n in range(7))
    assert found.remedy == f"as their owner: ANALYZE {tables}, and set autovacuum and track_counts to on"
