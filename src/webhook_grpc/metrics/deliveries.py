"""Events and deliveries: what was published, sent and settled, and what waits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from webhook_grpc.engine.engine import Engine
from webhook_grpc.engine.health.figures import Figures
from webhook_grpc.hub.publisher import Publisher

from .families import Family, Labels, counter, counters, gauge, gauges, histogram, histograms

_Word = TypeVar("_Word", bound=Enum)


class PublishFigures:
    """Shows what was published."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def collect(self) -> list[Family]:
        """Returns the figures."""
        tally = self._publisher.tally
        events: dict[Labels, float] = {
            ("new",): tally.new_count,
            ("duplicate",): tally.duplicate_count,
            ("refused",): tally.refused_count,
        }
        return [
            counters("events", "Events that were published through the API.", ("result",), events),
            counter("deliveries_created", "Deliveries of the new ones.", tally.delivery_count),
            gauge("events_waiting", "Events that wait to be stored.", self._publisher.waiting_count),
        ]


class DeliveryFigures:
    """Shows what the engine does."""

    def __init__(self, engine: Engine, publisher: Publisher) -> None:
        self._engine = engine
        self._publisher = publisher

    def collect(self) -> list[Family]:
        """Returns the figures."""
        tally, published, shards = self._engine.tally, self._publisher.tally, self._engine.shards
        sizes = {
            ("publish",): published.single_sizes,
            ("publish batches",): published.batch_sizes,
            ("settle",): tally.settle_sizes,
            ("command",): tally.command_sizes,
        }
        return [
            counters("attempts", "Attempts, once their results are stored.", ("outcome",), _by_name(tally.outcomes)),
            histogram("attempt_seconds", "How long receivers took to answer, or not to.", tally.attempt_seconds),
            histogram("first_attempt_seconds", "From publishing to the first attempt.", tally.first_attempt_seconds),
            counters("deliveries_ended", "Deliveries that ended.", ("status",), _by_name(tally.endings)),
            histogram("delivery_seconds", "From publishing to the end of the delivery.", tally.ending_seconds),
            counters("webhooks_disabled", "Webhooks disabled for their receivers.", ("why",), _by_name(tally.disabled)),
            histograms("statement_rows", "Events, results or commands in one statement.", ("statement",), sizes),
            gauge("attempts_in_flight", "Requests to receivers that have no answer yet.", self._engine.lanes.in_flight),
            gauge("results_unsettled", "Results and commands not stored yet.", self._engine.unsettled_count),
            gauge("shards_owned", "Shards of this process, of 64.", len(shards.owned)),
            gauge("shards_free", "Shards that belong to no process, as this one sees it.", shards.free_count),
            gauge("processes", "Processes that share the shards, as this one sees it.", shards.live_count),
        ]


class PolledFigures:
    """Shows the figures of the last look at the tables."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._began_at = time.monotonic()

    def collect(self) -> list[Family]:
        """Returns the figures."""
        figures = self._figures
        read_at = self._began_at if figures.read_at is None else figures.read_at
        webhooks = {status.value: count for status, count in (figures.webhooks or {}).items()}
        breakers = {state.value: count for state, count in figures.breakers.items()}
        return [
            gauge(
                "due_lag_seconds", "Age of the oldest delivery that is due and may be sent.", figures.due_lag_seconds
            ),
            gauge("deliveries_pending", "Deliveries that have not ended, of own shards.", figures.pending_count),
            gauges("breakers", "Webhooks of this process by the state of their breaker.", "state", breakers),
            gauges("webhooks", "All webhooks; shown by the process that owns shard 0.", "status", webhooks),
            gauge("webhooks_failing", "Of these, active ones that fail for a minute or longer.", figures.failing_count),
            gauge("figures_age_seconds", "How old these five are.", time.monotonic() - read_at),
        ]


def _by_name(counts: Mapping[_Word, int]) -> dict[Labels, float]:
    return {(name.name.lower(),): count for name, count in counts.items()}
