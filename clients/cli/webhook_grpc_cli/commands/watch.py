"""`watch`: prints each delivery after each change, live; goes on after interruptions by itself."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.kinds import FILE, SECONDS
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.signals import ENDS, heard, interrupts_once
from webhook_grpc_cli.values import json_text, known_words, time_text
from webhook_grpc_cli.watching.lines import DELIVERY, Widths, is_problem, line
from webhook_grpc_cli.watching.names import WebhookNames
from webhook_grpc_cli.watching.observing import ObservedStream
from webhook_grpc_cli.watching.status import Status
from webhook_grpc_client import Watcher
from webhook_grpc_client.connecting import Token

from .options import filters, since_option

_HEARTBEAT_SECONDS_MAX: Final = 60.0
_STATUSES: Final = known_words(delivery_pb2.DeliveryStatus)


@click.command(
    "watch",
    cls=Command,
    examples=[
        "webhook-grpc watch -c 42 -t 'job.*' --since 5m -n 1",
        "webhook-grpc watch -c 42 --since 1h -n 1 --cursor-file billing.cursor -o json",
    ],
)
@filters("webhook_ids", "event_types", "statuses", "event_id", statuses=_STATUSES)
@since_option(otherwise="from now on")
@click.option("--snapshot", is_flag=True, help="First what is pending; also after a gap that the log cannot fill.")
@click.option(
    "--cursor-file", type=FILE, metavar="F", help="Where the next run goes on; written while it runs, and at the end."
)
@click.option("--with-cursor", is_flag=True, help="With -o json: the cursor after each message.")
@click.option("--problems", is_flag=True, help="Only failed attempts, and endings without success.")
@click.option("-n", "count", type=click.IntRange(1), metavar="N", help="End after so many.")
@click.option("--heartbeat", type=SECONDS, default=15.0, metavar="15s", help="Of an idle stream; three missed: again.")
@with_session
def watch(session: Session, **options: Any) -> None:
    """Print each delivery after each change, live. Goes on after interruptions without a gap.

    One line for each attempt, ending or restart. Ctrl-C ends it; with --cursor-file the same command goes on there.
    """
    if not 1 <= options["heartbeat"] <= _HEARTBEAT_SECONDS_MAX:
        raise UsageFailure("--heartbeat is 1s to 60s")
    if options["since"] and options["snapshot"]:
        raise UsageFailure("one start: --since or --snapshot")
    path = Path(options["cursor_file"]) if options["cursor_file"] else None
    if path is not None and path.exists() and options["since"]:
        raise UsageFailure(f"{path} says where to go on, so --since would leave changes out", remedy=f"rm {path}")
    if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageFailure(f"{path}: nothing can be written into {path.parent}")
    if options["with_cursor"] and session.form != "json":
        raise UsageFailure("--with-cursor needs -o json")
    session.printer.check(DELIVERY)
    _run(session, path, options)


def _run(session: Session, path: Path | None, options: dict[str, Any]) -> None:
    status = Status(
        session.talk,
        session.place.address,
        ",".join(options["event_types"]),
        path,
        is_quiet=session.is_quiet,
        goes_on_after_gap=options["snapshot"],
    )
    listener = _WithCursor(status) if options["with_cursor"] else status
    stream = ObservedStream(session.stub.WatchDeliveries, options["heartbeat"], listener)
    watcher = Watcher(stream, Token(*session.place.token()), _fields(session, path, options))
    thread = status.keep(stream)
    try:
        with heard(interrupts_once(), *ENDS), watcher:  # leaving it saves the cursor
            _print_all(watcher, stream, _printing(session, status), options)
    finally:
        status.end()
        thread.join()


def _fields(session: Session, path: Path | None, options: dict[str, Any]) -> Any:
    names = ("webhook_ids", "event_types", "statuses", "event_id")
    fields: dict[str, Any] = {name: options[name] for name in names if options[name]}
    since: datetime | None = options["since"]
    return {
        "customer_id": session.place.customer_id,
        **fields,
        **({"start_time": since} if since else {}),
        **({"snapshot": True, "on_gap": "snapshot"} if options["snapshot"] else {}),
        **({"cursor_file": path} if path is not None else {}),
    }


def _print_all(
    watcher: Watcher,
    stream: ObservedStream,
    print_one: Callable[[delivery_pb2.Delivery], None],
    options: dict[str, Any],
) -> None:
    """Prints until the end. With cursors that is the end of a message: a cursor stands between messages only."""
    printed, count, has_cursor = 0, options["count"], options["cursor_file"] or options["with_cursor"]
    for delivery in watcher:
        stream.left -= 1
        if not options["problems"] or is_problem(delivery):
            print_one(delivery)
            printed += 1
        if count and printed >= count and not (has_cursor and stream.left):
            stream.stop_after_message()
            watcher.close()
            next(watcher, None)  # moves the cursor behind the message, and saves it
            return


def _printing(session: Session, status: Status) -> Callable[[delivery_pb2.Delivery], None]:
    if not session.printer.has_own_lines:

        def print_value(delivery: delivery_pb2.Delivery) -> None:
            status.write(sys.stdout, session.printer.streamed(DELIVERY, delivery))

        return print_value
    names, widths = WebhookNames(session), Widths()

    def print_line(delivery: delivery_pb2.Delivery) -> None:
        name = names.of(delivery.customer_id, delivery.webhook_id)
        status.write(sys.stdout, line(delivery, name, session.look, widths))

    return print_line


class _WithCursor:
    """Prints the cursor of each message when its deliveries are printed."""

    def __init__(self, status: Status) -> None:
        self.received, self.lost = status.received, status.lost
        self._write = status.write

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Prints the cursor; a snapshot has none until its end."""
        if message.cursor:
            cursor = base64.b64encode(message.cursor).decode("ascii")
            self._write(sys.stdout, json_text({"cursor": cursor, "server_time": time_text(message.server_time)}))
