"""`completion` and `cheat`: how to use the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.output.printing import write_line

CHEAT: Final = """\
# where to, once
webhook-grpc profiles add prod -a hooks.internal:443 -c 7 --token-command 'pass show hooks/prod'
# does it arrive?
webhook-grpc webhooks test 12
webhook-grpc events publish job.completed '{"job_id": "job-1"}' --wait
# why did it not?
webhook-grpc events explain EVENT_ID
webhook-grpc deliveries list -s failed --since 1h
webhook-grpc deliveries attempts DELIVERY_ID
# send again
webhook-grpc deliveries list -s failed --since 1h -o id | webhook-grpc deliveries retry -
webhook-grpc replays create --since 2h --status failed --dry-run
# many events from a file, each once
webhook-grpc events publish --ndjson events.ndjson --errors refused.ndjson
# for scripts
webhook-grpc webhooks list -o json | jq -r .url
webhook-grpc call --list
"""


@click.command("cheat", cls=Command, examples=["webhook-grpc cheat", "webhook-grpc cheat | grep replays"])
def cheat() -> None:
    """Show lines for every day."""
    write_line(CHEAT.rstrip("\n"))


@click.command("help", cls=Command, examples=["webhook-grpc help webhooks create", "webhook-grpc help | grep replays"])
@click.argument("words", nargs=-1, metavar="[COMMAND]…")
@click.pass_context
def help_of(context: click.Context, words: Sequence[str]) -> None:
    """Show the help of a command: the same as --help behind it."""
    place = context.find_root()
    for word in words:
        if not isinstance(place.command, click.Group):
            context.fail(f"`{place.command_path}` has no command `{word}`")
        name, command, _ = place.command.resolve_command(place, [word])
        assert command is not None, "else it has failed"
        place = click.Context(command, parent=place, info_name=name)
    write_line(place.get_help())


@click.command(
    "completion", cls=Command, examples=["webhook-grpc completion bash", 'eval "$(webhook-grpc completion bash)"']
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes lines in a shell."""
    from click.shell_completion import get_completion_class

    from webhook_grpc_cli.program import COMPLETE_VARIABLE

    script = get_completion_class(shell)
    assert script is not None, "one of click's own"
    write_line(script(context.find_root().command, {}, "webhook-grpc", COMPLETE_VARIABLE).source())
