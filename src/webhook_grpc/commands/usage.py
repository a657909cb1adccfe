"""What is said of a line that is wrong: what it is, and where to look, as the command line of `clients/cli` says it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError


class Program(click.Group):
    """The group of all commands of the service."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a line, and exits: with status 2 if it is wrong."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            done = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.Abort:
            sys.exit(1)
        except click.ClickException as error:
            _explain(error, prog_name or "webhook-grpc")
            sys.exit(error.exit_code)
        sys.exit(done if isinstance(done, int) else 0)


def _explain(error: click.ClickException, program: str) -> None:
    if isinstance(error, NoArgsIsHelpError):  # its message is the help
        click.echo(error.format_message(), err=True)
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = program if context is None else context.command_path
    click.echo(f"error: {error.format_message()}\n  try: {where} --help", err=True)
