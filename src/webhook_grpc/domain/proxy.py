"""The URL of a company's forward proxy."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Final
from urllib.parse import unquote

from yarl import URL

from .record import record

_URL: Final = re.compile(r"https?://[\x21-\x7e]+", re.IGNORECASE)
_WANTED: Final = "must be a URL like http://user:password@proxy.example:3128"


@record
class Proxy:
    """Where the proxy is, and who we are to it."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)


def parse_proxy(text: str) -> Proxy:
    """Returns the proxy of a URL. Raises ValueError, whose text shows nothing of the URL: it may hold a password."""
    if not _URL.fullmatch(text):
        raise ValueError(_WANTED)
    try:
        url = URL(text, encoded=True)
        scheme, host, port = url.scheme, url.raw_host, url.port
    except ValueError:
        raise ValueError(_WANTED) from None
    if not host or port is None or url.raw_path_qs not in {"", "/"} or url.raw_fragment:
        raise ValueError(_WANTED)
    user = None if url.raw_user is None else unquote(url.raw_user)
    return Proxy(scheme, host.rstrip(".").lower(), port, user, unquote(url.raw_password or ""))
