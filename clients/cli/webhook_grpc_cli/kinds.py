"""Kinds of arguments: times, durations, words of enums, pairs, lists with commas."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from .given import is_utc

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
SPAN_SECONDS_MAX: Final = 10 * 366 * 86400.0


def span_seconds(text: str) -> float:
    """Returns how long `500ms`, `15s`, `2m`, `1.5h` or `3d` is. Raises ValueError."""
    found = _SPAN.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else SPAN_SECONDS_MAX + 1
    if seconds > SPAN_SECONDS_MAX:
        raise ValueError("must be a duration such as 15s, 2m, 24h or 3d")
    return seconds


def moment(text: str, now: datetime) -> datetime:
    """Returns the time that a text names, in the time zone of `now`. Raises ValueError.

    RFC 3339, `14:00` (the last one), `2h` and `3d` (ago), `now`.
    """
    if text == "now":
        return now
    if _SPAN.fullmatch(text):
        return now - timedelta(seconds=span_seconds(text))
    if found := _CLOCK.fullmatch(text):
        at = now.replace(hour=int(found[1]), minute=int(found[2]), second=int(found[3] or 0), microsecond=0)
        return at if at <= now else at - timedelta(days=1)
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)


class _Seconds(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else span_seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        now = datetime.now(UTC)
        try:
            return moment(value, now if is_utc(ctx) else now.astimezone())
        except (ValueError, OverflowError):
            self.fail("must be a time such as 2026-01-31T12:00:00Z, 14:00, 2h or 3d (ago), or now", param, ctx)


class _File(click.ParamType[str]):
    """A file's name as it stands: whoever opens it says what is wrong with it."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Lets the shell complete it."""
        del ctx, param
        return [CompletionItem(incomplete, type="file")]


class _Id(click.IntRange):
    name = "whole number"  # what click says that a wrong one is none of


FILE: Final = _File()
SECONDS: Final = _Seconds()
MOMENT: Final = _Moment()
ID: Final = _Id(1, 2**63 - 1)


def split(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """Takes values that are repeated, or separated by commas."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def words(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, Sequence[str]], tuple[str, ...]]:
    """Takes words of an enum, in the spelling of the API."""

    def read(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
        found = split(context, parameter, values)
        for word in found:
            if word not in known:
                raise click.BadParameter(f"`{word}` is none of {', '.join(known)}", context, parameter)
        return found

    return read


def numbers(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[int, ...]:
    """Takes ids that are whole numbers."""
    found = split(context, parameter, values)
    if not all(word.isascii() and word.isdigit() and len(word) < 20 for word in found):
        raise click.BadParameter("must be whole numbers", context, parameter)
    return tuple(map(int, found))


def pairs(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Takes NAME=VALUE, repeated. A value may hold commas and equals signs."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise click.BadParameter("must be NAME=VALUE", context, parameter)
        found[name] = text
    return found
