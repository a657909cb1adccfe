"""What `webhook-grpc doctor --server` finds: the checks of a start, one after another, with nothing changed."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import Final

from webhook_grpc.app import descriptors_needed
from webhook_grpc.domain.access import PERMISSIONS_OF_ROLES, Caller
from webhook_grpc.domain.errors import Unauthenticated, Unavailable
from webhook_grpc.domain.sealing import Sealer, key_id_text
from webhook_grpc.domain.tokens import StoredToken
from webhook_grpc.hub.connections import Connections
from webhook_grpc.parent.cores import usable_cores
from webhook_grpc.process.credentials import load_secret_keys, load_tokens
from webhook_grpc.server.auth import Authenticator
from webhook_grpc.server.certificates import certificates_of
from webhook_grpc.settings import Settings, SettingsError, load_settings, unknown_variables
from webhook_grpc.store.clock import database_time
from webhook_grpc.store.connection.conninfo import BadConninfo, checked
from webhook_grpc.store.connection.opening import DatabaseUnreachable
from webhook_grpc.store.connection.placing import Place
from webhook_grpc.store.connection.server_checks import UnsuitableServer, durability_warnings, server_version
from webhook_grpc.store.connection.server_facts import look, look_at_role, look_at_statistics
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.db import Database, TooFewConnections
from webhook_grpc.store.registry import tokens as stored_tokens
from webhook_grpc.store.schema.embedded import EmbeddedPostgres, EmbeddedPostgresError
from webhook_grpc.store.schema.migrate import SchemaError, check_schema

from .database import run_in_database
from .findings import Finding
from .postgres import CHECKS as OF_SERVER
from .postgres import judged, judged_role, judged_statistics
from .resealing import KeyUse, uses_of_keys

_PROXY_SECONDS_MAX: Final = 5.0
_TO_READ: Final = frozenset({("SCHEMA", "USAGE"), ("TABLE", "SELECT")})
_CLOCK_SECONDS_FINE: Final = 5.0
_SHOWN_MAX: Final = 5  # customers of a token
_AFTER_SCHEMA: Final = ("role", "statistics", "caller", "secret keys")
_AFTER_DATABASE: Final = (*OF_SERVER, "schema", *_AFTER_SCHEMA)
_AFTER_SETTINGS: Final = ("tokens", "TLS", "egress", "file limit", "database", *_AFTER_DATABASE)
_PERMISSIONS: Final = ("read", "publish", "manage", "admin")


def findings(token: str = "", role: str | None = None) -> Iterator[Finding]:
    """Yields what each check of this environment has found, as soon as it is known.

    `token`: of whoever looks, empty for none; one check says whose it is. `role`: that of the service, if it is another
    one than connects here.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding("settings", "problem", str(error), "`webhook-grpc settings` lists all settings")
        yield from (Finding(check, "skipped", "not checked: the settings are wrong") for check in _AFTER_SETTINGS)
        return
    yield _settings(settings)
    yield _tried("tokens", partial(_tokens, settings))
    yield _tried("TLS", partial(_tls, settings))
    yield _egress(settings)
    yield judged_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1], descriptors_needed(settings))
    yield from _of_database(settings, token, role)


def _settings(settings: Settings) -> Finding:
    if unknown := unknown_variables(os.environ):
        return Finding("settings", "warning", f"no settings: {', '.join(unknown)}", "`webhook-grpc settings` lists all")
    if settings.plain_text_warning is not None:
        return Finding("settings", "warning", settings.plain_text_warning)
    names = settings.model_fields_set
    return Finding("settings", "ok", f"{len(names)} are set, the others have their defaults")


