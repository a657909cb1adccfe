"""`top`: what happens now, per webhook, shown again after each interval."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Final

import click

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.kinds import SECONDS
from webhook_grpc_cli.overview.acts import Acts
from webhook_grpc_cli.overview.figures import Figures
from webhook_grpc_cli.overview.following import Changes, Worker, keep_reading
from webhook_grpc_cli.overview.rows import heading, rows
from webhook_grpc_cli.overview.screen import Round, screen_of
from webhook_grpc_cli.overview.tally import WEBHOOKS_MAX
from webhook_grpc_cli.session import Session, with_session

from .options import filters

_INTERVAL_SECONDS: Final = (0.1, 3600.0)


@click.command(
    "top",
    cls=Command,
    examples=["webhook-grpc top -n 1", "webhook-grpc top -t 'job.*' --interval 500ms -n 2 -o json"],
)
@filters("webhook_ids", "event_types")
@click.option("--interval", type=SECONDS, default=2.0, metavar="2s", help="How often it is shown.")
@click.option("-n", "rounds", type=click.IntRange(1), metavar="N", help="End after so many rounds.")
@with_session
def top(
    session: Session, webhook_ids: tuple[int, ...], event_types: tuple[str, ...], interval: float, rounds: int | None
) -> None:
    """Show what happens now, per webhook: those with the most trouble first. Ctrl-C ends it.

    Attempts per second are those of the last interval, of the types that -t names; success and p95 are of the last
    hour, read again each 10 s. On a terminal the table stays in its place; keys choose what it shows, and test, retry,
    pause, resume and explain the webhook that is chosen: `?` names them, `q` ends it. Into a pipe a block of lines is
    written after each interval.
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
            screen, done = screen_of(session, stack, Acts(session, figures), changes.last_of), 0
            while rounds is None or done < rounds:
                screen.wait(interval, failed)
                for worker in workers:
                    worker.raise_failure()
                if screen.has_quit:
                    break
                screen.show(_round(session, changes, figures))
                done += 1
    finally:
        ended.set()
        changes.close()
        session.close()  # ends the calls that figures wait for
        for worker in workers:
            worker.join()


def _round(session: Session, changes: Changes, figures: Figures) -> Round:
    rates, totals = changes.end_round()
    now = datetime.now(UTC)
    place = session.place
    words = [place.profile_name or place.address, *([f"customer {place.customer_id}"] if place.customer_id else ())]
    head = heading(" · ".join(words), totals, changes.behind_seconds, changes.state, session.look)
    return Round(head, rows(figures.webhooks, rates, now, WEBHOOKS_MAX), now)
