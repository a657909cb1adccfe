"""A webhook's own headers: their values are secrets of the customer, sealed at rest and shown to nobody.

A webhook has the names with HIDDEN in place of each sealed value, and all sealed values together. A name that has
another value is in the clear: an older process wrote it, and that value counts. HIDDEN is no value that a header may
have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from .errors import Violation
from .model import Webhook
from .request_headers import HIDDEN
from .sealing import Purpose, Sealer, UnsealError

FIELD: Final = "webhook.headers"


def names_only(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the same names, each with HIDDEN: what is stored beside the sealed values, and what callers see."""
    return dict.fromkeys(headers, HIDDEN)


def is_clear(headers: Mapping[str, str]) -> bool:
    """Returns whether a value is not sealed."""
    return any(value != HIDDEN for value in headers.values())


def is_sealed(headers: object) -> bool:
    """Returns whether the sealed values are needed to send these headers. What is no mapping at all is not sealed."""
    return isinstance(headers, Mapping) and HIDDEN in headers.values()


def sealed(sealer: Sealer, headers: Mapping[str, str], customer_id: int, webhook_id: int, entropy: bytes) -> bytes:
    """Returns the sealed values of headers. `entropy`: as for Sealer.seal."""
    text = orjson.dumps(dict(headers)).decode("utf-8")
    return sealer.seal(text, customer_id, webhook_id, entropy, Purpose.HEADERS)


def opened(sealer: Sealer, webhook: Webhook) -> dict[str, str]:
    """Returns a webhook's own headers with their values. Raises KeyMissing, and UnsealError for changed ones."""
    headers = dict(webhook.headers)
    if not is_sealed(headers):
        return headers
    if webhook.sealed_headers is None:
        raise UnsealError("the values of its headers are missing")
    text = sealer.open(webhook.sealed_headers, webhook.customer_id, webhook.webhook_id, Purpose.HEADERS)
    values: Mapping[str, str] = orjson.loads(text)
    try:
        return {name: values[name] if value == HIDDEN else value for name, value in headers.items()}
    except KeyError:
        raise UnsealError("the value of a header is missing") from None


def replaced(given: Mapping[str, str], before: Mapping[str, str], violations: list[Violation]) -> dict[str, str]:
    """Returns the headers that a caller gives, HIDDEN replaced by the value that the header has had before.

    That is unambiguous: HIDDEN is no value of a header, and a name is there once, in whichever case (RFC 9110 5.1).
    """
    known = {name.lower(): value for name, value in before.items()}
    for name, value in given.items():
        if value == HIDDEN and name.lower() not in known:
            violations.append(Violation(f"{FIELD}[{name}]", f"`{HIDDEN}` keeps a value, and this header has none"))
    return {name: known.get(name.lower(), "") if value == HIDDEN else value for name, value in given.items()}
