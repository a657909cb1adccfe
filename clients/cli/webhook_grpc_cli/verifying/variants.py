"""What a body, a secret, an id or a time may have been before somebody changed it without noticing. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

_BOM: Final = b"\xef\xbb\xbf"
_PREFIX: Final = "whsec_"
_PARTS: Final = ("event", "timestamp", "data")  # of a body, in this order
_MILLISECONDS_DIGITS: Final = 13  # seconds have ten until the year 2286
_SPACING: Final = ((",", ":"), (", ", ": "))


class Variant(NamedTuple):
    """A value, and the sentence that explains it. Empty: it is the value as given."""

    value: bytes
    mistake: str


def bodies(given: bytes) -> Iterator[Variant]:
    """Yields the body as given, then as it may have been before one or two of the usual changes."""
    seen = {given}
    level = [Variant(given, "")]
    yield level[0]
    for _ in range(2):
        level = [
            Variant(changed, _joined(before.mistake, mistake))
            for before in level
            for changed, mistake in _before_one_change(before.value)
            if changed not in seen and not seen.add(changed)
        ]
        yield from level
    mistake = "The JSON of the body was parsed and written again: verify the bytes as they came."
    yield from (Variant(text, mistake) for text in _rewritten(given) if text not in seen)


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _before_one_change(body: bytes) -> Iterator[Variant]:
    if body.endswith(b"\n"):
        without = body.removesuffix(b"\n").removesuffix(b"\r")
        yield Variant(without, "A final newline was added to the body.")
    else:
        yield Variant(body + b"\n", "The body has lost its final newline.")
    if b"\r\n" in body:
        yield Variant(body.replace(b"\r\n", b"\n"), "Line ends of the body were changed to CRLF.")
    elif b"\n" in body:
        yield Variant(body.replace(b"\n", b"\r\n"), "Line ends of the body were changed from CRLF.")
    if body.startswith(_BOM):
        yield Variant(body.removeprefix(_BOM), "A byte order mark (UTF-8 BOM) was put before the body.")
    yield from _decoded_body(body)


def _decoded_body(body: bytes) -> Iterator[Variant]:
    try:
        decoded = base64.b64decode(b"".join(body.split()), validate=True)
    except ValueError:
        return
    if decoded:
        yield Variant(decoded, "The body is in base64: decode it first.")


def _rewritten(body: bytes) -> Iterator[bytes]:
    """Yields what the service may have sent, if this is the same JSON in other words."""
    try:
        value: Any = json.loads(body)
        for dump in _writers():
            yield dump(value).encode()
        if isinstance(value, dict) and set(value) == set(_PARTS):  # pyright: ignore[reportUnknownArgumentType]
            head = json.dumps({name: value[name] for name in _PARTS[:2]}, separators=_SPACING[0])
            for dump in _writers():
                yield f'{head[:-1]},"data":{dump(value["data"])}}}'.encode()
    except (ValueError, RecursionError):  # no JSON, or half a surrogate in it
        return


def _writers() -> Iterator[Callable[[Any], str]]:
    for separators in _SPACING:
        for is_ascii in (False, True):
            yield json.JSONEncoder(separators=separators, ensure_ascii=is_ascii).encode


def is_rewritten(body: bytes) -> bool:
    """Returns whether a body is JSON with the parts of the service's bodies, but not in its writing."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not (isinstance(value, dict) and set(value) == set(_PARTS)):  # pyright: ignore[reportUnknownArgumentType]
        return False
    head = json.dumps({name: value[name] for name in _PARTS[:2]}, separators=_SPACING[0])
    return not body.startswith(f'{head[:-1]},"data":'.encode())


def secrets(given: str) -> Iterator[tuple[str, str]]:
    """Yields pairs of a secret and the mistake: as given, then as it may have been meant."""
    yield given, ""
    bare = given.strip(" \t\r\n\"'")
    blanks = "The secret has blanks, line breaks or quotes around it." if bare != given else ""
    if blanks:
        yield bare, blanks
    for text, mistake in _meant(bare):
        yield text, _joined(blanks, mistake)


def _meant(secret: str) -> Iterator[tuple[str, str]]:
    if secret.startswith("v1," + _PREFIX):
        secret = secret.removeprefix("v1,")
        yield secret, "The secret begins with `v1,`, which belongs to signatures."
    key = secret.removeprefix(_PREFIX)
    yield from _decoded_secret(key)
    standard = key.replace("-", "+").replace("_", "/")
    padded = standard.rstrip("=") + "=" * (-len(standard.rstrip("=")) % 4)
    prefix_lost = "" if secret.startswith(_PREFIX) else "The secret has lost its first characters, `whsec_`."
    if prefix_lost:
        yield _PREFIX + key, prefix_lost
    if standard != key:
        mistake = "The secret is written as URL-safe base64 (`-` and `_` for `+` and `/`)."
        yield _PREFIX + padded, _joined(prefix_lost, mistake)
    elif padded != key:
        yield _PREFIX + padded, _joined(prefix_lost, "The secret has lost the `=` at its end.")


def _decoded_secret(key: str) -> Iterator[tuple[str, str]]:
    try:
        text = base64.b64decode(key, validate=True).decode()
    except ValueError:
        return
    if text and text.isprintable():  # the keys that the service makes are random bytes
        yield text, "The secret is a text in base64: take the text itself."


def standard_keys(given: str) -> Iterator[Variant]:
    """Yields keys of `webhook-signature`: what base64 behind `whsec_` stands for, or the bytes of free text."""
    for secret, mistake in secrets(given):
        try:
            yield Variant(_standard_key(secret), mistake)
        except ValueError:  # it is no base64, or not even ASCII
            continue
    if given.startswith(_PREFIX):
        wrong = "The key of webhook-signature is what the base64 behind `whsec_` stands for: this value was made with"
        yield Variant(given.encode(), f"{wrong} the whole text as key.")
        yield Variant(given.removeprefix(_PREFIX).encode(), f"{wrong} the text behind `whsec_` as key.")


def body_keys(given: str) -> Iterator[Variant]:
    """Yields keys of `X-Webhook-Signature`: the bytes of the whole secret."""
    for secret, mistake in secrets(given):
        yield Variant(secret.encode(), mistake)
    if given.startswith(_PREFIX):
        whole = "The key of X-Webhook-Signature is the whole secret, `whsec_` included: this value was made"
        yield Variant(given.removeprefix(_PREFIX).encode(), f"{whole} without it.")
        try:
            yield Variant(_standard_key(given), f"{whole} with what the base64 behind it stands for.")
        except ValueError:
            return


def _standard_key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()


def ids(given: str, delivery_id: str) -> Iterator[Variant]:
    """Yields the id as given, and the one of the delivery that X-Webhook-Delivery names."""
    yield Variant(given.encode(), "")
    kind, _, rest = delivery_id.partition("_")
    own = f"evt_{rest.partition('_')[0]}"
    if kind == "dlv" and own != given:
        yield Variant(own.encode(), f"The webhook-id is that of another request: X-Webhook-Delivery belongs to {own}.")


def times(given: str) -> Iterator[Variant]:
    """Yields the time that was signed: as given, and in seconds if it is in milliseconds."""
    if not (given.isascii() and given.isdigit() and len(given) >= _MILLISECONDS_DIGITS):
        yield Variant(given.encode(), "")
        return
    mistake = "The webhook-timestamp is in milliseconds: it has to be in seconds."
    yield Variant(given.encode(), mistake)
    yield Variant(given[:-3].encode(), mistake)
