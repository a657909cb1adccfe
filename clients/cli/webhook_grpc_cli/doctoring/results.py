"""What a check has found, and the judgements that need no I/O. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from webhook_grpc_cli.output.look import span_text
from webhook_grpc_client.connecting import is_loopback

State = Literal["ok", "warning", "problem", "skipped"]
MARKS: Final = {"ok": "✓", "warning": "!", "problem": "✕", "skipped": "·"}
_INDENT: Final = " " * 16
_DETAIL_WIDTH: Final = 48  # a longer one has its remedy on the next line

CLOCK_SECONDS_FINE: Final = 5.0
CLOCK_SECONDS_MAX: Final = 300.0  # the tolerance of receivers: Standard Webhooks
CERTIFICATE_DAYS_FINE: Final = 14.0


@dataclass(frozen=True, slots=True)
class Result:
    """One line: `remedy` is what to do, a command where there is one; empty if nothing is to be done."""

    check: str
    state: State
    detail: str
    remedy: str = ""


def lines(result: Result, width: int) -> list[str]:
    """Returns the lines that a person reads; the remedy stands beside the detail where there is room."""
    line = f"{MARKS[result.state]} {result.check:<14}{result.detail}"
    if not result.remedy:
        return [line]
    beside = f"{MARKS[result.state]} {result.check:<14}{result.detail:<{_DETAIL_WIDTH}}  {result.remedy}"
    has_room = len(result.detail) <= _DETAIL_WIDTH and len(beside) <= width
    return [beside] if has_room else [line, f"{_INDENT}{result.remedy}"]


def summary(results: list[Result]) -> str:
    """Returns how many problems and warnings there are."""
    counts = ((sum(result.state == state for result in results), state) for state in ("problem", "warning"))
    return (
        ", ".join(f"{count} {word}" + ("" if count == 1 else "s") for count, word in counts if count) or "no problems"
    )


def clocks(server: float, before: float, after: float) -> Result:
    """Judges this machine's clock; all in Unix seconds, `server` was read between `before` and `after`.

    What the call itself took is no difference.
    """
    ahead = before - server if before > server else min(0.0, after - server)
    if abs(ahead) <= CLOCK_SECONDS_FINE:
        return Result("clocks", "ok", f"this machine and the service differ by {span_text(abs(ahead))} at most")
    detail = f"this machine is {span_text(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the service"
    state: State = "warning" if abs(ahead) <= CLOCK_SECONDS_MAX else "problem"
    return Result("clocks", state, detail, "signatures are refused beyond 5 min: set up NTP")


def proxy_of(address: str, environment: Mapping[str, str]) -> str:
    """Returns the variable that names a proxy for calls to an address, empty if they go there themselves."""
    host = address.rpartition(":")[0].strip("[]")
    if not host or is_loopback(address):
        return ""
    without = (environment.get("no_grpc_proxy") or environment.get("no_proxy") or "").split(",")
    if any(host.endswith(name.strip()) for name in without if name.strip()):
        return ""
    return next((name for name in ("grpc_proxy", "https_proxy", "http_proxy") if environment.get(name)), "")


def certificate_words(expires: float, now: float) -> tuple[State, str]:
    """Returns how long a certificate is valid; both in Unix seconds."""
    days = (expires - now) / 86_400
    if days <= 0:
        return "problem", "its certificate has expired"
    return ("ok" if days > CERTIFICATE_DAYS_FINE else "warning"), f"certificate for {days:.0f} more days"
