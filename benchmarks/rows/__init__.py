"""The rows of `make bench`, in the order in which they run: what a reader looks for first comes first."""

from __future__ import annotations

from typing import Final

from benchmarks.parts.figures import Row

from . import cpu, end_to_end, latency, singly

ROWS: Final[dict[str, Row]] = {
    module.ROW.name: module.ROW
    for module in (
        end_to_end,
        singly,
        cpu,
        latency,
    )
}
