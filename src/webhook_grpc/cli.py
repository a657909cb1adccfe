"""The service's own command line (serve, migrate, keys, tokens …); clients/cli has the one that calls a service.

Every expected failure is one sentence and a non-zero exit status; a line that is wrong is status 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import orjson

from webhook_grpc.commands.examples import HELP_NAMES, examples
from webhook_grpc.commands.keys import keys_group, print_new_key
from webhook_grpc.commands.planning import plan_json, plan_lines
from webhook_grpc.commands.resealing import KeysFailed
from webhook_grpc.commands.settings import settings_command
from webhook_grpc.commands.token_places import TokensFailed
from webhook_grpc.commands.tokens import tokens_group
from webhook_grpc.commands.usage import Program
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.record import record
from webhook_grpc.parent.addresses import AddressTaken
from webhook_grpc.parent.cores import usable_cores
from webhook_grpc.process.banner import Ports, banner, programs_beside
from webhook_grpc.process.credentials import load_secret_keys
from webhook_grpc.process.embedded_watch import EmbeddedWatch
from webhook_grpc.process.family.siblings import ParentGone, Siblings
from webhook_grpc.process.log.logs import configure_logging
from webhook_grpc.process.machine.garbage import pause_collection, resume_collection
from webhook_grpc.process.orphans import Orphans
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.process.stopping import StopSignals
from webhook_grpc.store.connection.conninfo import BadConninfo, checked
from webhook_grpc.store.connection.failures import sentence_of
from webhook_grpc.store.connection.opening import DatabaseUnreachable
from webhook_grpc.store.connection.placing import Place
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.db import TooFewConnections
from webhook_grpc.store.schema.embedded import EmbeddedPostgres, EmbeddedPostgresError
from webhook_grpc.store.schema.migrate import SchemaError, check_schema, migrate, plan

from . import __version__
from .settings import (
    DatabaseSettings,
    Settings,
    SettingsError,
    load_database_settings,
    load_settings,
    unknown_variables,
)

_SAY_SECONDS_MAX: Final = 0.1  # the event loop waits for the first lines on stdout


@click.group(
    cls=Program, context_settings=HELP_NAMES, epilog=examples("webhook-grpc serve", "webhook-grpc migrate --help")
)
@click.version_option(__version__, prog_name="webhook-grpc")
def main() -> None:
    """Webhook delivery: events in over gRPC, signed POSTs out, every result watched live.

    Settings come from environment variables that start with WEBHOOK_; `webhook-grpc settings` lists them.
    """
    _open_closed_streams()


@main.command(
    epilog=examples(
        "webhook-grpc serve",
        "WEBHOOK_DATABASE_URL=postgresql://db.internal/webhooks webhook-grpc serve --processes auto",
    )
)
@click.option(
    "--processes", metavar="N|auto", help="How many processes share the addresses and the work; WEBHOOK_PROCESSES."
)
@click.option("--as-child-of", "descriptor", type=int, hidden=True)
def serve(processes: str | None, descriptor: int | None) -> None:
    """Run the service in the foreground until SIGTERM, SIGHUP or Ctrl-C, which drain it."""
    signals, manager = StopSignals(), ServiceManager.taken_from(os.environ)
    with signals as stop, Orphans(), _explained_failures():
        if descriptor is not None:
            _run_as_child(descriptor, signals)
            return
        _warn_of_unknown_variables()
        settings = load_settings(**({"processes": processes} if processes else {}))
        _check_tls_files(settings)
        if settings.plain_text_warning is not None:
            _say(f"webhook-grpc: warning: {settings.plain_text_warning}", err=True)
        count = usable_cores() if settings.processes == "auto" else settings.processes
        try:
            (_run_alone if count == 1 else partial(_run_as_parent, count))(settings, signals, manager)
        except EmbeddedPostgresError:
            if not stop.is_requested:  # Ctrl-C reaches initdb, too
                raise


def _check_tls_files(settings: Settings) -> None:
    """Raises SettingsError if they can't be used: before a database is started, and children are."""
    if settings.has_tls:
        from webhook_grpc.server.certificates import certificates_of

        certificates_of(settings)


