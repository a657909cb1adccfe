"""Judges a server, a database and a role as they were found: each check is one line, fine or with what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from webhook_grpc.store.connection.server_facts import Counted, Right, RoleStanding, Route, Standing
from webhook_grpc.store.connection.session import Pooling

from .findings import Finding

CHECKS: Final = ("hosts", "database TLS", "pooler", "locale", "session settings", "connections")

_SHOWN_MAX: Final = 5  # objects on which a right is lacked, tables that are not counted
_DEADLINE_MS_FINE: Final = 1000  # a connection may take as long to get its own
_TIMES_OFF: Final = 10
_ROWS_OFF: Final = 10_000  # of so few it does not matter how many there are
_PAGES_OFF: Final = 128  # 1 MB
_READ_WRITE: Final = frozenset({"read-write", "primary"})
_VERIFIED: Final = {"verify-full": "the server's certificate and name are verified", "verify-ca": "its authority is"}


def judged(found: Standing, declared: Pooling, needed: int) -> Iterator[Finding]:
    """Yields the findings of CHECKS. `declared`: WEBHOOK_DATABASE_POOLER; `needed`: connections of all processes."""
    yield judged_hosts(found.route)
    yield judged_tls(found.route)
    yield judged_pooler(found.route, declared)
    yield judged_locale(found)
    yield judged_settings(found, declared)
    yield judged_connections(found, needed)


def judged_hosts(route: Route) -> Finding:
    """Judges whether a failover would be followed, where there are several hosts."""
    count, wanted = len(route.hosts), route.target_session_attrs
    where = "a unix socket" if route.host.startswith(("/", "@")) else f"{route.host}, port {route.port}"
    if count < 2:
        return Finding("hosts", "ok", where)
    detail = f"{where}, of {count} hosts, target_session_attrs={wanted}"
    if wanted in _READ_WRITE:
        return Finding("hosts", "ok", detail)
    remedy = "add target_session_attrs=read-write to WEBHOOK_DATABASE_URL: else a standby may be taken"
    return Finding("hosts", "warning", detail, remedy)


def judged_tls(route: Route) -> Finding:
    """Judges whether others can read or change what goes to the database and comes from there."""
    mode = f"sslmode={route.sslmode}"
    if not route.has_tls:
        if route.is_local:
            return Finding("database TLS", "ok", f"none, on this machine; {mode}")
        remedy = "add sslmode=verify-full and sslrootcert to WEBHOOK_DATABASE_URL (the server needs ssl=on)"
        return Finding("database TLS", "warning", f"none: others on the way can read along; {mode}", remedy)
    version = route.tls_version or "TLS"
    if route.sslmode in _VERIFIED:
        return Finding("database TLS", "ok", f"{version}, {_VERIFIED[route.sslmode]}; {mode}")
    remedy = "add sslmode=verify-full and sslrootcert to WEBHOOK_DATABASE_URL"
    state = "ok" if route.is_local else "warning"
    return Finding(
        "database TLS", state, f"{version}, the server is not verified; {mode}", "" if route.is_local else remedy
    )


def judged_pooler(route: Route, declared: Pooling) -> Finding:
    """Judges whether what stands between is what the settings say."""
    seen = route.pooling
    if seen is Pooling.NONE:
        more = f"; WEBHOOK_DATABASE_POOLER={declared}" if declared is not Pooling.NONE else ""
        return Finding("pooler", "ok", f"none between{more}")
    if seen is Pooling.TRANSACTION and declared is not Pooling.TRANSACTION:
        return Finding("pooler", "problem", "one in transaction mode", "set WEBHOOK_DATABASE_POOLER=transaction")
    mode = "transaction" if declared is Pooling.TRANSACTION else "session"
    return Finding("pooler", "ok", f"one between, taken for one in {mode} mode")


def judged_locale(found: Standing) -> Finding:
    """Judges whether the database can hold every text, and sorts as its indexes do."""
    detail = f"encoding {found.encoding}, collation {found.collation}"
    if found.encoding != "UTF8":
        remedy = "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        return Finding("locale", "problem", f"{detail}: it can't hold every text", remedy)
    if found.is_collation_changed:
        remedy = "REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION VERSION"
        return Finding("locale", "warning", f"{detail}; the library that sorts has another version now", remedy)
    return Finding("locale", "ok", detail)


def judged_settings(found: Standing, declared: Pooling) -> Finding:
    """Says what somebody has set for the server, the database or the role: connections of ours have their own."""
    deadlines = {name: (_spelled(ms), source) for name, (ms, source) in found.deadlines.items()}
    given = ", ".join(f"{name}={value} ({source})" for name, (value, source) in {**found.given, **deadlines}.items())
    if "default_transaction_read_only" in found.given:
        remedy = "let the role write: ALTER ROLE … SET default_transaction_read_only = off"
        return Finding("session settings", "problem", given, remedy)
    if not given:
        return Finding("session settings", "ok", "nobody has set any of those that concern the service")
    if short := {name: source for name, (ms, source) in found.deadlines.items() if ms < _DEADLINE_MS_FINE}:
        detail = f"{given}; a connection of the service may be ended before it has its own"
        remedy = "; ".join(_without_deadline(found, name, source) for name, source in short.items())
        return Finding("session settings", "warning", detail, remedy)
    whose = "they have to be right" if declared is Pooling.TRANSACTION else "each connection of the service has its own"
    return Finding("session settings", "ok", f"{given}; {whose}")


def _spelled(ms: int) -> str:
    """Returns a time as Postgres shows it."""
    unit, size = next(((unit, size) for unit, size in _UNITS.items() if ms % size == 0), ("ms", 1))
    return f"{ms // size}{unit}"


_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1000}


def _without_deadline(found: Standing, name: str, source: str) -> str:
    if source == "client":
        return f"take {name} out of the options of WEBHOOK_DATABASE_URL, or out of PGOPTIONS"
    return f"ALTER ROLE {_quoted(found.role)} IN DATABASE {_quoted(found.database)} SET {name} = 0"


def _quoted(name: str) -> str:
    return f'"{name.replace(chr(34), chr(34) * 2)}"'


def judged_connections(found: Standing, needed: int) -> Finding:
    """Judges whether as many connections are left as the service needs; those that it has now are not told apart."""
    if found.route.pooling is not Pooling.NONE:
        return Finding("connections", "ok", f"{needed} needed; the pooler says how many it takes")
    left = {who: limit - found.open_count[who] for who, limit in found.limits.items() if limit >= 0}
    detail = ", ".join(f"{count} of {found.limits[who]} left of {who}" for who, count in left.items())
    detail = f"{needed} needed; {detail or 'no limit'}"
    if impossible := [who for who in left if found.limits[who] < needed]:
        remedy = f"raise the limit of {impossible[0]}, or lower WEBHOOK_DATABASE_POOL_SIZE"
        return Finding("connections", "problem", detail, remedy)
    if any(count < needed for count in left.values()):
        return Finding(
            "connections", "warning", detail, "nothing, if it is the service that has them; else raise the limit"
        )
    return Finding("connections", "ok", detail)


def judged_role(found: RoleStanding) -> Finding:
    """Judges what the role of the service may do: what it needs, and better not much more."""
    quoted = _quoted(found.name)
    if not found.exists:
        detail = f"there is no role {found.name}"
        return Finding("role", "problem", detail, "make it as docs/operations.md says under Two roles")
    if not found.may_log_in:
        return Finding("role", "problem", f"{found.name} may not log in", f"ALTER ROLE {quoted} LOGIN")
    if found.lacking:
        detail = f"{found.name} may not do all that the service does: {_named(found.lacking)}"
        return Finding("role", "problem", detail, f"as the owner of the tables: {'; '.join(_grants(found, quoted))}")
    if found.is_superuser:
        detail = f"{found.name} is a superuser"
        return Finding("role", "warning", detail, "give the service a role of its own: docs/operations.md, Two roles")
    whose = "owns the tables" if found.is_owner else "reads and writes rows, and can change no table"
    return Finding("role", "ok", f"{found.name} {whose}")


def judged_statistics(tables: Sequence[Counted], *, counts_by_itself: bool) -> Finding:
    """Judges whether Postgres knows about how many rows our tables have: else it plans statements for others."""
    wrong = {table.name: words for table in tables if (words := _what_is_wrong(table))}
    if not wrong:
        return Finding("statistics", "ok", f"of {len(tables)} tables, none is far from what Postgres believes")
    names = list(wrong)
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    detail = ", ".join(f"{name} {words}" for name, words in list(wrong.items())[:_SHOWN_MAX])
    by_itself = "" if counts_by_itself else ", and set autovacuum and track_counts to on"
    return Finding("statistics", "warning", f"{detail}{more}", f"as their owner: ANALYZE {', '.join(names)}{by_itself}")


def _what_is_wrong(table: Counted) -> str:
    """Returns nothing of a table that is small, or that Postgres knows well enough."""
    is_large = table.pages_now >= _PAGES_OFF
    if table.rows < 0 or (table.rows and not table.has_values):
        return "was never analysed" if is_large else ""
    least, most = sorted((table.rows_believed, table.rows_seen))
    is_off = (most + _ROWS_OFF) / (least + _ROWS_OFF) >= _TIMES_OFF
    if table.is_queue or not table.is_seen_whole or not is_off:
        return ""
    return f"is believed to have {table.rows_believed:,.0f} rows and has about {table.rows_seen:,}"


def _named(lacking: Sequence[Right]) -> str:
    """Returns what is lacked, the first of it by name."""
    words = [f"{', '.join(privileges)} on {name}" for (_, name), privileges in _by_object(lacking).items()]
    more = f" and on {len(words) - _SHOWN_MAX} more" if len(words) > _SHOWN_MAX else ""
    return f"{', '.join(words[:_SHOWN_MAX])}{more}"


def _grants(found: RoleStanding, role: str) -> Iterator[str]:
    """Yields the statements after which nothing is lacked: one for objects of a kind that need the same."""
    names = defaultdict[tuple[str, tuple[str, ...]], list[str]](list)
    for (kind, name), privileges in _by_object(found.lacking).items():
        names[kind, tuple(privileges)].append(name)
    for (kind, privileges), objects in names.items():
        yield f"GRANT {', '.join(privileges)} ON {kind} {', '.join(objects)} TO {role}"


def _by_object(lacking: Sequence[Right]) -> Mapping[tuple[str, str], Sequence[str]]:
    """Returns the privileges that are lacked on each object, by its kind and name."""
    found = defaultdict[tuple[str, str], list[str]](list)
    for right in lacking:
        found[right.kind, right.name].append(right.privilege)
    return found
