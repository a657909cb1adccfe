"""`webhook-grpc tokens`: create, list and revoke tokens, at a server or in its database."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson

from webhook_grpc.domain.access import Role
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.tokens import CUSTOMERS_MAX, DESCRIPTION_LENGTH_MAX, TokenSpec
from webhook_grpc.store.connection.placing import Place

from .examples import HELP_NAMES, examples
from .token_places import InDatabase, OverHttp, TokenPlace

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([hd])")
_ID: Final = click.IntRange(1, INT64_MAX)


def tokens_group(
    explained: Callable[[], AbstractContextManager[None]], database: Callable[[], AbstractContextManager[Place]]
) -> click.Group:
    """Returns the group. `explained` turns failures into sentences, `database` opens the database of the settings."""

    @click.group(
        context_settings=HELP_NAMES,
        epilog=examples("webhook-grpc tokens list", "webhook-grpc tokens create --role viewer --customer-id 42"),
    )
    def tokens() -> None:
        """Create, list and revoke tokens of the database.

        They are asked for at a server, which needs an admin's token in WHK_TOKEN or WHK_TOKEN_FILE; with --database in
        the database itself, which needs neither a server nor a token.
        """

    @tokens.command(
        epilog=examples(
            "webhook-grpc tokens create --role publisher --customer-id 42 --description deploy-bot --expires-in 90d",
            "webhook-grpc tokens create --role admin --all-customers --database",
        )
    )
    @click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it is for.")
    @click.option("--customer-id", "customer_ids", multiple=True, type=_ID, help="A customer; may be repeated.")
    @click.option("--all-customers", is_flag=True, help="Instead: all customers, also those to come.")
    @click.option("--description", default="", help="Who has it.")
    @click.option("--expires-in", "span", callback=_read_span, help="When it ends: 12h, 90d; default never.")
    @_placed
    def create(
        role: str,
        customer_ids: Sequence[int],
        all_customers: bool,
        description: str,
        span: timedelta | None,
        in_database: bool,
        url: str,
    ) -> None:
        """Make a token, and print it once: nobody can read it again."""
        if all_customers == bool(customer_ids):
            raise click.UsageError("name customers with --customer-id, or give --all-customers")
        if len(customer_ids) > CUSTOMERS_MAX or len(description) > DESCRIPTION_LENGTH_MAX:
            raise click.UsageError(f"at most {CUSTOMERS_MAX} customers and {DESCRIPTION_LENGTH_MAX} characters")
        spec = TokenSpec(
            Role(role),
            frozenset(customer_ids) or None,
            description,
            None if span is None else datetime.now(UTC) + span,
        )
        with explained(), _place(database, url, in_database=in_database) as place:
            click.echo(place.create(spec))

    @tokens.command("list", epilog=examples("webhook-grpc tokens list", "webhook-grpc tokens list --database"))
    @_placed
    def list_tokens(in_database: bool, url: str) -> None:
        """List tokens, newest first: one JSON object a line."""
        with explained(), _place(database, url, in_database=in_database) as place:
            for token in place.tokens():
                click.echo(orjson.dumps(token))

    @tokens.command(epilog=examples("webhook-grpc tokens revoke 7", "webhook-grpc tokens revoke 7 --database"))
    @click.argument("token_id", type=_ID)
    @_placed
    def revoke(token_id: int, in_database: bool, url: str) -> None:
        """Delete a token. Within two seconds no process takes it any more."""
        with explained(), _place(database, url, in_database=in_database) as place:
            place.revoke(token_id)

    return tokens


def _placed(command: _Command) -> _Command:
    """Adds the options that say where tokens are."""
    in_database = click.option(
        "--database", "in_database", is_flag=True, help="In WEBHOOK_DATABASE_URL, not by a server."
    )
    url = click.option(
        "--url", envvar="WHK_HTTP_URL", default="http://127.0.0.1:8080", show_default=True, help="HTTP of a server."
    )
    return in_database(url(command))


def _place(
    database: Callable[[], AbstractContextManager[Place]], url: str, *, in_database: bool
) -> AbstractContextManager[TokenPlace]:
    return InDatabase.opened(database) if in_database else OverHttp.opened(url, _own_token())


def _own_token() -> str | None:
    """Returns the token of whoever runs the command; None: the server may take calls without one."""
    path = os.environ.get("WHK_TOKEN_FILE")
    return os.environ.get("WHK_TOKEN") or (Path(path).read_text(encoding="utf-8").strip() if path else None)


def _read_span(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    if found is None:
        raise click.BadParameter("must be hours or days, such as 12h or 90d")
    return timedelta(**{"h": {"hours": int(found[1])}, "d": {"days": int(found[1])}}[found[2]])