def _open_closed_streams() -> None:
    """Opens /dev/null for those of stdin, stdout and stderr that are closed.

    Otherwise the next socket that is opened takes their number, and log lines are written into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one


def _say(text: str, *, err: bool = False) -> None:
    """Prints lines that the service can do without: whoever reads stdout or stderr may be away, and the disk full.

    Waits a moment at most, for nobody may read the pipe. Past Python's buffers, which would be flushed once more at the
    end of the process.
    """
    stream, data = sys.stderr if err else sys.stdout, f"{text}\n".encode("utf-8", "backslashreplace")
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):  # closed, or not of this process: tests read what is said
        click.echo(text, err=err)
        return
    writing = threading.Thread(target=_write, args=(descriptor, data), name="say", daemon=True)
    writing.start()
    writing.join(_SAY_SECONDS_MAX)


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]


def _warn_of_unknown_variables() -> None:
    for name in unknown_variables(os.environ):
        _say(f"webhook-grpc: warning: {name} is not a setting", err=True)


def _run_alone(settings: Settings, signals: StopSignals, manager: ServiceManager) -> None:
    with contextlib.closing(configure_logging(settings)) as sink, _database(settings) as (conninfo, is_embedded):
        keys = load_secret_keys(settings, is_embedded)
        announce = _announcing(settings, is_embedded, manager)

        def on_ready(ports: Ports) -> None:
            resume_collection()
            announce(ports)

        _run(_Process(settings, conninfo, keys, signals, on_ready, lambda: sink.dropped_total, manager))


def _run_as_child(descriptor: int, signals: StopSignals) -> None:
    """Runs one of several processes, as its parent says."""
    try:
        siblings = Siblings(socket.socket(fileno=descriptor), signals.stop, signals.reload)
    except ParentGone:
        return
    settings = load_settings(**siblings.assignment.settings)
    with contextlib.closing(configure_logging(settings, str(siblings.assignment.number))) as sink:

        def on_ready(ports: Ports) -> None:
            resume_collection()
            siblings.report_ready(ports.grpc, ports.http)

        keys = load_secret_keys(settings, embedded=False)
        conninfo = checked(settings.database_url.get_secret_value() if settings.database_url else "")
        manager = ServiceManager()  # only the parent answers to it
        _run(_Process(settings, conninfo, keys, signals, on_ready, lambda: sink.dropped_total, manager, siblings))


def _run_as_parent(count: int, settings: Settings, signals: StopSignals, manager: ServiceManager) -> None:
    """Runs several processes, and ends with their exit status. Imports neither gRPC nor the service."""
    from webhook_grpc.parent.running import run_parent

    with contextlib.closing(configure_logging(settings, "parent")), _database(settings) as (conninfo, is_embedded):
        keys = load_secret_keys(settings, is_embedded)
        announce = _announcing(settings, is_embedded, manager, count)
        resume_collection()
        running = run_parent(settings, count, conninfo, keys, signals.stop, signals.reload, manager, announce)
        try:
            status = asyncio.run(running)
        except AddressTaken as error:
            raise _Failure(str(error)) from error
    if status:
        sys.exit(status)


@record
class _Process:
    settings: Settings
    conninfo: str
    secret_keys: Iterable[bytes]
    signals: StopSignals
    on_ready: Callable[[Ports], None]
    dropped_lines: Callable[[], int]
    manager: ServiceManager
    siblings: Siblings | None = None


def _run(process: _Process) -> None:
    pause_collection()
    # imported late: the other commands need no event loop
    import uvloop

    from webhook_grpc.engine.receivers.keys import KeysMissing
    from webhook_grpc.server.grpc.listening import AddressInUse
    from webhook_grpc.server.http.address.listening import HttpAddressInUse

    from .app import LoopEnded
    from .app import serve as serve_forever

    _allow_many_descriptors()
    try:
        uvloop.run(
            serve_forever(
                process.settings,
                process.conninfo,
                process.secret_keys,
                process.dropped_lines,
                process.signals,
                process.manager,
                process.on_ready,
                process.siblings,
            )
        )
    except (AddressInUse, HttpAddressInUse, KeysMissing, LoopEnded) as error:
        raise _Failure(str(error)) from error


def _allow_many_descriptors() -> None:
    """Each request in flight and each kept connection takes one; the usual soft limit is far below the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _announcing(
    settings: Settings, is_embedded: bool, manager: ServiceManager, processes: int = 1
) -> Callable[[Ports], None]:
    """Returns what says on stdout, and to the service manager, that the service is ready."""

    def announce(ports: Ports) -> None:
        database = f"embedded Postgres in {settings.data_dir}" if is_embedded else "WEBHOOK_DATABASE_URL"
        _say(banner(settings, ports, database, programs_beside(Path(sys.executable)), processes))
        manager.ready()

    return announce


