"""Writes families as text for Prometheus. Only this module imports prometheus_client; the first reader loads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from webhook_grpc.domain.tally import Histogram

from .families import Family, Source

_encode, CONTENT_TYPE = choose_encoder("")


class Writer:
    """Writes all that some sources show. It has a registry of its own: several may be in one Python process."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Sources(sources))

    def text(self) -> bytes:
        """Returns all figures as they are now."""
        return _encode(self._registry)


def written(families: Sequence[Family]) -> bytes:
    """Returns the text of families that stand for themselves."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return _encode(registry)


class _Families(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return map(_metric, self._families)


class _Sources(Collector):
    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        for source in self._sources:
            yield from map(_metric, source.collect())


def _metric(family: Family) -> Metric:
    name, what, labels = family.name, family.what, family.labels
    if family.kind == "info":
        [texts] = family.values
        return InfoMetricFamily(name, what, dict(zip(labels, texts, strict=True)))
    numbers = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(name, what, labels=labels)
    spread = HistogramMetricFamily(name, what, labels=labels)
    for texts, value in family.values.items():
        if isinstance(value, Histogram):
            bounds = [*map(repr, value.bounds), "+Inf"]
            spread.add_metric(texts, list(zip(bounds, accumulate(value.counts), strict=True)), value.total)
        else:
            numbers.add_metric(texts, value)
    return spread if family.kind == "histogram" else numbers
