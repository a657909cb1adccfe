"""What flags of every command a line has: kept for all parts of it, wherever in the line they stood."""

from __future__ import annotations

from typing import Any, cast

import click


def given(context: click.Context) -> dict[str, Any]:
    """Returns the flags of every command that stand in this line, by the names of their parameters."""
    return cast("dict[str, Any]", context.ensure_object(dict))


def is_utc(context: click.Context | None) -> bool:
    """Returns whether times of day are in UTC in this line."""
    return context is not None and bool(given(context).get("utc"))
