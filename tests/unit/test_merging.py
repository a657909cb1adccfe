"""The figures of several processes as one text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from webhook_grpc.metrics import families
from webhook_grpc.metrics.merging import merged
from webhook_grpc.metrics.writing import written


def text(value: float, label: str) -> str:
    return written(
        [
            families.counter("calls", "Calls.", value),
            families.gauges("weather", "A label with everything.", "kind", {label: value}),
        ]
    ).decode()


def test_each_sample_names_its_process_and_each_family_stands_once() -> None:
    odd = 'a "b" {c} \\ d\ne #  HELP'
    parsed = list(text_string_to_metric_families(merged({"1": text(3, "x"), "2": text(5, odd)})))
    assert [family.name for family in parsed] == ["webhook_calls", "webhook_weather"]
    assert [(sample.labels, sample.value) for family in parsed for sample in family.samples] == [
        ({"process": "1"}, 3),
        ({"process": "2"}, 5),
        ({"process": "1", "kind": "x"}, 3),
        ({"process": "2", "kind": odd}, 5),
    ]


def test_a_family_that_one_process_lacks_is_shown_for_the_others() -> None:
    only = written([families.counter("rare", "Rare.", 1)]).decode()
    assert 'webhook_rare_total{process="2"} 1.0' in merged({"1": text(1, "x"), "2": text(1, "x") + only})
