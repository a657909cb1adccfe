"""The whole tree of commands. A noun's module is imported when the noun stands in the line, and not for --help."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

import click

from .flags import Group

# noun or verb: (module and attribute, what --help says)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "webhooks": ("webhooks:webhooks", "Create, look at and change where events go."),
    "events": ("events:events", "Publish events, find them, and see why they went where they went."),
    "deliveries": ("deliveries:deliveries", "Look at what became of events, send again, cancel."),
    "replays": ("replays:replays", "Send again what is in the log."),
    "event-types": ("event_types:event_types", "Which types of events there are."),
    "customers": ("customers:customers", "What concerns a whole customer."),
    "watch": ("watch:watch", "Print each delivery after each change, live."),
    "listen": ("listen:listen", "Receive on this machine: verify, print, pass on."),
    "verify": ("verify:verify", "Say whether signatures are right, and if not, why."),
    "doctor": ("doctor:doctor", "Check what lies between this machine and the service."),
    "top": ("top:top", "Show per webhook what happens now."),
    "call": ("call:call", "Call any method of the API."),
    "profiles": ("profiles:profiles", "Remember where services are, and who calls."),
    "open": ("open:open_page", "Start the page for browsers, at an id."),
    "completion": ("help:completion", "Print the script that completes lines in a shell."),
    "cheat": ("help:cheat", "Show lines for every day."),
    "help": ("help:help_of", "Show the help of a command."),
}
SERVER: Final[dict[str, str]] = {
    "serve": "Run the service.",
    "migrate": "Bring the database's schema up to date.",
    "token": "Make a token for WEBHOOK_TOKENS.",
    "tokens": "Create, list and revoke tokens of the database.",
    "keys": "Make, list and rotate the keys of WEBHOOK_SECRET_KEYS.",
    "settings": "List every setting: its value here, what it may be, what it does.",
    "secret-key": "The old name of `keys new`.",
}


class Tree(Group):
    """The root: nouns, and with the server's package also what runs the service."""

    show_flags = True
    elsewhere = (*SERVER, "--version")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands that there are."""
        del ctx
        return [*COMMANDS, *(SERVER if find_spec("webhook_grpc") else ())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            return getattr(import_module(f"webhook_grpc_cli.commands.{module}"), attribute)
        return _of_server(ctx, cmd_name) if cmd_name in SERVER else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what there is, without importing any of it."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        if find_spec("webhook_grpc"):
            with formatter.section("Where the service runs"):
                formatter.write_dl(list(SERVER.items()))


def _of_server(context: click.Context, name: str) -> click.Command:
    if find_spec("webhook_grpc") is None:
        context.fail(f"`{name}` comes with the server, which is not installed here: install a clone, by its path")
    return import_module("webhook_grpc.cli").main.commands[name]
