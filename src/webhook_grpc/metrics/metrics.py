"""All figures of a process, as text for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .families import Source

FRESH_SECONDS: Final = 0.5  # so long a text is given again: whoever reads without a pause costs no more


class Metrics:
    """Shows what its sources know. It has a registry of its own: several may be in one Python process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._encode, self.content_type = choose_encoder("")
        self._text = b""
        self._written_at = -FRESH_SECONDS

    def show(self, sources: Sequence[Source]) -> None:
        """Registers all that is shown. To be called once."""
        ProcessCollector(registry=self._registry)
        self._registry.register(_Sources(sources))

    async def text(self) -> bytes:
        """Returns all figures, at most FRESH_SECONDS old. Waits for nothing."""
        return self.text_now()

    def text_now(self) -> bytes:
        """Returns all figures, at most FRESH_SECONDS old."""
        now = time.monotonic()
        if now - self._written_at >= FRESH_SECONDS:
            self._text, self._written_at = self._encode(self._registry), now
        return self._text


def written(families: Sequence[Metric]) -> bytes:
    """Returns the text of families that stand for themselves."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return choose_encoder("")[0](registry)


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _Sources(Collector):
    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        for source in self._sources:
            yield from source.collect()