def _tried(check: str, judge: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", judge())
    except SettingsError as error:
        return Finding(check, "problem", str(error))


def _tokens(settings: Settings) -> str:
    count = len(load_tokens(settings))
    return f"{count} in the settings" if count else "none in the settings"


def _tls(settings: Settings) -> str:
    return "none: plain text" if certificates_of(settings) is None else "the certificate and its key can be used"


def _egress(settings: Settings) -> Finding:
    allowed = [str(network) for network in settings.egress_allow_cidrs] + list(settings.egress_allow_hosts)
    words = f"also to {', '.join(allowed)}" if allowed else "not to loopback and private networks"
    detail = f"{words}; {'http and https' if settings.egress_allow_http else 'https only'}"
    if (proxy := settings.egress_proxy) is None:
        return Finding("egress", "ok", detail)
    place, started = f"{proxy.host}:{proxy.port}", time.monotonic()
    try:
        socket.create_connection((proxy.host, proxy.port), timeout=_PROXY_SECONDS_MAX).close()
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Finding("egress", "problem", f"the proxy {place}: {why}", "see WEBHOOK_EGRESS_PROXY_URL")
    return Finding("egress", "ok", f"{detail}; the proxy {place} answers in {_milliseconds(started)}")


def judged_limit(limit: int, needed: int) -> Finding:
    """Judges how many file descriptors a process that is started here may have: `serve` takes the hard limit."""
    if limit == resource.RLIM_INFINITY:
        return Finding("file limit", "ok", f"no limit, {needed:,} descriptors needed")
    detail = f"{limit:,} descriptors, {needed:,} needed"
    if limit >= needed:
        return Finding("file limit", "ok", detail)
    remedy = f"ulimit -Hn {needed}, or LimitNOFILE={needed} of systemd; else gRPC and HTTP take fewer connections"
    return Finding("file limit", "warning", detail, remedy)


# --- the database -----------------------------------------------------------------------------------------------------


class _NotThere(Exception):
    """There is no database to look at yet, and a check makes none."""


def _of_database(settings: Settings, token: str, role: str | None) -> Iterator[Finding]:
    try:
        with _opened(settings) as conninfo:
            yield from _found_at(conninfo, settings, token, role)
    except _NotThere as error:
        yield Finding("database", "skipped", str(error))
        yield from _not_checked("no database", _AFTER_DATABASE)
    except (BadConninfo, DatabaseUnreachable, UnsuitableServer, EmbeddedPostgresError) as error:
        yield Finding("database", "problem", str(error))
        yield from _not_checked("no database", _AFTER_DATABASE)


def _found_at(conninfo: str, settings: Settings, token: str, role: str | None) -> Iterator[Finding]:
    """Yields what there is to say of a database that can be reached. Raises BadConninfo, DatabaseUnreachable."""
    pooling, standing = Pooling(settings.database_pooler), look(conninfo)
    of_server = list(judged(standing, pooling, _connections_needed(settings)))
    try:
        place = check_schema(conninfo, pooling, settings.database_schema)
        answered, *others = run_in_database(place, partial(_looked_at, settings, token, place, role))
    except SchemaError as error:
        yield Finding("database", "ok", "it answers")
        yield from of_server
        yield Finding("schema", "problem", str(error))
        yield from _not_checked("no schema", _AFTER_SCHEMA)
    except (UnsuitableServer, Unavailable, TooFewConnections) as error:
        yield Finding("database", "problem", error.message if isinstance(error, Unavailable) else str(error))
        yield from of_server
        yield from _not_checked("no database", ("schema", *_AFTER_SCHEMA))
    else:
        yield answered
        yield from of_server
        yield from others


def _connections_needed(settings: Settings) -> int:
    """Returns how many connections all processes open here at most."""
    count = usable_cores() if settings.processes == "auto" else settings.processes
    return count * (settings.database_pool_size + len(fields(Connections)))


def _not_checked(why: str, checks: Iterable[str]) -> Iterator[Finding]:
    yield from (Finding(check, "skipped", f"not checked: {why}") for check in checks)


@contextmanager
def _opened(settings: Settings) -> Generator[str]:
    """Returns the connection string. An embedded database is looked at only while the service runs it."""
    if settings.database_url is not None:
        yield checked(settings.database_url.get_secret_value())
        return
    if not (settings.data_dir / "postgres" / "postmaster.pid").exists():
        raise _NotThere("the embedded Postgres does not run: `webhook-grpc serve` starts it")
    embedded = EmbeddedPostgres(settings.data_dir)
    try:
        yield embedded.start()
    finally:
        embedded.stop()


async def _looked_at(
    settings: Settings, token: str, place: Place, role: str | None, database: Database
) -> list[Finding]:
    """Returns what there is to say of the database itself, and then of everything after the schema."""
    before, started = time.time(), time.monotonic()
    at = (await database_time(database)).timestamp()
    answered = f"Postgres {await server_version(database)}, answers in {_milliseconds(started)}"
    after = time.time()
    ahead = before - at if before > at else min(0.0, after - at)
    of_database = _standing(answered, [*await durability_warnings(database), *_clock_warnings(ahead)])
    own = await asyncio.to_thread(look_at_role, place.conninfo, place.schema)
    judged_one = own if role is None else await asyncio.to_thread(look_at_role, place.conninfo, place.schema, role)
    tables, counts_by_itself = await asyncio.to_thread(look_at_statistics, place.conninfo, place.schema)
    statistics = judged_statistics(tables, counts_by_itself=counts_by_itself)
    found = [of_database, judged_schema(place), judged_role(judged_one), statistics]
    if any((right.kind, right.privilege) in _TO_READ for right in own.lacking):
        return [*found, *_not_checked(f"{own.name} may not read all that is needed for it", ("caller", "secret keys"))]
    sealer = _sealer(settings)
    return [*found, await _caller(settings, token, sealer, database), await _keys(settings, sealer, database)]


def judged_schema(place: Place) -> Finding:
    """Judges a schema that this version works with: whether it is that of this version, and of an upgrade's end."""
    if place.newer:
        names = ", ".join(place.newer)
        return Finding("schema", "ok", f"{place.schema}: a newer version's, beside which this one works ({names})")
    if place.left:
        detail = f"{place.schema}: the upgrade to this version was not ended ({', '.join(place.left)})"
        remedy = "webhook-grpc migrate --after-deployment, once nobody wants to go back"
        return Finding("schema", "warning", detail, remedy)
    return Finding("schema", "ok", f"{place.schema}: that of this version")


def _clock_warnings(ahead: float) -> list[str]:
    if abs(ahead) <= _CLOCK_SECONDS_FINE:
        return []
    where = "behind" if ahead > 0 else "ahead of"
    return [f"its clock is {abs(ahead):.0f} s {where} this machine's: set up NTP on both"]


def _standing(answered: str, warnings: list[str]) -> Finding:
    if warnings:
        return Finding("database", "warning", f"{answered}; {'; '.join(warnings)}")
    return Finding("database", "ok", answered)


def _sealer(settings: Settings) -> Sealer | Finding:
    """Returns what opens what is sealed, or why nothing can be. Makes no key."""
    is_embedded = settings.database_url is None
    if is_embedded and not (settings.secret_keys or settings.secret_keys_file or _made_key(settings)):
        return Finding("secret keys", "skipped", "`webhook-grpc serve` makes the first one")
    try:
        return Sealer(load_secret_keys(settings, is_embedded))
    except SettingsError as error:
        return Finding("secret keys", "problem", str(error))


async def _keys(settings: Settings, sealer: Sealer | Finding, database: Database) -> Finding:
    if isinstance(sealer, Finding):
        return sealer
    return judged_keys(await uses_of_keys(database, sealer), settings.secret_keys_lost)


# --- whose token this is ----------------------------------------------------------------------------------------------


class _Looked:
    """The tokens of the database, as they are now. Notes no use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, token_id: int) -> StoredToken | None:
        """Returns a token; None if there is none of this id. Raises Unavailable."""
        return (await stored_tokens.by_ids(self._database, [token_id])).get(token_id)

    def used(self, token_id: int) -> None:
        """Notes nothing: to look is no use."""

    def holding(self, token_id: int | None, on_revoked: Callable[[], None]) -> AbstractContextManager[None]:
        """Does nothing: no call goes on."""
        del token_id, on_revoked
        return nullcontext()


async def _caller(settings: Settings, token: str, sealer: Sealer | Finding, database: Database) -> Finding:
    """Says whose token this is, as the service would find it."""
    try:
        given = load_tokens(settings)
    except SettingsError:  # the check of the tokens says so
        return Finding("caller", "skipped", "not checked: the tokens are wrong")
    if isinstance(sealer, Finding):
        return Finding("caller", "skipped", "not checked: no key for access tokens")
    if not (token or settings.anonymous_allowed):
        return Finding("caller", "skipped", "not checked: this shell has no token (WHK_TOKEN, or a profile)")
    authenticator = Authenticator(
        given,
        _Looked(database),
        sealer,
        anonymous_allowed=settings.anonymous_allowed,
        default_customer_id=settings.default_customer,
    )
    try:
        caller = await authenticator.authenticate([f"Bearer {token}"], datetime.now(UTC))
    except Unauthenticated as error:
        remedy = "is this the database, and are these the settings, of the service that is called?"
        return Finding("caller", "problem", error.message, remedy)
    return Finding("caller", "ok", caller_words(caller) if caller.has_token else "everybody: no token is needed")


def caller_words(caller: Caller) -> str:
    """Returns a token's id or name, whom it is for, and its role or what it may do."""
    role = next((role.value for role, may in PERMISSIONS_OF_ROLES.items() if may == caller.permissions), "")
    may = " ".join(permission for permission in _PERMISSIONS if permission in caller.permissions)
    whose = caller.customer_ids
    customers = "all customers" if whose is None else ", ".join(f"customer {one}" for one in sorted(whose)[:_SHOWN_MAX])
    more = "" if whose is None or len(whose) <= _SHOWN_MAX else f" and {len(whose) - _SHOWN_MAX} more"
    end = caller.token_expire_time
    until = f", until {end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if end else ""
    return f"{caller.name}, {customers}{more}, {f'role {role}: ' if role else ''}{may}{until}"


def _made_key(settings: Settings) -> bool:
    return (settings.data_dir / "secret.key").exists()


def judged_keys(uses: list[KeyUse], lost: tuple[str, ...]) -> Finding:
    """Judges the keys that are given or in use; `lost` are ids of keys that the operator knows to be lost."""
    missing = [use for use in uses if use.position is None and use.left and key_id_text(use.key_id) not in lost]
    if missing:
        counts = ", ".join(f"{use.left} with {key_id_text(use.key_id)}" for use in missing)
        remedy = "add it to WEBHOOK_SECRET_KEYS behind the first, then: webhook-grpc keys rotate"
        return Finding("secret keys", "problem", f"sealed with a key that is not configured: {counts}", remedy)
    older = [use for use in uses if use.left and use.position != 1]
    if older:
        detail = f"{sum(use.left for use in older)} sealed with older keys"
        return Finding("secret keys", "ok", f"{detail}: webhook-grpc keys rotate seals them with the first")
    first = next(use for use in uses if use.position == 1)
    return Finding(
        "secret keys",
        "ok",
        f"everything that is sealed, {first.left}, is sealed with the first: {key_id_text(first.key_id)}",
    )


def _milliseconds(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.0f} ms"
