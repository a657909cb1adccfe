"""What marks a process, and when one with a mark is surely dead. In doubt it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from webhook_grpc.process.machine import marks
from webhook_grpc.process.machine.marks import is_dead, own_mark
from webhook_grpc.store.ownership.marks import ProcessMark

pytestmark = pytest.mark.skipif(own_mark() is None, reason="this machine has no /proc that can be relied on")


@contextmanager
def other_process() -> Generator[tuple[subprocess.Popen[bytes], ProcessMark]]:
    """Another process, and its mark as it would write it."""
    code = (
        "import sys; from webhook_grpc.process.machine.marks import own_mark; "
        "print(own_mark(), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        ticks = (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[19]
        mark = own_mark()
        assert mark is not None
        yield process, replace(mark, pid=process.pid, started_ticks=int(ticks))
    finally:
        process.kill()
        process.communicate()


def test_a_process_lives_until_it_is_killed() -> None:
    with other_process() as (process, mark):
        assert not is_dead(mark)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(mark), "a zombie: its parent has not heard yet"
        process.wait()
        assert is_dead(mark)


def test_a_process_that_is_stopped_lives() -> None:
    with other_process() as (process, mark):
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert not is_dead(mark)


def test_whoever_has_its_number_now_is_not_the_dead_one() -> None:
    with other_process() as (_, mark):
        assert is_dead(replace(mark, started_ticks=mark.started_ticks - 1))


def test_a_process_of_another_user_that_proc_hides_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_: int, __: int) -> None:
        raise PermissionError

    monkeypatch.setattr(marks.os, "kill", refuse)
    mark = own_mark()
    assert mark is not None
    assert not is_dead(mark, tmp_path), "nothing stands in /proc, but somebody has the number"


def test_a_process_whose_first_thread_ended_lives(tmp_path: Path) -> None:
    mark = own_mark()
    assert mark is not None
    folder = tmp_path / str(mark.pid)
    (folder / "task" / "1").mkdir(parents=True)
    (folder / "task" / "2").mkdir()
    (folder / "stat").write_text(f"{mark.pid} (a ) b) Z {' '.join(map(str, range(18)))} {mark.started_ticks} 0")
    assert not is_dead(mark, tmp_path)
    (folder / "task" / "2").rmdir()
    assert is_dead(mark, tmp_path)


@pytest.mark.parametrize("missing", ["sys/kernel/random/boot_id", "self/status", "self/ns/pid"])
def test_without_all_that_marks_a_process_there_is_no_mark(tmp_path: Path, missing: str) -> None:
    play(tmp_path, f"NSpid:\t{os.getpid()}")
    assert own_mark(tmp_path) is not None
    (tmp_path / missing).unlink()
    assert own_mark(tmp_path) is None


@pytest.mark.parametrize("ids", ["NSpid:\t4711\t{pid}", "NSpid:\t4711", "Name:\tpython"])
def test_a_proc_of_another_name_space_gives_no_mark(tmp_path: Path, ids: str) -> None:
    """A container may see its host's: numbers mean something else there."""
    play(tmp_path, ids.format(pid=os.getpid()))
    assert own_mark(tmp_path) is None


def play(proc: Path, ids: str) -> None:
    """Writes as much of /proc as marks this process."""
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text("b940bbcc\n")
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/status").write_text(f"Name:\tpython\n{ids}\n")
    for name in ("pid", "time"):
        (proc / "self/ns" / name).symlink_to(f"{name}:[4026531836]")
    (proc / str(os.getpid())).mkdir()
    (proc / str(os.getpid()) / "stat").write_text(f"1 (python) S {' '.join(['1'] * 18)} 4711 0")