@main.command("migrate", epilog=examples("webhook-grpc migrate --before-deployment", "webhook-grpc migrate"))
@click.option(
    "--before-deployment", is_flag=True, help="Leave out what must wait until no process of the old version runs."
)
@click.option("--after-deployment", is_flag=True, help="Wait until no process of the old version runs, 10 minutes.")
@click.option(
    "--plan", "is_plan", is_flag=True, help="Say what would run, what it locks and for how long; change nothing."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How --plan is printed; json: one object a line.",
)
def migrate_command(before_deployment: bool, after_deployment: bool, is_plan: bool, output: str) -> None:
    """Bring the database's schema up to date. Safe to repeat, and to run from several places at once."""
    if before_deployment and after_deployment:
        raise click.UsageError("--before-deployment and --after-deployment are two steps of an upgrade")
    with _explained_failures():
        settings = load_database_settings()
    schema = settings.database_schema
    with _explained_failures(), _database(settings, migrate_embedded=False) as (conninfo, _):
        if is_plan:
            steps = plan(conninfo, schema=schema, before_deployment=before_deployment)
            for line in (plan_json if output == "json" else plan_lines)(steps):
                click.echo(line)
            return
        names = migrate(
            conninfo,
            schema=schema,
            before_deployment=before_deployment,
            after_deployment=after_deployment,
            say=lambda words: _say(words, err=True),
        )
        click.echo("\n".join(f"applied {name}" for name in names) or "nothing to do")


@main.command("secret-key", epilog=examples("webhook-grpc secret-key", "webhook-grpc keys new"))
def secret_key() -> None:
    """Print a new key: the name of `keys new` in versions before."""
    print_new_key()


@main.command(
    epilog=examples(
        "webhook-grpc token --name ops",
        "webhook-grpc token --name ci --customer-id 42 --permission publish --permission read",
    )
)
@click.option("--name", required=True, help="Who uses it; stands in the log.")
@click.option("--customer-id", type=click.IntRange(1, 2**63 - 1), help="The only customer it is for; default all.")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    type=click.Choice(["read", "publish", "manage", "admin"]),
    help="May be repeated; default read, publish and manage.",
)
def token(name: str, customer_id: int | None, permissions: tuple[str, ...]) -> None:
    """Make a token: prints it once, and the setting that admits it, for `export` or for compose's .env.

    `serve` reads its environment, and no file but those that settings name.

    The setting is one list: the entries of several tokens stand in it, separated by commas.
    """
    from webhook_grpc.domain.tokens import token_hash

    secret = "whk_" + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"name": name, "sha256": token_hash(secret)}
    if customer_id is not None:
        entry["customer_id"] = customer_id
    if permissions:
        entry["permissions"] = list(permissions)
    click.echo(f"token: {secret}")
    click.echo(f"WEBHOOK_TOKENS='[{orjson.dumps(entry).decode()}]'")


@contextmanager
def _token_database() -> Generator[Place]:
    settings = load_database_settings()
    with _database(settings, migrate_embedded=False) as (conninfo, _):
        yield check_schema(conninfo, Pooling(settings.database_pooler), settings.database_schema)


@contextmanager
def _keys_and_database() -> Generator[tuple[Place, Sequence[bytes]]]:
    settings = load_settings()
    with _database(settings, migrate_embedded=False) as (conninfo, is_embedded):
        place = check_schema(conninfo, Pooling(settings.database_pooler), settings.database_schema)
        yield place, load_secret_keys(settings, is_embedded)


class _Failure(Exception):
    """Something that a person can fix, in one sentence."""


@contextmanager
def _explained_failures() -> Generator[None]:
    """Prints one sentence instead of a traceback for everything that a person can fix."""
    try:
        yield
    except (
        _Failure,
        SettingsError,
        BadConninfo,
        SchemaError,
        DatabaseUnreachable,
        TooFewConnections,
        UnsuitableServer,
        EmbeddedPostgresError,
        KeysFailed,
        TokensFailed,
    ) as error:
        _say(f"webhook-grpc: {error}", err=True)
        sys.exit(1)
    except Unavailable as error:
        _say(f"webhook-grpc: {sentence_of(error)}", err=True)
        sys.exit(1)
    except asyncio.CancelledError:
        sys.exit(1)


@contextmanager
def _database(settings: DatabaseSettings, migrate_embedded: bool = True) -> Generator[tuple[str, bool]]:
    """Returns the connection string, and whether it is the embedded database, which `serve` migrates by itself."""
    if settings.database_url is not None:
        yield checked(settings.database_url.get_secret_value()), False
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    conninfo = embedded.start()
    try:
        if migrate_embedded:
            migrate(
                conninfo,
                schema=settings.database_schema,
                is_alone=embedded.is_alone(),
                say=lambda words: _say(words, err=True),
            )
        with EmbeddedWatch(embedded) if migrate_embedded else contextlib.nullcontext():
            yield conninfo, True
    finally:
        embedded.stop()


main.add_command(keys_group(_explained_failures, _keys_and_database))
main.add_command(tokens_group(_explained_failures, _token_database))
main.add_command(settings_command(_explained_failures))
