"""The rows of `make bench`, in the order in which they run: what a reader looks for first comes first."""

from __future__ import annotations

from typing import Final

from benchmarks.parts.figures import Row

from . import (
    clients,
    cpu,
    end_to_end,
    fan_out,
    growth,
    guarded,
    https,
    isolation,
    latency,
    many_webhooks,
    noisy,
    publish_batch,
    publish_one,
    singly,
    take_over,
    watch,
)

ROWS: Final[dict[str, Row]] = {
    module.ROW.name: module.ROW
    for module in (
        end_to_end,
        singly,
        cpu,
        guarded,
        many_webhooks,
        https,
        fan_out,
        publish_one,
        publish_batch,
        clients,
        latency,
        watch,
        isolation,
        noisy,
        take_over,
        growth,
    )
}
