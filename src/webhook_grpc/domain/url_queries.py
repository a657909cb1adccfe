"""The query of a webhook's URL: often a credential (`?key=…`), so sealed at rest like the values of own headers.

A row has the URL with HIDDEN in place of the query, and the sealed query beside it. Any other query there is in the
clear: an older process wrote it, and it counts. HIDDEN stands in no URL that a caller gives: those are ASCII.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from .model import Webhook
from .request_headers import HIDDEN
from .sealing import Purpose, Sealer, UnsealError

_SEALED: Final = f"?{HIDDEN}"


def is_sealed(url: str) -> bool:
    """Returns whether the sealed query is needed to call this URL."""
    return url.endswith(_SEALED)


def is_clear(url: str) -> bool:
    """Returns whether the URL has a query that is not sealed. An empty one is none."""
    return bool(url.partition("?")[2]) and not is_sealed(url)


def hidden(url: str) -> str:
    """Returns the URL with HIDDEN in place of its query: what is stored beside the sealed query."""
    return url.partition("?")[0] + _SEALED


def sealed(sealer: Sealer, url: str, customer_id: int, webhook_id: int, entropy: bytes) -> bytes:
    """Returns the sealed query of a URL. `entropy`: as for Sealer.seal."""
    return sealer.seal(url.partition("?")[2], customer_id, webhook_id, entropy, Purpose.QUERY)


def opened(sealer: Sealer, webhook: Webhook) -> str:
    """Returns a webhook's URL with its query. Raises KeyMissing, and UnsealError for a query that was changed."""
    if not is_sealed(webhook.url):
        return webhook.url
    if webhook.sealed_query is None:
        raise UnsealError("the query of its URL is missing")
    query = sealer.open(webhook.sealed_query, webhook.customer_id, webhook.webhook_id, Purpose.QUERY)
    return webhook.url.removesuffix(HIDDEN) + query


def values_of(url: str) -> tuple[str, ...]:
    """Returns what a receiver could send back of a URL's query: the whole, and the value of each parameter."""
    query = url.partition("?")[2]
    if not query:
        return ()
    as_sent = [part.partition("=")[2] for part in query.split("&")]
    return (query, *as_sent, *(value for _, value in parse_qsl(query, errors="replace")))
