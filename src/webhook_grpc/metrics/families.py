"""Families of figures: plain numbers with names and labels. `writing.py` makes text of them when somebody reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from webhook_grpc.domain.record import record
from webhook_grpc.domain.tally import Histogram

PREFIX: Final = "webhook_"
Labels = tuple[str, ...]


@record
class Family:
    """One figure, with a value for each combination of the values that its labels have. `info`: the labels say all."""

    kind: Literal["counter", "gauge", "histogram", "info"]
    name: str
    what: str
    labels: Labels
    values: Mapping[Labels, float] | Mapping[Labels, Histogram]


class Source(Protocol):
    """Something whose figures are shown."""

    def collect(self) -> list[Family]:
        """Returns the figures as they are now. Reads attributes, and waits for nothing."""
        ...


def counter(name: str, what: str, value: float) -> Family:
    """Returns a number that only grows while the process runs."""
    return counters(name, what, (), {(): value})


def counters(name: str, what: str, labels: Labels, values: Mapping[Labels, float]) -> Family:
    """Returns a number that only grows for each value of the labels."""
    return Family("counter", PREFIX + name, what, labels, values)


def gauge(name: str, what: str, value: float | None) -> Family:
    """Returns a number as it is now; without a sample if it is not known here."""
    return Family("gauge", PREFIX + name, what, (), {} if value is None else {(): value})


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Family:
    """Returns a number as it is now for each value of a label."""
    return Family("gauge", PREFIX + name, what, (label,), {(text,): value for text, value in values.items()})


def histogram(name: str, what: str, values: Histogram) -> Family:
    """Returns how values are distributed."""
    return histograms(name, what, (), {(): values})


def histograms(name: str, what: str, labels: Labels, values: Mapping[Labels, Histogram]) -> Family:
    """Returns how values are distributed for each value of the labels."""
    return Family("histogram", PREFIX + name, what, labels, values)


def info(name: str, what: str, label: str, text: str) -> Family:
    """Returns a text that stays as it is."""
    return Family("info", PREFIX + name, what, (label,), {(text,): 1})
