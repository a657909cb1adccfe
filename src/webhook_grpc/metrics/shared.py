"""The figures of all processes that share an address, whichever of them is asked."""

from __future__ import annotations

from webhook_grpc.process.family.siblings import Siblings

from .families import counters, gauges
from .merging import merged
from .metrics import Metrics


class SharedMetrics:
    """Shows the figures of this process and of its siblings, each sample with the label `process`."""

    def __init__(self, own: Metrics, siblings: Siblings) -> None:
        self._own = own
        self._siblings = siblings

    @property
    def content_type(self) -> str:
        """Returns the value for the header `Content-Type`."""
        return self._own.content_type

    async def text(self) -> bytes:
        """Returns all figures. A process that does not answer in time is missing, and `webhook_process_up` is 0 for it.

        Raises TimeoutError if the parent does not answer.
        """
        from .writing import written  # noqa: PLC0415 - loaded by the first reader of figures

        found = await self._siblings.all_figures()
        up = {number: float(number in found.texts) for number in found.restarts}
        restarts = {(number,): float(count) for number, count in found.restarts.items()}
        of_parent = written(
            [
                gauges("process_up", "Whether the process has shown its figures.", "process", up),
                counters("process_restarts", "How often the process was started again.", ("process",), restarts),
            ]
        )
        return merged(found.texts).encode() + of_parent
