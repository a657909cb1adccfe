"""One call as it is made, which is repeated by the client: bounded in time, and reported."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

_REQUEST_ID_KEY: Final = "x-request-id"
_NO_ANSWER: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_WORD: Final = re.compile("[A-Z][a-z]*")
_READS: Final = frozenset({"Get", "List", "Explain", "Watch"})
_SUBJECTS: Final = ("delivery_id", "replay_id", "webhook_id")
_TRY_SECONDS_MIN: Final = 0.05


def change_of(request: Any) -> str:
    """Returns what a request changes or sends, such as `pause webhook 12`; empty for one that only reads."""
    words = _WORD.findall(request.DESCRIPTOR.name.removesuffix("Request"))
    if words[0] in _READS or getattr(request, "dry_run", False):
        return ""
    subject = next((getattr(request, name) for name in _SUBJECTS if getattr(request, name, None)), "")
    return f"{' '.join(words).lower()} {subject}".rstrip()


class Traced:
    """A method of the stub that says what becomes of its calls. All its tries together take `seconds` at most."""

    def __init__(
        self,
        method: Any,
        seconds: float,
        address: str,
        say: Callable[[str], None],
        *,
        is_verbose: bool,
        may_repeat: bool,
    ) -> None:
        self._method = method
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._address = address
        self._say = say
        self._is_verbose = is_verbose
        self._may_repeat = may_repeat
        self._failures = 0

    def __call__(self, request: Any, /, *, timeout: float, metadata: Any) -> Any:
        """Makes one try. Raises grpc.RpcError."""
        started = time.monotonic()
        seconds = min(timeout, max(_TRY_SECONDS_MIN, self._until - started))
        try:
            answer, call = self._method.with_call(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            self._report(request, error, started)
            self._failures += 1
            raise
        self._report(request, call, started)
        return answer

    def pause_if_too_much(self, code: grpc.StatusCode, asked_seconds: float | None) -> float | None:
        """Returns how long the service asks to be left alone, None if it does not, or for longer than there is."""
        if code is not grpc.StatusCode.RESOURCE_EXHAUSTED or asked_seconds is None:
            return None
        return asked_seconds if time.monotonic() + asked_seconds < self._until else None

    def _report(self, request: Any, call: Any, started: float) -> None:
        if self._is_verbose:
            trailing: dict[str, Any] = dict(call.trailing_metadata() or ())
            milliseconds = (time.monotonic() - started) * 1000
            words = [request.DESCRIPTOR.name.removesuffix("Request"), call.code().name, f"{milliseconds:.1f} ms"]
            self._say("  ".join([*words, f"request {trailing.get(_REQUEST_ID_KEY, '-')}"]))
        elif call.code() in _NO_ANSWER and self._may_repeat and not self._failures:
            self._say(f"{self._address} does not answer; trying for {self._seconds:g} s …")
