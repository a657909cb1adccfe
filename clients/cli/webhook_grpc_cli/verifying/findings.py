"""Judges both signatures of a request, and names the mistake that explains a wrong one. Pure: `now` comes in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from . import variants
from .requests import Received
from .variants import Variant

STANDARD: Final = "webhook-signature"
OF_BODY: Final = "X-Webhook-Signature"
_NEEDED: Final = ("webhook-id", "webhook-timestamp", STANDARD)
_SEARCHED_SECONDS: Final = 3600  # before and after the time given, for the time that was signed
_SEARCHED_BYTES: Final = 64 * 1024 * 1024  # are hashed for that at most: a fraction of a second
_MISTAKES_MAX: Final = 2  # at once: more would find what nobody has done

_NOTHING_FITS: Final = "Another secret, or another body: none of the usual mistakes explains it."
_REWRITTEN: Final = (
    "The JSON of the body was parsed and written again, so its bytes are lost: verify them as they came."
)
_OTHER_REQUEST: Final = (
    "Body and secret are right: webhook-id, webhook-timestamp or webhook-signature is that of another request."
)
_BEFORE_ROTATION: Final = (
    "While two secrets sign, X-Webhook-Signature is made with the one before the rotation: accept both until then."
)
_ROTATED: Final = "The secret is the one before the rotation: it signs only until the overlap ends."

State = Literal["right", "wrong", "old", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one signature: `old` is genuine, but signed too long ago (or in the future)."""

    header: str
    state: State
    detail: str = ""
    """A few words, such as the age."""
    causes: Sequence[str] = ()
    """Sentences that say why it is wrong, or what to know although it is right."""


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` in Unix seconds, and how far from it a signature may be, in seconds."""

    now: float
    tolerance: float = 300.0


def findings(received: Received, secrets: Sequence[str], clock: Clock) -> list[Finding]:
    """Returns the verdict on `webhook-signature` and on `X-Webhook-Signature`. The newest of the secrets comes first.

    At most two mistakes at once are tried. Raises ValueError if there is no secret, or an empty one.
    """
    if not secrets or not all(secrets):
        raise ValueError("there is no secret to verify with")
    of_body = _of_body(received, secrets)
    standard = _standard(received, secrets, clock)
    return [_with_other(standard, of_body, received), _with_other(of_body, standard, received)]


def is_right(results: Iterable[Finding]) -> bool:
    """Returns whether there is a signature, and each that is there is right."""
    states = [finding.state for finding in results if finding.state != "missing"]
    return bool(states) and all(state == "right" for state in states)


def _with_other(finding: Finding, other: Finding, received: Received) -> Finding:
    """Adds what only both signatures together say."""
    if finding.state != "wrong" or finding.causes:
        return finding
    cause = _NOTHING_FITS
    if other.state in ("right", "old"):
        has_two = len(received.header(STANDARD).split()) > 1
        cause = _OTHER_REQUEST if finding.header == STANDARD else (_BEFORE_ROTATION if has_two else _NOTHING_FITS)
    elif variants.is_rewritten(received.body):
        cause = _REWRITTEN
    return replace(finding, causes=(cause,))


def _of_body(received: Received, secrets: Sequence[str]) -> Finding:
    given = received.header(OF_BODY)
    if not given:
        return Finding(OF_BODY, "missing")
    if not given.startswith("sha256="):
        return Finding(OF_BODY, "wrong", causes=("The value is not `sha256=` and 64 hexadecimal digits.",))

    def fits(values: Sequence[Variant]) -> bool:
        key, body = values
        made = hmac.digest(key.value, body.value, hashlib.sha256).hex()
        return hmac.compare_digest(f"sha256={made}".encode(), given.lower().encode())

    bodies = list(variants.bodies(received.body))
    for number, secret in enumerate(secrets):
        if (mistakes := _first_fit(fits, (list(variants.body_keys(secret)), bodies))) is not None:
            return _found(OF_BODY, mistakes, number)
    return Finding(OF_BODY, "wrong")


def _found(header: str, mistakes: Sequence[str], number: int) -> Finding:
    if mistakes:
        return Finding(header, "wrong", causes=mistakes)
    notes = (f"Secret {number + 1} of those given has made it.",) if number else ()
    return Finding(header, "right", causes=notes)


def _standard(received: Received, secrets: Sequence[str], clock: Clock) -> Finding:
    missing = [name for name in _NEEDED if not received.header(name)]
    if len(missing) == len(_NEEDED):
        return Finding(STANDARD, "missing")
    if missing:
        return Finding(STANDARD, "wrong", causes=(f"The request has no {' and no '.join(missing)}.",))
    trial = _Trial(received)
    if trial.malformed:
        return Finding(STANDARD, "wrong", causes=(trial.malformed,))
    for number, secret in enumerate(secrets):
        if (mistakes := trial.mistakes(secret)) is not None:
            return _judged_by_time(_found(STANDARD, mistakes, number), trial, clock)
    return _at_other_time(trial, secrets)


def _judged_by_time(finding: Finding, trial: _Trial, clock: Clock) -> Finding:
    if finding.state != "right":
        return finding
    age = clock.now - trial.signed_at
    detail = f"{duration_text(age)} old" if age >= 0 else f"{duration_text(-age)} in the future"
    if abs(age) > clock.tolerance:
        cause = (
            "Genuine, but older than the tolerance: it was sent again, or had to wait."
            if age > 0
            else "Genuine, but signed later than now: check the clock of this machine."
        )
        return replace(finding, state="old", detail=detail, causes=(cause, *finding.causes))
    notes = (_ROTATED,) if trial.fitted > 0 and not finding.causes else finding.causes
    return replace(finding, detail=detail, causes=notes)


def _at_other_time(trial: _Trial, secrets: Sequence[str]) -> Finding:
    for secret in secrets:
        if (signed_at := trial.other_time(secret)) is not None:
            shift = signed_at - trial.signed_at
            words = f"{duration_text(abs(shift))} {'later' if shift > 0 else 'earlier'}"
            cause = f"The webhook-timestamp is that of another request: {signed_at} was signed, {words}."
            return Finding(STANDARD, "wrong", causes=(cause,))
    return Finding(STANDARD, "wrong")


class _Trial:
    """Tries what may have been signed for the value of `webhook-signature`."""

    def __init__(self, received: Received) -> None:
        self._id, self._time = received.header("webhook-id"), received.header("webhook-timestamp")
        self._delivery_id = received.header("x-webhook-delivery")
        self._body = received.body
        self._bodies = list(variants.bodies(received.body))
        parts = received.header(STANDARD).split()
        self._given = [part.removeprefix("v1,") for part in parts if part.startswith("v1,")]
        self.malformed = _why_malformed(received.header(STANDARD), self._given, self._time)
        """What is wrong with the form of the headers, in a sentence; empty if nothing is."""
        self.fitted = 0
        """Which of the signatures fitted last, from 0."""

    @property
    def signed_at(self) -> int:
        """Returns the time given, in Unix seconds."""
        return int(self._time)

    def mistakes(self, secret: str) -> Sequence[str] | None:
        """Returns the mistakes that explain the signature, none if it is right, None if nothing fits."""
        keys = list(variants.standard_keys(secret))
        ids = list(variants.ids(self._id, self._delivery_id))
        return _first_fit(self._fits, (keys, ids, list(variants.times(self._time)), self._bodies))

    def _fits(self, values: Sequence[Variant]) -> bool:
        key, message_id, time, body = values
        return self._is_signed(key.value, b"%s.%s.%s" % (message_id.value, time.value, body.value))

    def _is_signed(self, key: bytes, signed: bytes) -> bool:
        made = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        for number, given in enumerate(self._given):
            if hmac.compare_digest(made, given.encode()):
                self.fitted = number
                return True
        return False

    def other_time(self, secret: str) -> int | None:
        """Returns the second near the one given that was signed, or None."""
        key = next(variants.standard_keys(secret), None)
        if key is None:
            return None
        head = f"{self._id}.".encode()
        for second in self._seconds_near():
            if self._is_signed(key.value, b"%s%d.%s" % (head, second, self._body)):
                return second
        return None

    def _seconds_near(self) -> Iterator[int]:
        reach = min(_SEARCHED_SECONDS, _SEARCHED_BYTES // (2 * (len(self._body) + 64)))
        for distance in range(1, reach + 1):
            yield self.signed_at - distance
            yield self.signed_at + distance


def _why_malformed(value: str, v1: Sequence[str], time: str) -> str:
    if not (time.isascii() and time.isdigit() and len(time) <= 16):
        return "The webhook-timestamp is not a number of seconds."
    if v1:
        return ""
    if value.startswith("sha256="):
        return "This is a value of X-Webhook-Signature: webhook-signature is `v1,` and base64."
    version, comma, _ = value.partition(",")
    if comma and version.startswith("v") and version.isalnum():
        return f"All signatures are of version {version[:16]}: the service makes v1."
    return "The webhook-signature is not `v1,` and base64, several with a space between them."


def _first_fit(fits: Callable[[Sequence[Variant]], bool], choices: Sequence[Sequence[Variant]]) -> Sequence[str] | None:
    """Returns the mistakes of the first combination that fits, the fewest first, or None."""
    for count in range(_MISTAKES_MAX + 1):
        for places in itertools.combinations(range(len(choices)), count):
            options = [kinds[1:] if place in places else kinds[:1] for place, kinds in enumerate(choices)]
            for values in itertools.product(*options):
                if fits(values):
                    return tuple(variant.mistake for variant in values if variant.mistake)
    return None


def duration_text(seconds: float) -> str:
    """Returns a duration as people say it: `12 s`, `7 min`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
