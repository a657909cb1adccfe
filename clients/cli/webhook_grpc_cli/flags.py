"""Commands and groups that take the flags of every command, wherever in the line they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from .completing import profile_names
from .given import given
from .kinds import FILE, SECONDS

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if value is not None:
        given(context)[parameter.name] = value
    return value


def _global_options(*, hidden: bool) -> list[click.Option]:
    def option(*names: str, text: str, **attributes: Any) -> click.Option:
        return click.Option(names, help=text, expose_value=False, callback=_note, hidden=hidden, **attributes)

    def switch(*names: str, text: str, **attributes: Any) -> click.Option:
        return option(*names, text=text, is_flag=True, default=None, **attributes)

    return [
        option("-a", "--address", metavar="HOST:PORT", text="Where the service is; WHK_ADDRESS, 127.0.0.1:50051."),
        option(
            "-p",
            "--profile",
            metavar="NAME",
            shell_complete=profile_names,
            text="A profile of the configuration file; WHK_PROFILE.",
        ),
        option(
            "-c", "--customer-id", type=click.IntRange(1, 2**63 - 1), metavar="N", text="The customer; WHK_CUSTOMER_ID."
        ),
        option(
            "-o",
            "--output",
            type=click.Choice(["table", "tsv", "json", "id"]),
            text="A table on a terminal, else tsv; json: one object a line; id: ids alone. WHK_OUTPUT.",
        ),
        option("--fields", metavar="A,B.C", text="The fields to print, in this order."),
        option("--color", type=click.Choice(["always", "never", "auto"]), text="Colours; auto: on a terminal."),
        switch("--utc", text="Times of day in UTC.", is_eager=True),
        switch("--tls/--no-tls", text="TLS; on but for loopback."),
        option("--ca", metavar="FILE", type=FILE, text="The authorities to trust (PEM); WHK_CA."),
        option("--cert", metavar="FILE", type=FILE, text="An own certificate (PEM)."),
        option("--key", metavar="FILE", type=FILE, text="The key of that certificate (PEM)."),
        option("--server-name", metavar="NAME", text="The name that the service's certificate has."),
        option(
            "--token-file", metavar="FILE", type=FILE, text="A file that holds the token; WHK_TOKEN_FILE, or WHK_TOKEN."
        ),
        option("--timeout", type=SECONDS, metavar="30s", text="How long a call is tried; 30s."),
        switch("-q", "--quiet", text="Say nothing but the answer and errors."),
        switch("-v", "--verbose", text="Say each call, how long it took, and its request id."),
        switch("-y", "--yes", text="Ask nothing: the answer is yes."),
    ]


class _TakesFlags(click.Command):
    """A command that takes the flags of every command beside its own."""

    show_flags = False

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Returns the command's own parameters, and the flags whose names it does not use itself."""
        own = super().get_params(ctx)
        taken = {name for parameter in own for name in parameter.opts}
        flags = (option for option in _global_options(hidden=not self.show_flags) if not taken & set(option.opts))
        return [*own[:-1], *flags, *own[-1:]]  # --help stays the last


class Command(_TakesFlags):
    """A command, whose help ends with examples."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        """`examples` are whole lines, which tests run."""
        attributes["context_settings"] = {**HELP_NAMES, **attributes.get("context_settings", {})}
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        del ctx
        formatter.write_paragraph()
        formatter.write_text("Flags of every command: webhook-grpc --help")
        formatter.write_paragraph()
        formatter.write("Examples:\n")
        for example in self.examples:
            formatter.write(f"  {example}\n")


class Group(_TakesFlags, click.Group):
    """A noun, whose commands are its verbs."""

    command_class = Command

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        attributes["context_settings"] = {**HELP_NAMES, **attributes.get("context_settings", {})}
        super().__init__(*arguments, **attributes)


def group(name: str) -> Callable[[Callable[..., Any]], Group]:
    """Makes a function a noun; its docstring is the help."""
    return click.group(name, cls=Group)
