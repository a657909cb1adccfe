"""`webhook-grpc keys`: make, list and change the keys that secrets are sealed with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial

import click
import orjson

from webhook_grpc.domain.access_tokens import LIFE_SECONDS_MAX
from webhook_grpc.domain.sealing import Sealer, key_id_of, key_id_text
from webhook_grpc.process.credentials import new_secret_key
from webhook_grpc.settings import decode_secret_key
from webhook_grpc.store.connection.placing import Place
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry.resealing import Kind

from .database import run_in_database
from .examples import HELP_NAMES, examples
from .resealing import KeyUse, Resealing, uses_of_keys

Opened = Callable[[], AbstractContextManager[tuple[Place, Sequence[bytes]]]]


def keys_group(explained: Callable[[], AbstractContextManager[None]], opened: Opened) -> click.Group:
    """Returns the group. `explained` turns failures into sentences, `opened` gives the database and its keys."""

    @click.group(context_settings=HELP_NAMES, epilog=examples("webhook-grpc keys new", "webhook-grpc keys list"))
    def keys() -> None:
        """Make, list and change the keys of WEBHOOK_SECRET_KEYS. docs/operations.md says in which order."""

    @keys.command(epilog=examples("webhook-grpc keys new", "webhook-grpc keys new > secret.key"))
    def new() -> None:
        """Print a new key. Its id, by which messages name it, goes to stderr."""
        print_new_key()

    @keys.command("list", epilog=examples("webhook-grpc keys list", "webhook-grpc keys list | jq -r .key_id"))
    def list_keys() -> None:
        """List the keys that are given or in use, and what needs them: one JSON object a line."""
        with explained(), opened() as (place, given):
            for use in run_in_database(place, partial(uses_of_keys, sealer=Sealer(given))):
                click.echo(orjson.dumps(_shown(use)))

    @keys.command(
        epilog=examples(
            "webhook-grpc keys rotate", "WEBHOOK_SECRET_KEYS_FILE=/run/secrets/keys webhook-grpc keys rotate"
        )
    )
    def rotate() -> None:
        """Seal everything again with the first key, beside servers that run, and say which keys can go.

        May be interrupted and repeated. Ends with status 1 while another key is still needed.
        """
        with explained(), opened() as (place, given):
            sealer = Sealer(given)
            count, uses = run_in_database(place, partial(_rotate, sealer=sealer))
        newest = key_id_text(sealer.key_ids[0])
        click.echo(f"{count} sealed again, with the key {newest}")
        others = [use for use in uses if use.key_id != sealer.key_ids[0]]
        for use in others:
            click.echo(f"{key_id_text(use.key_id)}: {standing(use, newest, datetime.now(UTC))}")
        if any(map(_is_needed, others)):
            sys.exit(1)

    return keys


def print_new_key() -> None:
    """Prints a new key, and its id to stderr."""
    key = new_secret_key()
    click.echo(key)
    click.echo(f"the id of this key is {key_id_text(key_id_of(decode_secret_key(key)))}", err=True)


async def _rotate(database: Database, sealer: Sealer) -> tuple[int, list[KeyUse]]:
    count = await Resealing(database, sealer, partial(click.echo, err=True)).run()
    return count, await uses_of_keys(database, sealer)


def standing(use: KeyUse, newest: str, now: datetime) -> str:
    """Returns in words whether an older key is still needed, for what, and what to do."""
    if use.left:
        counts = ", ".join(f"{count} {kind.value}" for kind, count in use.counts.items())
        what = "run this again" if use.position else "this key is not in WEBHOOK_SECRET_KEYS here"
        return f"{counts} are left: {what}"
    if use.sealing_process_count:
        return (
            f"nothing is sealed with it, but {use.sealing_process_count} running processes seal with it: put {newest} "
            "first in their WEBHOOK_SECRET_KEYS, restart them, and run this again"
        )
    end_time = (now + timedelta(seconds=LIFE_SECONDS_MAX)).isoformat(timespec="seconds")
    return f"nothing is sealed with it; it can go at {end_time}, when the last access token that it signed has ended"


def _is_needed(use: KeyUse) -> bool:
    return bool(use.left or use.sealing_process_count)


def _shown(use: KeyUse) -> dict[str, object]:
    return {
        "key_id": key_id_text(use.key_id),
        "position": use.position,
        "secrets": use.counts[Kind.SECRETS],
        "previous_secrets": use.counts[Kind.PREVIOUS_SECRETS],
        "headers": use.counts[Kind.HEADERS],
        "signing_keys": use.counts[Kind.SIGNING_KEYS],
        "queries": use.counts[Kind.QUERIES],
        "processes": use.process_count,
        "sealing_processes": use.sealing_process_count,
    }
