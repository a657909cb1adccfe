"""`top`: what happens now, per webhook, shown again after each interval."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import click

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.kinds import SECONDS, numbers, split
from webhook_grpc_cli.output.printing import Printer, console_of
from webhook_grpc_cli.overview.figures import Figures
from webhook_grpc_cli.overview.following import Changes, Worker, keep_reading
from webhook_grpc_cli.overview.rows import heading, kind, rows
from webhook_grpc_cli.overview.tally import WEBHOOKS_MAX
from webhook_grpc_cli.session import Session, with_session

_INTERVAL_SECONDS: Final = (0.1, 3600.0)
_ROWS_MAX: Final = 50  # of a block in a pipe
_LINES_AROUND: Final = 4  # what a terminal shows beside the rows
Show = Callable[[str, Sequence[Mapping[str, Any]], datetime], None]


@click.command(
    "top",
    cls=Command,
    examples=["webhook-grpc top -n 1", "webhook-grpc top -t 'job.*' --interval 500ms -n 2 -o json"],
)
@click.option("--webhook-id", "webhook_ids", multiple=True, callback=numbers, metavar="N…", help="These webhooks.")
@click.option("-t", "--event-type", "event_types", multiple=True, callback=split, metavar="P…", help="Rates of these.")
@click.option("--interval", type=SECONDS, default=2.0, metavar="2s", help="How often it is shown.")
@click.option("-n", "rounds", type=click.IntRange(1), metavar="N", help="End after so many rounds.")
@with_session
def top(
    session: Session, webhook_ids: tuple[int, ...], event_types: tuple[str, ...], interval: float, rounds: int | None
) -> None:
    """Show what happens now, per webhook: those with the most trouble first. Ctrl-C ends it.

    Attempts per second are those of the last interval; success and p95 are of the last hour, read again each 10 s.
    On a terminal the table stays in its place; into a pipe a block of lines is written after each interval.
    """
    if not _INTERVAL_SECONDS[0] <= interval <= _INTERVAL_SECONDS[1]:
        raise UsageFailure("--interval is 100ms to 1h")
    fields = {"customer_id": session.place.customer_id, "webhook_ids": webhook_ids, "event_types": event_types}
    figures = Figures(session, webhook_ids)
    figures.read()  # what is wrong with the line or the token is said before anything is shown
    if figures.has_more:
        session.say(f"the newest {WEBHOOKS_MAX:,} webhooks are looked at, there are more: --webhook-id N")
    _follow(session, Changes(session, fields), figures, interval, rounds)


def _follow(session: Session, changes: Changes, figures: Figures, interval: float, rounds: int | None) -> None:
    ended, failed = threading.Event(), threading.Event()
    workers = [
        Worker("top-changes", changes.follow, failed),
        Worker("top-figures", partial(keep_reading, figures, ended), failed),
    ]
    for worker in workers:
        worker.start()
    try:
        with ExitStack() as stack:
            show = _live(session, stack) or partial(_write_block, session)
            done = 0
            while rounds is None or done < rounds:
                failed.wait(interval)
                for worker in workers:
                    worker.raise_failure()
                _show(session, changes, figures, show)
                done += 1
    finally:
        ended.set()
        changes.close()
        session.close()  # ends the calls that figures wait for
        for worker in workers:
            worker.join()


def _show(session: Session, changes: Changes, figures: Figures, show: Show) -> None:
    rates, totals = changes.end_round()
    now = datetime.now(UTC)
    place = session.place
    words = [place.profile_name or place.address, *([f"customer {place.customer_id}"] if place.customer_id else ())]
    head = heading(" · ".join(words), totals, changes.behind_seconds, changes.state, session.look)
    limit = max(1, shutil.get_terminal_size().lines - _LINES_AROUND) if session.look.is_terminal else _ROWS_MAX
    show(head, rows(figures.webhooks, rates, now, limit), now)


def _write_block(session: Session, head: str, found: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Writes a block of lines: a table with its heading, or what the chosen form makes of each row."""
    printer, is_table = session.printer, session.printer.is_for_people
    printer.look = replace(session.look, now=now)
    if is_table:
        printer.sentence(head)
    printer.several(kind(session.look, is_table=is_table), found)
    sys.stdout.flush()


def _live(session: Session, stack: ExitStack) -> Show | None:
    """Returns what shows a table that stays in its place; None where that is not possible or not wanted."""
    console = console_of(session.look)
    if not (session.printer.is_for_people and session.look.is_terminal) or console.is_dumb_terminal:
        return None
    from rich.live import Live

    live = stack.enter_context(Live(console=console, auto_refresh=False))
    return partial(_update, session.printer, live)


def _update(printer: Printer, live: Any, head: str, found: Sequence[Mapping[str, Any]], now: datetime) -> None:
    from rich.console import Group
    from rich.text import Text

    printer.look = replace(printer.look, now=now)
    table = printer.table(kind(printer.look, is_table=True).columns, found)
    live.update(Group(Text(head, no_wrap=True), Text(""), table), refresh=True)
