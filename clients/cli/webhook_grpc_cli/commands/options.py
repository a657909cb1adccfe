"""Options that several commands have, and what many of them do the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from webhook_grpc_cli.completing import event_types, webhook_ids, words_of
from webhook_grpc_cli.failures import PARTLY, lines_of
from webhook_grpc_cli.kinds import ID, MOMENT, SECONDS, numbers, split, words
from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.session import Session

if TYPE_CHECKING:
    from webhook_grpc_client import WebhookError

F = TypeVar("F", bound=Callable[..., Any])
LIMIT = 50


def limited(function: F) -> F:
    """Adds -n and --all; the command gets `limit`, and `is_all`."""
    limit = click.option(
        "-n", "limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="At most so many."
    )
    everything = click.option("--all", "is_all", is_flag=True, help="All there are.")
    return limit(everything(function))


def windowed(since: str | None = None) -> Callable[[F], F]:
    """Adds --since and --until."""

    def add(function: F) -> F:
        first = click.option("--since", type=MOMENT, default=since, help="A time, or how long ago: 2h, 3d.")
        last = click.option("--until", type=MOMENT, help="A time, or how long ago; now.")
        return first(last(function))

    return add


def types_option(function: F) -> F:
    """Adds -t; the command gets `event_types`."""
    return click.option(
        "-t",
        "--event-type",
        "event_types",
        multiple=True,
        callback=split,
        shell_complete=event_types,
        help="Event types, also job.*.",
    )(function)


def webhooks_option(function: F) -> F:
    """Adds --webhook-id; the command gets `webhook_ids`."""
    return click.option(
        "--webhook-id", "webhook_ids", multiple=True, callback=numbers, shell_complete=webhook_ids, help="Webhooks."
    )(function)


def statuses_option(known: tuple[str, ...]) -> Callable[[F], F]:
    """Adds -s; the command gets `statuses`."""
    return click.option(
        "-s",
        "--status",
        "statuses",
        multiple=True,
        callback=words(known),
        shell_complete=words_of(known),
        help=f"Of {', '.join(known)}.",
    )


def waiting(function: F) -> F:
    """Adds -w, which may have a duration; the command gets `wait`, None for not at all."""
    return click.option(
        "-w", "--wait", type=SECONDS, is_flag=False, flag_value="60s", metavar="[60s]", help="Wait for the end."
    )(function)


webhook_id = click.argument("webhook_id", type=ID, metavar="ID", shell_complete=webhook_ids)


def for_each(session: Session, ids: Iterable[str], act: Callable[[str], None]) -> None:
    """Acts on each id, also after one is refused. Then the status says that some of them were."""
    from webhook_grpc_client import Refused

    count = 0
    refusals: list[tuple[str, Refused]] = []
    for count, one in enumerate(ids, 1):
        if count == 2 and refusals:
            _report(*refusals[0])
        try:
            act(one)
        except Refused as error:
            refusals.append((one, error))
            if count > 1:
                _report(one, error)
    if refusals and count == 1:
        raise refusals[0][1]
    if refusals:
        session.say(f"{len(refusals)} of {count} were refused")
        raise click.exceptions.Exit(PARTLY)


def _report(one: str, error: WebhookError) -> None:
    click.echo("\n".join(map(escaped, [f"{one}:", *lines_of(error)])), err=True)
