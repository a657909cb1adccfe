"""`make test-long` goes on where its last call stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.long import FAULT_FIGURES, Part, Run, figures, parts

FAULT_FIGURES_SAID = (
    "5 rounds, 100 events, 300 deliveries, 310 requests, 0 lost, 2 (9) duplicated (in flight), 0 gaps, "
    "1.0 s drained at most, 0.2 s late (99 %), 3 lost to careful mode, passed"
)


def program(text: str) -> tuple[str, ...]:
    return ("-c", text)


PARTS = [
    Part("first", program("print('3 passed in 1.0s')")),
    Part("second", program("import os; print('=== 1 failed,', os.environ['SEED'], 'in 2s ==='); raise SystemExit(1)"),
         {"SEED": "{seed}"}),
    Part("third", program("print('5 passed')")),
]  # fmt: skip


def test_a_new_call_goes_on_with_the_parts_that_are_not_finished(tmp_path: Path) -> None:
    stopped = Run(tmp_path, "abc", PARTS)
    for part in stopped.left()[:2]:
        stopped.run(part)
    again = Run(tmp_path, "abc", PARTS)
    assert (again.state.seed, again.left()) == (stopped.state.seed, PARTS[2:])
    again.run(PARTS[2])
    lines = again.table().splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| first", "ok"],
        ["| second", "FAILED"],
        ["| third", "ok"],
    ]
    seed = again.state.seed + 1_000_000
    assert f"| {seed} |" in lines[3]
    assert f"1 failed, {seed} in 2s" in lines[3]


def test_a_finished_run_and_one_of_another_commit_are_begun_from_the_start(tmp_path: Path) -> None:
    stopped = Run(tmp_path, "abc", PARTS)
    stopped.run(PARTS[0])
    assert Run(tmp_path, "abd", PARTS).left() == PARTS
    for part in stopped.left():
        stopped.run(part)
    assert Run(tmp_path, "abc", PARTS).left() == PARTS


def test_a_part_that_is_interrupted_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, "abc", PARTS)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.long.subprocess.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run(PARTS[0])
    assert Run(tmp_path, "abc", PARTS).left() == PARTS


def test_parts_have_names_of_their_own_and_every_fault_is_one() -> None:
    names = [part.name for part in parts()]
    assert len(names) == len(set(names))
    assert {"suite", "store model", "simulation 1", "fault: kill -9", "chaos of 5 minutes", "hostile receivers"} <= set(
        names
    )


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("...\n======= 4286 passed, 3 skipped in 700.1s =======\n", "4286 passed, 3 skipped in 700.1s"),
        ("1 failed, 2 passed in 3s", "1 failed, 2 passed in 3s"),
        ("| " + " | ".join(FAULT_FIGURES) + " |\n"
         "| kill -9 | 5 | 100 | 300 | 310 | 0 | 2 (9) | 0 | 1.0 s | 0.2 s | 3 | passed |",
         FAULT_FIGURES_SAID),
        ("nothing", "no figures"),
    ],
)  # fmt: skip
def test_the_figures_of_a_part_are_taken_from_its_output(output: str, expected: str) -> None:
    assert figures(output) == expected
