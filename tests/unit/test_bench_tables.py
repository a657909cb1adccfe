"""The table, the chart and what moved: pure functions from results."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace

import pytest
from benchmarks.parts.chart import LEFT, REACH_MAX, RIGHT, WIDTH, chart, reach
from benchmarks.parts.figures import FORMS, Figure, Spent
from benchmarks.parts.results import Measured, Result, from_json, load, merged, to_json
from benchmarks.parts.steps import steps
from benchmarks.parts.table import compared, moved, spending, table
from benchmarks.run import GROWTH, RESULTS, arguments_of, document_with, in_order, is_kept, placed

RATE = Figure("rate", 800.0, "/s", limit=1000.0, at_least=0.8)
COST = Figure("CPU", 0.3, "ms", limit=0.1, at_most=2.2)
READY = Figure("ready", 0.5, "s", at_most=0.6)
REPORTED = Figure("WAL", 1234.0, "bytes")
MEASURED = Measured("2026-11-29", 2, "3.11.7", 0.4, {"embedded": "Postgres 18.4: fsync=on"})


def result(*figures: Figure, error: str = "") -> Result:
    spent = Spent(10.0, 1000, {"service": 2.0, "sink": 0.1}, idle_seconds=2.0, cores=2)
    return Result("what", "limit", "target", "full", 12.0, MEASURED, figures, spent, error)


def test_a_target_is_about_the_ratio_or_where_there_is_no_limit_about_the_value() -> None:
    assert [figure.is_met for figure in (RATE, COST, READY, REPORTED)] == [True, False, True, None]
    assert RATE.ratio == 0.8
    assert READY.ratio is None
    assert replace(RATE, value=799.0).is_met is False
    assert replace(RATE, limit=0.0).is_met is None  # a limit that could not be measured meets nothing


def test_the_table_has_each_figure_beside_its_limit() -> None:
    lines = table({"end-to-end": result(RATE, COST), "growth": result(error="ValueError: no | room\nleft")}, {})
    assert lines.splitlines()[2:] == [
        "| end-to-end | rate | 800/s | 1,000/s | 0.80 | ≥ 0.8 | yes | new |",
        "| end-to-end | CPU | 0.30 ms | 0.10 ms | 3.00 | ≤ 2.2 | **no** | new |",
        "| growth | failed: ValueError: no / room left | | | | | | |",
    ]


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (RATE, replace(RATE, value=400.0), "+100 %"),
        (RATE, replace(RATE, value=1600.0, limit=2000.0), "same"),  # twice the machine, the same ratio
        (RATE, replace(RATE, value=1600.0), "-50 %"),
        (READY, replace(READY, value=1.0), "-50 %"),
        (RATE, replace(RATE, name="another"), "new"),
        (RATE, replace(RATE, limit=None), "new"),  # a ratio and a value cannot be compared
    ],
)
def test_what_moved_is_the_ratio(now: Figure, then: Figure, said: str) -> None:
    assert moved(now, result(then)) == said


def test_nothing_moved_without_earlier_results() -> None:
    assert moved(RATE, None) == "new"


def test_cpu_time_is_reported_of_every_role_for_each_thing_counted() -> None:
    row = spending({"end-to-end": result(RATE)}).splitlines()[-1]
    assert row == "| end-to-end | 1,000 | 2.000 | 0.000 | 0.000 | 0.100 | 0.000 | 10 % | 0.4 |"


def test_two_programs_are_compared_figure_by_figure() -> None:
    theirs = {"end-to-end": result(replace(RATE, value=400.0))}
    row = compared({"end-to-end": result(RATE, COST)}, theirs, "program 1").splitlines()[-1]
    assert row == "| end-to-end | rate | 800/s | 400/s | 2.00 |"
    failed = compared({"cpu": result(COST)}, {"cpu": result(error="lost")}, "program 1").splitlines()[2:]
    assert failed == ["| cpu | failed: lost | | | |"]


def test_the_median_of_rounds_leaves_out_one_that_failed() -> None:
    rounds = [result(replace(RATE, value=value)) for value in (700.0, 900.0, 800.0)]
    whole = merged([*rounds, result(error="lost")])
    assert (whole.error, whole.figures[0].value, whole.spent.counted) == ("", 800.0, 3000)
    assert merged([result(error="first"), result(error="last")]).error == "last"


def test_results_survive_the_file() -> None:
    results = {"end-to-end": result(RATE, COST, READY), "cpu": result(error="lost")}
    back = from_json(to_json(results))
    assert back == {name: replace(one, figures=list(one.figures)) for name, one in results.items()}


def test_a_bar_is_as_long_as_its_figure_is_near_to_the_target() -> None:
    assert [reach(figure) for figure in (RATE, READY, REPORTED)] == [1.0, pytest.approx(1.2), None]
    svg = ET.fromstring(chart({"a & b": result(RATE, COST, REPORTED)}))  # noqa: S314 - ours
    bars = [element for element in svg if element.tag.endswith("rect")][1:]
    full = WIDTH - LEFT - RIGHT
    assert [float(bar.attrib["width"]) for bar in bars] == [
        pytest.approx(full / REACH_MAX, abs=0.1),
        pytest.approx(full / REACH_MAX * 2.2 / 3, abs=0.1),
    ]


def test_the_document_keeps_what_stands_around_the_results() -> None:
    document = "before\n<!-- measured: bench -->\nold\n<!-- end -->\nafter\n"
    written = document_with(document, {"end-to-end": result(RATE)}, {})
    assert written.startswith("before\n<!-- measured: bench -->\n![")
    assert written.endswith("<!-- end -->\nafter\n")
    assert "old" not in written
    assert document_with(written, {"end-to-end": result(RATE)}, {}) == written
    with pytest.raises(ValueError, match="no place"):
        document_with("nothing", {}, {})


def test_the_guide_to_growth_says_what_the_results_do() -> None:
    guide = GROWTH.read_text()
    assert placed(guide, "steps", steps(load(RESULTS))) == guide, "`make bench` writes both"


def test_rows_stand_in_their_order_and_those_that_are_no_more_are_left_out() -> None:
    found = in_order({"latency": result(RATE), "end-to-end": result(RATE), "no more": result(RATE)})
    assert list(found) == ["end-to-end", "latency"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [((), True), (("--rows", "cpu"), True), (("--form", "quick"), False), (("--program", "x"), False)],
)
def test_only_this_program_in_full_replaces_the_committed_results(given: Sequence[str], kept: bool) -> None:
    assert is_kept(arguments_of(["--document", *given])) is kept


def test_a_form_scales_down_to_its_least() -> None:
    full, tiny = FORMS["full"], FORMS["tiny"]
    assert (full.seconds(8.0), full.count(10_000, 200)) == (8.0, 10_000)
    assert (tiny.seconds(8.0), tiny.count(10_000, 500)) == (0.5, 500)
