"""Makes families of samples, as prometheus_client writes them, out of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from webhook_grpc.domain.tally import Histogram

PREFIX: Final = "webhook_"
Labels = tuple[str, ...]


class Source(Protocol):
    """Something whose figures are shown."""

    def collect(self) -> list[Metric]:
        """Returns the figures as they are now. Reads attributes, and waits for nothing."""
        ...


def counter(name: str, what: str, value: float) -> Metric:
    """Returns a number that only grows while the process runs."""
    return CounterMetricFamily(PREFIX + name, what, value=value)


def counters(name: str, what: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    """Returns a number that only grows for each value of the labels."""
    family = CounterMetricFamily(PREFIX + name, what, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def gauge(name: str, what: str, value: float | None) -> Metric:
    """Returns a number as it is now; without a sample if it is not known here."""
    family = GaugeMetricFamily(PREFIX + name, what)
    if value is not None:
        family.add_metric((), value)
    return family


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """Returns a number as it is now for each value of a label."""
    family = GaugeMetricFamily(PREFIX + name, what, labels=(label,))
    for label_value, value in values.items():
        family.add_metric((label_value,), value)
    return family


def histogram(name: str, what: str, values: Histogram) -> Metric:
    """Returns how values are distributed."""
    return histograms(name, what, (), {(): values})


def histograms(name: str, what: str, labels: Labels, values: Mapping[Labels, Histogram]) -> Metric:
    """Returns how values are distributed for each value of the labels."""
    family = HistogramMetricFamily(PREFIX + name, what, labels=labels)
    for label_values, one in values.items():
        bounds = [*map(repr, one.bounds), "+Inf"]
        family.add_metric(label_values, list(zip(bounds, accumulate(one.counts), strict=True)), one.total)
    return family
