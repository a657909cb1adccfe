"""`profiles`: remembers where services are, and who calls."""

from __future__ import annotations

import os
import shlex
import sys
from functools import partial
from typing import Final

import click

from webhook_grpc_cli.completing import profile_names
from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.given import given
from webhook_grpc_cli.output.kind import Column, Kind
from webhook_grpc_cli.output.look import is_terminal
from webhook_grpc_cli.places import ADDRESS
from webhook_grpc_cli.profiles import TEXTS, Profile
from webhook_grpc_cli.session import Session, answered, session_of, with_session

_PROFILE: Final = Kind(
    "name",
    (
        Column("Profile", "name"),
        Column("Address", "address", is_whole=True),
        Column("In use", "in_use", lambda value, _: "●" if value["in_use"] else ""),
    ),
    more=dict.fromkeys(("name", "address", "in_use"), ""),
)
_ANYTHING: Final = Kind("", ())


@group("profiles")
def profiles() -> None:
    """Remember where services are, and who calls.

    They stand in $XDG_CONFIG_HOME/webhook-grpc/config.toml, which only you can read.
    """


@profiles.command("list", examples=["webhook-grpc profiles list", "webhook-grpc profiles list -o id"])
@with_session
def list_profiles(session: Session) -> None:
    """List profiles; the one in use is marked."""
    known, used = session.place.profiles.by_name, session.place.profile_name
    shown = (
        {"name": name, "address": profile.get("address", ADDRESS), "in_use": name == used}
        for name, profile in known.items()
    )
    if not session.printer.several(_PROFILE, shown):
        session.say("there are none; webhook-grpc profiles add NAME -a HOST:PORT")


@profiles.command(
    "add",
    examples=[
        "webhook-grpc profiles add local -a 127.0.0.1:50051 -c 42",
        "webhook-grpc profiles add prod -a hooks.internal:443 --token-command 'pass show hooks/prod' --confirm-always",
    ],
)
@click.argument("name")
@click.option("--with-token", is_flag=True, help="Ask for the token, or read it from stdin; it is not shown.")
@click.option("--token-command", metavar="COMMAND", help="A command that prints the token.")
@click.option("--page", "page_url", metavar="URL", help="Where the page for browsers is; `open` starts it.")
@click.option("--confirm-always", is_flag=True, help="Have the name typed before anything is changed or sent.")
@click.pass_context
def add(
    context: click.Context,
    name: str,
    with_token: bool,
    token_command: str | None,
    page_url: str | None,
    confirm_always: bool,
) -> None:
    """Add a profile, or replace one; the flags of this line are what it remembers."""
    if not name or not name.isprintable():
        raise UsageFailure(f"`{name}` can be no name of a profile")
    flags = given(context)
    profile: Profile = {key: flags[key] for key in (*TEXTS, "tls", "customer_id") if key in flags}
    if "token_file" in profile:
        profile["token_file"] = os.path.abspath(profile["token_file"])  # noqa: PTH100 - keeps links as they are
    if token_command is not None:
        profile["token_command"] = _words(token_command)
    if with_token:
        profile["token"] = _asked_token()
    if page_url:
        profile["page"] = page_url
    if confirm_always:
        profile["confirm"] = "always"
    session = session_of(context)
    if "address" in flags:
        profile["address"] = session.place.address  # raises UsageFailure for one to which nobody could connect
    known = session.place.profiles
    known.by_name[name] = profile
    known.default = known.default or name
    known.save()
    session.say(f"{known.path}: {name}" + (" (in use)" if known.default == name else ""))


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageFailure(f"--token-command: {error}") from error


def _asked_token() -> str:
    if is_terminal(sys.stdin):
        return answered(partial(click.prompt, "Token", hide_input=True, err=True))
    token = sys.stdin.readline().strip()
    if not token:
        raise UsageFailure("there is no token on stdin")
    return token


@profiles.command("use", examples=["webhook-grpc profiles use prod", "webhook-grpc profiles use local -q"])
@click.argument("name", shell_complete=profile_names)
@with_session
def use(session: Session, name: str) -> None:
    """Use a profile where no line and no environment names one."""
    known = session.place.profiles
    known.get(name)
    known.default = name
    known.save()
    session.say(f"{name} is in use")


@profiles.command("show", examples=["webhook-grpc profiles show", "webhook-grpc profiles show prod -o json"])
@click.argument("name", shell_complete=profile_names, required=False)
@with_session
def show(session: Session, name: str | None) -> None:
    """Show where calls go, and where each setting comes from; never a token."""
    place = session.place
    if name:
        shown = {key: "(set)" if key == "token" else value for key, value in place.profiles.get(name).items()}
    else:
        names = ("address", "customer_id", "tls", "ca", "cert", "key", "server_name")
        found = {key: place.look_up(key, ADDRESS if key == "address" else None) for key in names}
        shown = {key: f"{item.value} ({item.source})" for key, item in found.items() if item.value is not None}
        shown["token"] = f"from {place.token_source}" if place.token_source else "none"
        shown["profile"] = place.profile_name or "none"
    session.printer.one(_ANYTHING, shown)


@profiles.command("remove", examples=["webhook-grpc profiles remove old", "webhook-grpc profiles remove local -q"])
@click.argument("name", shell_complete=profile_names)
@with_session
def remove(session: Session, name: str) -> None:
    """Remove a profile, and the token that stands in it."""
    known = session.place.profiles
    known.get(name)
    del known.by_name[name]
    known.default = "" if known.default == name else known.default
    known.save()
    session.say(f"removed {name}")
