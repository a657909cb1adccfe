"""`replays`: send what is in the log again, once it is known how much that is."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import click
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2

from webhook_grpc_cli.completing import replay_ids
from webhook_grpc_cli.failures import ANSWER_IS_NO
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.kinds import ID
from webhook_grpc_cli.names import Names
from webhook_grpc_cli.output.things import REPLAYS
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.values import enum_number, known_words, timestamp

from .options import filters, limited, waiting, windowed

_STATUSES: Final = known_words(delivery_pb2.DeliveryStatus)
_OF_REPLAYS: Final = known_words(replay_pb2.ReplayStatus)
LOOK_SECONDS: Final = 1.0  # between two looks at a replay that is waited for
_RUNNING: Final = replay_pb2.REPLAY_STATUS_RUNNING


@group("replays")
def replays() -> None:
    """Send again what is in the log."""


@replays.command(
    "create",
    examples=[
        "webhook-grpc replays create --since 2h --status failed,cancelled --dry-run",
        "webhook-grpc replays create --since 2h --webhook-id 12 --include-undelivered -y --wait",
    ],
)
@filters("webhook_ids", "event_types", "statuses", statuses=_STATUSES)
@windowed(is_required=True)
@click.option("--include-undelivered", is_flag=True, help="Also to webhooks to which an event never went.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("-r", "--request-id", help="Makes the call safe to repeat; one is made.")
@waiting
@with_session
def create(session: Session, since: datetime, until: datetime | None, **given: Any) -> None:
    """Count what would be sent again, ask, and send it: one attempt each, paced below live traffic."""
    replay = replay_pb2.Replay(
        customer_id=session.place.customer_id,
        webhook_ids=given["webhook_ids"],
        event_types=given["event_types"],
        statuses=[enum_number(delivery_pb2.DeliveryStatus, word) for word in given["statuses"]],
        include_undelivered=given["include_undelivered"],
        start_time=timestamp(since),
    )
    if until is not None:
        replay.end_time.CopyFrom(timestamp(until))
    if given["dry_run"]:
        session.printer.one(REPLAYS, _counted(session, replay))
    else:
        run_replay(session, replay, given["request_id"], given["wait"])


def run_replay(
    session: Session, replay: replay_pb2.Replay, request_id: str | None = None, wait: float | None = None
) -> None:
    """Counts, asks, and starts a replay if there is anything to send; waits for its end for so many seconds."""
    counted = _counted(session, replay)
    if not counted.delivery_count:
        return
    session.confirm("One attempt each, paced below live traffic. Start?")
    request = service_pb2.CreateReplayRequest(replay=replay, request_id=request_id or uuid4().hex)
    made = session.call(session.stub.CreateReplay, request, may_repeat=True)
    if wait is not None:
        made = _waited(session, made, wait, counted.delivery_count)
    session.printer.one(REPLAYS, made)
    _end(made, is_waited=wait is not None)


def _counted(session: Session, replay: replay_pb2.Replay) -> replay_pb2.Replay:
    """Returns the replay as it would be, and says so."""
    request = service_pb2.CreateReplayRequest(replay=replay, dry_run=True)
    with session.busy("Counting … "):
        counted = session.call(session.stub.CreateReplay, request, may_repeat=True)
    is_whole = not counted.HasField("progress_time") or (
        counted.progress_time.ToNanoseconds() >= counted.end_time.ToNanoseconds()
    )
    count = counted.delivery_count
    words = f"would send {count:,} {'delivery' if count == 1 else 'deliveries'}"
    if replay.webhook_ids:  # else nobody says which
        words += f" to {', '.join(map(Names(session), replay.webhook_ids))}"
    at_least = (
        "" if is_whole else f"at least, counted up to {session.look.clock(counted.progress_time.ToDatetime(UTC))}"
    )
    session.say(f"{words} {at_least}".strip())
    return counted


def _waited(session: Session, replay: replay_pb2.Replay, seconds: float, counted: int) -> replay_pb2.Replay:
    """Looks at a replay until it has ended or the time is over. Ctrl-C leaves it running."""
    until, pause = time.monotonic() + seconds, threading.Event()
    hint = "Ctrl-C leaves it running" if session.talk.is_terminal else ""
    try:
        with session.progress(max(counted, replay.delivery_count) or None) as progress:
            while (replay.status == _RUNNING or replay.pending_count) and time.monotonic() < until:
                done, total = replay.delivery_count - replay.pending_count, max(counted, replay.delivery_count)
                progress.show(done, _words(replay), _looked_at(session, replay), hint, total=total)
                pause.wait(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))  # no signal says that it has moved on
                request = service_pb2.GetReplayRequest(replay_id=replay.replay_id)
                replay = session.call(session.stub.GetReplay, request, may_repeat=True)
    except KeyboardInterrupt:
        session.say(f"it goes on; to follow it: webhook-grpc replays get {replay.replay_id} --wait")
        raise
    return replay


def _looked_at(session: Session, replay: replay_pb2.Replay) -> str:
    """Returns how far it has gone through its window, empty if it is at the end."""
    if not replay.HasField("progress_time") or replay.progress_time.ToNanoseconds() >= replay.end_time.ToNanoseconds():
        return ""
    return f"looked at up to {session.talk.clock(replay.progress_time.ToDatetime(UTC)).rpartition('.')[0]}"


def _words(replay: replay_pb2.Replay) -> str:
    return (
        f"Replay {replay.replay_id} · ✓ {replay.succeeded_count:,} ✕ {replay.failed_count:,} "
        f"⊘ {replay.cancelled_count:,} skipped {replay.skipped_count:,} waiting {replay.pending_count:,}"
    )


def _end(replay: replay_pb2.Replay, *, is_waited: bool) -> None:
    is_done = replay.status == replay_pb2.REPLAY_STATUS_COMPLETED and not replay.pending_count
    if is_waited and (not is_done or replay.failed_count):
        raise click.exceptions.Exit(ANSWER_IS_NO)


@replays.command("list", examples=["webhook-grpc replays list", "webhook-grpc replays list --status running -o id"])
@filters("statuses", statuses=_OF_REPLAYS)
@limited
@with_session
def list_replays(session: Session, statuses: tuple[str, ...], limit: int, is_all: bool) -> None:
    """List replays, newest first."""
    numbers = [enum_number(replay_pb2.ReplayStatus, word) for word in statuses]
    request = service_pb2.ListReplaysRequest(statuses=numbers)
    session.print_list(REPLAYS, session.listed(session.stub.ListReplays, request, "replays"), None if is_all else limit)


replay_id = click.argument("replay_id", type=ID, metavar="ID", shell_complete=replay_ids)


@replays.command("get", examples=["webhook-grpc replays get 7", "webhook-grpc replays get 7 --wait 5s"])
@replay_id
@waiting
@with_session
def get(session: Session, replay_id: int, wait: float | None) -> None:
    """Show how far a replay is; --wait follows it to its end."""
    request = service_pb2.GetReplayRequest(replay_id=replay_id)
    replay = session.call(session.stub.GetReplay, request, may_repeat=True)
    if wait is not None:
        replay = _waited(session, replay, wait, 0)
    session.printer.one(REPLAYS, replay)
    _end(replay, is_waited=wait is not None)


@replays.command("cancel", examples=["webhook-grpc replays cancel 7 -y", "webhook-grpc replays cancel 7 -y -o json"])
@replay_id
@with_session
def cancel(session: Session, replay_id: int) -> None:
    """Stop a replay, and give up what of it is pending."""
    session.confirm(f"cancel replay {replay_id}?")
    request = service_pb2.CancelReplayRequest(replay_id=replay_id)
    session.printer.one(REPLAYS, session.call(session.stub.CancelReplay, request))
