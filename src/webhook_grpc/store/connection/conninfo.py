"""Checks connection strings before anything uses them, and never repeats one in an error.

libpq's own errors quote the string, or what it took for a host or a port: that may be the password, or half of it. So a
string is parsed here first, and our own words say what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

_URI: Final = re.compile(r"([a-z][a-z0-9+.:-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_SCHEMES: Final = ("postgresql", "postgres")
_PORTS: Final = re.compile(r"(?:[0-9]{1,5})?(?:,(?:[0-9]{1,5})?)*")
_HOST: Final = re.compile(r"(\[[\w:.%]*\]|[^\[\]:]*)(:[0-9]{0,5})?")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_EXAMPLE: Final = "postgresql://user:password@host:5432/database"


class BadConninfo(Exception):
    """A connection string can't be used. The message says why, and quotes no part of the string."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"WEBHOOK_DATABASE_URL {problem}")


def checked(text: str) -> str:
    """Returns the connection string without white space around it. Raises BadConninfo."""
    text = text.strip()
    is_uri = _URI.fullmatch(text)
    problem = _quotes_problem(text) or (_uri_problem(is_uri[1], is_uri[2]) if is_uri else None)
    if problem is not None:
        raise BadConninfo(problem)
    try:
        parameters = conninfo_to_dict(text)
    except (psycopg.Error, ValueError):  # ValueError: bytes that are no UTF-8, once the percent signs are resolved
        raise BadConninfo(
            f"is neither a URI like {_EXAMPLE} nor pairs like `host=… dbname=…`, where a value with white space stands "
            "in single quotes"
        ) from None
    if not _PORTS.fullmatch(str(parameters.get("port") or "")):
        raise BadConninfo(f"has a port that is no number; {_encode('/', '?', ':', '@')}")
    return text


def _quotes_problem(text: str) -> str | None:
    return "stands in quotes; remove them" if text[:1] in {'"', "'", "`"} else None


def _uri_problem(scheme: str, rest: str) -> str | None:
    """Returns what libpq would refuse in a URI, or would take for something else than was meant."""
    if scheme not in _SCHEMES:
        return f"must begin with postgresql://, without the name of a driver: {_EXAMPLE}"
    if re.search(r"\s", rest):
        return "has white space inside; in a password or a name, write %20 for it"
    if _BAD_PERCENT.search(rest):
        return "has a % that no two hexadecimal digits follow; in a password or a name, write %25 for it"
    authority, path = _parts(rest)
    if authority.count("@") > 1 or "@" in path:
        return f"has an @ where none may be; {_encode('@', '/', '?')}"
    if not all(_HOST.fullmatch(host) for host in authority.rpartition("@")[2].split(",")):
        return f"has a host and a port that are not like host:5432; {_encode('/', '?', '@')}"
    return None


def _parts(rest: str) -> tuple[str, str]:
    """Returns what follows the scheme: up to the first `/` or `?`, and the name of the database."""
    before_query = rest.partition("?")[0]
    authority, _, path = before_query.partition("/")
    return authority, path


def _encode(*characters: str) -> str:
    codes = ", ".join(f"{character} as %{ord(character):02X}" for character in characters)
    return f"in a password or a name, write {codes}"
