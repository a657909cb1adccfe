"""Commands and groups that take the flags of every command, wherever in the line they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
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


class MayHaveValue(click.Option):
    """A flag that may be followed by a value, which begins with a digit: other words stand for themselves."""

    def __init__(self, *arguments: Any, alone: str, **attributes: Any) -> None:
        """`alone` is the value without one."""
        super().__init__(*arguments, is_flag=False, flag_value=alone, **attributes)
        self._alone = f"{self.opts[-1]}={alone}"  # the long name

    def spelt_out(self, following: str) -> str | None:
        """Returns the flag with its value if the word behind it is none."""
        return None if following[:1].isdigit() else self._alone


class Command(_TakesFlags):
    """A command, whose help ends with examples."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        """`examples` are whole lines, which tests run."""
        attributes["context_settings"] = {**HELP_NAMES, **attributes.get("context_settings", {})}
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses a line in which flags may stand anywhere, also those that may have a value."""
        flags = {name: one for one in self.params if isinstance(one, MayHaveValue) for name in one.opts}
        end = args.index("--") if "--" in args else len(args)
        following = [*args[1:end], ""]
        words = [
            (flags[word].spelt_out(following[at]) if word in flags else None) for at, word in enumerate(args[:end])
        ]
        return super().parse_args(ctx, [new or word for new, word in zip(words, args, strict=False)] + args[end:])

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
    elsewhere: Sequence[str] = ()
    """Names that are known, and not in every list of commands."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        attributes["context_settings"] = {**HELP_NAMES, **attributes.get("context_settings", {})}
        super().__init__(*arguments, **attributes)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the words begin with, or says which was meant."""
        name, known = args[0], [*self.list_commands(ctx), *self.elsewhere]
        if not (ctx.resilient_parsing or name.startswith("-") or name in known):
            meant = get_close_matches(name, known, 1)
            ctx.fail(f"No such command '{name}'." + (f" Did you mean '{meant[0]}'?" if meant else ""))
        return super().resolve_command(ctx, args)


def group(name: str) -> Callable[[Callable[..., Any]], Group]:
    """Makes a function a noun; its docstring is the help."""
    return click.group(name, cls=Group)
