"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the name of the span in which a producer published.

`tracestate`, which goes with `traceparent`, is not kept: docs/decisions/0040-traces.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Self

from .record import record

# Version 00, and no other: what a later one may carry is not known, and it would be stored and passed on.
_VERSION_00: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_KNOWN_FLAGS: Final = 0x03  # sampled, and random trace id; the others have to be cleared (level 2, section 4.3)


@record
class Traceparent:
    """Names a span: what the header `traceparent` says."""

    trace_id: int
    span_id: int
    flags: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Returns what a header says, or None if it is not valid."""
        match = _VERSION_00.fullmatch(text)
        if match is None:
            return None
        trace_id, span_id, flags = (int(part, 16) for part in match.groups())
        return cls(trace_id, span_id, flags & _KNOWN_FLAGS)

    def __str__(self) -> str:
        """Returns the header."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def read_traceparent(values: Sequence[str | bytes]) -> str | None:
    """Returns the `traceparent` of a call, given all headers of that name.

    None if there is none, if it is not valid, or if there are several: these are ignored (section 3.2), and no call is
    refused because of them.
    """
    match values:
        case [str(text)] if _VERSION_00.fullmatch(text):
            return text
        case _:
            return None
