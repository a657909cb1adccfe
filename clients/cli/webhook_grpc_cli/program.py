"""The program: runs a line, and ends with one of the statuses that scripts can act upon. Never a traceback."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from . import __version__
from .failures import FAILED, INTERRUPTED, USAGE, Failure, as_json, failure_as_json, lines_of, status_of
from .output.escaping import escaped_lines
from .tree import Tree

COMPLETE_VARIABLE: Final = "_WEBHOOK_GRPC_COMPLETE"
_SHOWN_CHARACTERS_MAX: Final = 80


class Program(Tree):
    """The tree of commands as a program."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Runs a line, and exits."""
        del prog_name, standalone_mode, windows_expand_args
        _open_closed_streams()
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC writes to stderr what an error says once more
        try:
            status = self._status(
                sys.argv[1:] if args is None else list(args), complete_var or COMPLETE_VARIABLE, extra
            )
        except BrokenPipeError:  # nobody reads the help
            _forget_stdout()
            status = 0
        sys.exit(status)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Reads the line, and prints the help if it is for that. A reader of it who has read enough ends it."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:  # else click takes it for a failure
            _forget_stdout()
            raise click.exceptions.Exit(0) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. A reader who has read enough, such as `head`, ends it without a word."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            return 0
        return done

    def _status(self, arguments: list[str], complete_var: str, extra: dict[str, Any]) -> int:
        flags: dict[str, Any] = {}
        _escape_what_streams_lack()
        try:
            done = super().main(arguments, "webhook-grpc", complete_var, standalone_mode=False, obj=flags, **extra)
        except (KeyboardInterrupt, click.Abort):
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever it is becomes one sentence and a status
            if flags.get("verbose") and not isinstance(error, click.ClickException):
                traceback.print_exception(error)
            return _explain(error, is_json=_wants_json(arguments))
        return done if isinstance(done, int) else 0


def _wants_json(arguments: Sequence[str]) -> bool:
    """Returns whether errors are read by a program. From the words of the line, for it may be wrong elsewhere."""
    chosen = [value for name, value in pairwise(arguments) if name in {"-o", "--output"}]
    chosen += [word.partition("=")[2] for word in arguments if word.startswith("--output=")]
    chosen += [word.removeprefix("-o") for word in arguments if word.startswith("-o") and word != "-o"]
    return (chosen or [os.environ.get("WHK_OUTPUT", "")])[-1] == "json"


def _explain(error: Exception, *, is_json: bool) -> int:
    """Writes what went wrong to stderr. Returns the exit status."""
    if isinstance(error, click.ClickException):
        return _explain_usage(error, is_json=is_json)
    if type(error).__module__.startswith("webhook_grpc_client"):
        return _explain_call(error, is_json=is_json)
    if isinstance(error, UnicodeEncodeError):  # a word of the line, or an id of stdin
        message = f"`{error.object[:_SHOWN_CHARACTERS_MAX]}` is no text in UTF-8"
        _write(_lines(message, ""), failure_as_json(message, USAGE), is_json=is_json)
        return USAGE
    message = str(error) or type(error).__name__
    _write(_lines(message, ""), failure_as_json(message, FAILED), is_json=is_json)
    return FAILED


def _explain_usage(error: click.ClickException, *, is_json: bool) -> int:
    message = error.format_message()
    if isinstance(error, NoArgsIsHelpError):  # the message is the help: the answer to the program's name alone
        is_alone = error.ctx.parent is None
        click.echo(message, err=not is_alone)
        return 0 if is_alone else error.exit_code
    remedy = error.remedy if isinstance(error, Failure) else _usage_remedy(error)
    _write(_lines(message, remedy), failure_as_json(message, error.exit_code, remedy), is_json=is_json)
    return error.exit_code


def _explain_call(error: Any, *, is_json: bool) -> int:
    from webhook_grpc_client import WebhookError

    if not isinstance(error, WebhookError):
        _write(_lines(str(error), ""), failure_as_json(str(error), USAGE), is_json=is_json)
        return USAGE
    _write(lines_of(error), as_json(error), is_json=is_json)
    return status_of(error)


def _lines(message: str, remedy: str) -> list[str]:
    return [f"error: {message}", *([f"  try: {remedy}"] if remedy else ())]


def _usage_remedy(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help" if context is not None else ""


def _write(lines: Sequence[str], value: dict[str, Any], *, is_json: bool) -> None:
    from .values import json_text

    with suppress(BrokenPipeError):  # nobody reads it, and the status says it, too
        sys.stdout.flush()
        click.echo(json_text(value) if is_json else "\n".join(map(escaped_lines, lines)), err=True)


def _escape_what_streams_lack() -> None:
    """A terminal without UTF-8 gets escapes for what it cannot show, not a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """Opens /dev/null for those of stdin, stdout and stderr that are closed: `>&-`, or a job without any.

    Otherwise the next connection takes their number, and what is printed goes there.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))


def _forget_stdout() -> None:
    """Nobody reads stdout any more: what is still buffered must not fail once more when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Program)
@click.version_option(__version__, prog_name="webhook-grpc")
@click.pass_context
def main(context: click.Context) -> None:
    """Webhooks from the command line: publish events, look at deliveries, watch them live.

    Where the service is: a flag, else WHK_… of the environment, else a profile, else 127.0.0.1:50051.
    """
    del context
