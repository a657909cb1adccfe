"""`completion` and `cheat`: how to use the program."""

from __future__ import annotations

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
