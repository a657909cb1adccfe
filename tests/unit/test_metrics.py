"""What /metrics shows of plain numbers: names, labels, and how much there can be of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from webhook_grpc.api.codes import Code
from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.tally import DatabaseErrors, Histogram
from webhook_grpc.metrics import families, metrics
from webhook_grpc.metrics.calls import CallFigures, CallTally
from webhook_grpc.metrics.families import Family
from webhook_grpc.metrics.metrics import Metrics
from webhook_grpc.metrics.process import ProcessFigures
from webhook_grpc.server.readiness import Readiness

BY_NAME = {method.name: method for method in METHODS}


class Tallied:
    """A source with calls only."""

    def __init__(self, tally: CallTally) -> None:
        self._tally = tally

    def collect(self) -> list[Family]:
        return self._tally.families()


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples of a text by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def shown(*sources: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What is shown of some sources."""
    page = Metrics()
    page.show(sources)
    return samples(page.text_now())


def test_calls_are_counted_by_method_door_and_code_and_timed_by_method_and_door() -> None:
    tally = CallTally()
    tally.ended(BY_NAME["GetWebhook"], "grpc", Code.OK, 0.02)
    tally.ended(BY_NAME["GetWebhook"], "grpc", Code.NOT_FOUND, 0.3)
    tally.ended(BY_NAME["GetWebhook"], "http", Code.OK, 0.02)
    found = shown(Tallied(tally))
    counted = {key: value for key, value in found.items() if key[0] == "webhook_rpcs_total"}
    assert counted == {
        ("webhook_rpcs_total", labels(method="GetWebhook", door="grpc", code="OK")): 1,
        ("webhook_rpcs_total", labels(method="GetWebhook", door="grpc", code="NOT_FOUND")): 1,
        ("webhook_rpcs_total", labels(method="GetWebhook", door="http", code="OK")): 1,
    }
    assert found["webhook_rpc_seconds_count", labels(method="GetWebhook", door="grpc")] == 2
    assert found["webhook_rpc_seconds_sum", labels(method="GetWebhook", door="grpc")] == pytest.approx(0.32)  # pyright: ignore[reportUnknownMemberType] - no types
    assert found["webhook_rpc_seconds_bucket", labels(method="GetWebhook", door="grpc", le="0.025")] == 1


def test_how_long_a_stream_was_open_is_not_kept() -> None:
    tally = CallTally()
    tally.ended(BY_NAME["WatchDeliveries"], "grpc", Code.CANCELLED, 3600.0)
    names = {name for name, _ in shown(Tallied(tally))}
    assert "webhook_rpcs_total" in names
    assert "webhook_rpc_seconds_count" not in names


def test_whatever_is_called_the_number_of_samples_is_bounded() -> None:
    tally = CallTally()
    for method in METHODS:
        for door in ("grpc", "http"):
            for code in Code:
                tally.ended(method, door, code, 1.0)
    assert len(shown(Tallied(tally))) < 3000


class One:
    """A source with one number, that says how often it was read."""

    def __init__(self) -> None:
        self.read_count = 0

    def collect(self) -> list[Family]:
        self.read_count += 1
        return [families.gauge("one", "One.", self.read_count)]


def test_a_reader_without_a_pause_gets_the_same_text_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    source, page = One(), Metrics()
    page.show([source])
    assert page.text_now() == page.text_now()
    assert source.read_count == 1
    now[0] += metrics.FRESH_SECONDS
    page.text_now()
    assert source.read_count == 2


def test_several_processes_of_the_service_in_one_python_show_their_own_numbers() -> None:
    first, second = CallTally(), CallTally()
    first.ended(BY_NAME["GetWebhook"], "grpc", Code.OK, 0.02)
    key = "webhook_rpcs_total", labels(method="GetWebhook", door="grpc", code="OK")
    assert shown(Tallied(first))[key] == 1
    assert key not in shown(Tallied(second))


def test_refused_calls_that_did_not_come_into_the_audit_are_counted() -> None:
    calls: Any = SimpleNamespace(call_count=0, waiting_count=0, stream_count=0)
    refused: Any = SimpleNamespace(left_out_count=3)
    found = shown(CallFigures(CallTally(), calls, refused, lambda: 0))
    assert found["webhook_refused_rpcs_left_out_total", labels()] == 3


def test_a_figure_that_is_not_known_here_has_no_sample() -> None:
    class Unknown:
        def collect(self) -> list[Family]:
            return [families.gauge("unknown", "Not known.", None)]

    page = Metrics()
    page.show([Unknown()])
    assert ("webhook_unknown", frozenset[tuple[str, str]]()) not in samples(page.text_now())
    assert b"# TYPE webhook_unknown gauge" in page.text_now()


def test_lines_dropped_and_errors_of_the_database_are_shown() -> None:
    errors = DatabaseErrors()
    errors.add("53", is_disk_full=True)
    found = shown(ProcessFigures(Readiness([]), errors, Histogram((1.0,)), lambda: 7))
    assert found["webhook_log_lines_dropped_total", labels()] == 7
    assert found["webhook_database_errors_total", labels(sqlstate_class="53")] == 1
    assert found["webhook_database_errors_total", labels(sqlstate_class="57")] == 0, "known before it grows"
    assert found["webhook_database_disk_full_total", labels()] == 1


async def test_a_process_that_leaves_is_neither_ready_nor_serving() -> None:
    readiness = Readiness([])
    source = ProcessFigures(readiness, DatabaseErrors(), Histogram((1.0,)), int)
    await readiness.set_serving("webhook.v1.Delivery", False)
    found = shown(source)
    assert found["webhook_ready", labels()] == 1
    assert found["webhook_serving", labels(service="webhook.v1.Delivery")] == 0
    readiness.leave()
    assert shown(source)["webhook_ready", labels()] == 0


def test_a_histogram_has_its_counts_summed_up_to_each_bound() -> None:
    class Sizes:
        def collect(self) -> list[Family]:
            sizes = Histogram((1.0, 10.0))
            for size in (1, 5, 7, 100):
                sizes.add(size)
            return [families.histogram("sizes", "Sizes.", sizes)]

    found = shown(Sizes())
    buckets = [found["webhook_sizes_bucket", labels(le=bound)] for bound in ("1.0", "10.0", "+Inf")]
    assert buckets == [1, 3, 4]
    assert found["webhook_sizes_sum", labels()] == 113
