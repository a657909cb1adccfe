"""`webhook-grpc settings`: every setting, as the source describes it, and where its value comes from here.

docs/settings.md is written from the same description.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

import click
import orjson
from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from webhook_grpc import settings as source
from webhook_grpc.commands.examples import examples
from webhook_grpc.domain.record import record
from webhook_grpc.settings import PREFIX, Settings, Token, load_settings

_GROUP: Final = re.compile(r"# --- (.*?) -+$")
_NAMED: Final = re.compile(r"`(\w+)`")
_UNITS: Final = {  # by the words of a name: the first that fits
    "seconds": "seconds",
    "bytes": "bytes",
    "days": "days",
    "hours": "hours",
    "minute": "a minute",
    "turns": "turns",
    "rate": "a second",
    "share": "share",
    "jitter": "share",
}
_DEFAULTS: Final = {"data_dir": "~/.local/share/webhook-grpc, as root /var/lib/webhook-grpc"}  # depends on who asks
_NOT_SHOWN: Final = frozenset({SecretStr, Token})
_WIDTH: Final = 100


@record
class Described:
    """A setting: the variable, what it does, its default and what it may be, in words."""

    variable: str
    group: str
    meaning: str
    default: str
    form: str
    is_secret: bool


@record
class Standing:
    """A setting and its value in an environment; None: it is not shown."""

    setting: Described
    value: str | None
    origin: Literal["default", "environment"]


def described() -> list[Described]:
    """Returns all settings in the order of the source."""
    text = inspect.getsource(source)
    found = [_described(name, group, meaning) for name, group, meaning in _told(text)]
    assert len(found) == len(Settings.model_fields), "a field without a docstring"
    return found


def _told(text: str) -> Iterator[tuple[str, str, str]]:
    """Yields the name, the group and the docstring of each field."""
    lines, group = text.splitlines(), ""
    for kind in ast.parse(text).body:
        if not (isinstance(kind, ast.ClassDef) and kind.name in {"DatabaseSettings", "Settings"}):
            continue
        seen = kind.lineno
        for field, told in zip(kind.body, kind.body[1:], strict=False):
            for line in lines[seen : field.lineno]:
                if heading := _GROUP.search(line):
                    group = heading[1]
            seen = field.lineno
            match field, told:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                    yield name, group, " ".join(meaning.split())
                case _:
                    pass


def _described(name: str, group: str, meaning: str) -> Described:
    field = Settings.model_fields[name]
    kinds = set(_kinds(field.annotation))
    return Described(
        variable=PREFIX + name.upper(),
        group=group,
        meaning=_NAMED.sub(_as_variable, meaning),
        default=_DEFAULTS.get(name) or _in_words(field.default),
        form=_form(name, field),
        is_secret=bool(kinds & _NOT_SHOWN),
    )


def _as_variable(named: re.Match[str]) -> str:
    """Returns the variable that a docstring means by the name of a field; everything else as it is."""
    return f"`{PREFIX}{named[1].upper()}`" if named[1] in Settings.model_fields else named[0]


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yields all types that an annotation is made of."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _kinds(part)


def _in_words(default: Any) -> str:
    match default:
        case None | ():
            return ""
        case bool():
            return str(default).lower()
        case float() if default.is_integer():
            return str(int(default))
        case tuple():
            return ",".join(map(_in_words, default))  # pyright: ignore[reportUnknownArgumentType] - a default of ours
        case _:
            return str(default)


def _form(name: str, field: FieldInfo) -> str:
    """Returns the unit and the bounds of a value, or what else it has to be."""
    kinds = set(map(_hashable, _kinds(field.annotation)))
    words = [f"`{word}`" for kind in _kinds(field.annotation) if get_origin(kind) is Literal for word in get_args(kind)]
    if bool in kinds:
        return ", ".join(["`true`", "`false`", *words])
    if Token in kinds:
        return "JSON"
    if any(get_origin(kind) is tuple for kind in _kinds(field.annotation)):
        return f"list of {_unit(name)}" if float in kinds else "list"
    if int in kinds or float in kinds:
        return ", ".join([f"{_unit(name)} {_bounds(field)}".strip(), *words])
    if words:
        return ", ".join(words)
    return next((text for ending, text in _ENDINGS.items() if name.endswith(ending)), "text")


_ENDINGS: Final = {"_address": "host:port", "_url": "URL", "_file": "file", "_dir": "folder"}


def _hashable(kind: Any) -> Any:
    return kind if isinstance(kind, type) else NoneType


def _unit(name: str) -> str:
    parts = name.split("_")
    return next((unit for word, unit in _UNITS.items() if word in parts), "number")


def _bounds(field: FieldInfo) -> str:
    """Returns in words how small and how large a number may be."""
    limits = [*field.metadata, *(one for part in _kinds(field.annotation) for one in _metadata(part))]
    least = next((f"from {_number(one.ge)}" for one in limits if isinstance(one, Ge)), "")
    least = next((f"above {_number(one.gt)}" for one in limits if isinstance(one, Gt)), least)
    most = next((f"to {_number(one.le)}" for one in limits if isinstance(one, Le)), "")
    return " ".join(filter(None, [least, most]))


def _metadata(part: Any) -> list[Any]:
    found = getattr(part, "__metadata__", ())
    return [limit for one in found for limit in (one.metadata if isinstance(one, FieldInfo) else ())]


def _number(value: Any) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


# --- the command -----------------------------------------------------------------------------------------------------


def standings(environment: Mapping[str, str]) -> list[Standing]:
    """Returns every setting with its value. What is empty counts as not set, as it does for a start."""
    given = {name.upper(): value for name, value in environment.items()}
    return [_standing(one, given.get(one.variable)) for one in described()]


def _standing(setting: Described, value: str | None) -> Standing:
    if value is None or (not value and setting.variable != f"{PREFIX}HTTP_ADDRESS"):
        return Standing(setting, _default_here(setting), "default")
    return Standing(setting, None if setting.is_secret else value, "environment")


def _default_here(setting: Described) -> str:
    name = setting.variable.removeprefix(PREFIX).lower()
    if name not in _DEFAULTS:
        return setting.default
    return str(Settings.model_fields[name].get_default(call_default_factory=True, validated_data={}))


def settings_command(explained: Callable[[], AbstractContextManager[None]]) -> click.Command:
    """Returns the command. `explained` turns failures into sentences."""

    @click.command("settings", epilog=examples("webhook-grpc settings", "webhook-grpc settings -o json"))
    @click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: one object a line."
    )
    def settings(output: str) -> None:
        """List every setting: its value here and where that comes from, what it may be, and what it does.

        Values of secrets are not shown. Ends with status 1 if a start would refuse the values, and says why.
        """
        found = standings(os.environ)
        if output == "json":
            for standing in found:
                click.echo(orjson.dumps(_as_json(standing)))
        else:
            click.echo("\n".join(_as_text(found)))
        with explained():
            load_settings()

    return settings


def _as_json(standing: Standing) -> dict[str, object]:
    setting = standing.setting
    return {
        "name": setting.variable,
        "group": setting.group,
        "value": standing.value,
        "origin": standing.origin,
        "default": setting.default,
        "form": setting.form.replace("`", ""),
        "meaning": setting.meaning,
    }


def _as_text(found: list[Standing]) -> Iterator[str]:
    group = ""
    for standing in found:
        setting = standing.setting
        if setting.group != group:
            yield f"{'' if not group else chr(10)}# {setting.group}"
            group = setting.group
        value = "(not shown)" if standing.value is None else standing.value
        yield f"{setting.variable}={value}  # {standing.origin}; {setting.form.replace('`', '')}"
        yield textwrap.indent(textwrap.fill(setting.meaning, _WIDTH), "    ")
