"""Options that several commands have, and what many of them do the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from webhook_grpc_cli.completing import event_ids, event_types, webhook_ids, words_of
from webhook_grpc_cli.failures import PARTLY, lines_of
from webhook_grpc_cli.flags import MayHaveValue
from webhook_grpc_cli.kinds import ID, MOMENT, SECONDS, numbers, split, words
from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.session import Session

if TYPE_CHECKING:
    from webhook_grpc_client import WebhookError

F = TypeVar("F", bound=Callable[..., Any])
Filter = Literal["webhook_ids", "event_types", "statuses", "event_id"]
LIMIT = 50


def limited(function: F) -> F:
    """Adds -n and --all; the command gets `limit`, and `is_all`."""
    limit = click.option(
        "-n", "limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="At most so many."
    )
    everything = click.option("--all", "is_all", is_flag=True, help="All there are.")
    return limit(everything(function))


def since_option(default: str | None = None, *, otherwise: str = "", is_required: bool = False) -> Callable[[F], F]:
    """Adds --since; `otherwise` are words for what holds without it."""
    words_without = otherwise or default
    text = "A time, or how long ago: 14:00, 2h, 3d" + (f"; else {words_without}." if words_without else ".")
    return click.option("--since", type=MOMENT, default=default, required=is_required, metavar="T", help=text)


def windowed(
    default: str | None = None, *, otherwise: str = "all there is", is_required: bool = False
) -> Callable[[F], F]:
    """Adds --since and --until."""

    def add(function: F) -> F:
        first = since_option(default, otherwise="" if default or is_required else otherwise, is_required=is_required)
        last = click.option("--until", type=MOMENT, metavar="T", help="A time, or how long ago; else now.")
        return first(last(function))

    return add


def filters(*wanted: Filter, statuses: Sequence[str] = ()) -> Callable[[F], F]:
    """Adds the filters that are wanted, with the same words and in the same order for every command.

    The command gets them by these names. `statuses` are the words of --status.
    """
    made: dict[Filter, Callable[[Any], Any]] = {
        "webhook_ids": click.option(
            "--webhook-id",
            "webhook_ids",
            multiple=True,
            callback=numbers,
            shell_complete=webhook_ids,
            metavar="N…",
            help="Only these webhooks.",
        ),
        "event_types": click.option(
            "-t",
            "--event-type",
            "event_types",
            multiple=True,
            callback=split,
            shell_complete=event_types,
            metavar="P…",
            help="Only these types of events: job.completed, job.*",
        ),
        "statuses": click.option(
            "-s",
            "--status",
            "statuses",
            multiple=True,
            callback=words(statuses),
            shell_complete=words_of(statuses),
            metavar="S…",
            help=f"Only these: {', '.join(statuses)}.",
        ),
        "event_id": click.option(
            "--event-id", default="", shell_complete=event_ids, metavar="E", help="Only deliveries of this event."
        ),
    }

    def add(function: F) -> F:
        for name in reversed(made):
            if name in wanted:
                function = made[name](function)
        return function

    return add


def waiting(function: F) -> F:
    """Adds -w, which may have a duration; the command gets `wait`, None for not at all."""
    return click.option(
        "-w", "--wait", cls=MayHaveValue, alone="60s", type=SECONDS, metavar="[60s]", help="Wait for the end."
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
