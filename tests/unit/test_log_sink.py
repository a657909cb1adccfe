"""The sink of log lines: in order, bounded, and honest about what was dropped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import orjson
import pytest

from tests.support import slowness
from webhook_grpc.process.log.log_sink import (
    BATCH_MAX,
    WRITE_BYTES_MAX,
    LogSink,
    Record,
)


def render(record: Record) -> bytes:
    return orjson.dumps(record) + b"\n"


@pytest.fixture
def full() -> Generator[int]:
    """A descriptor of a disk that is full; it may be made to lead elsewhere with dup2()."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def until_dropped(sink: LogSink, count: int) -> None:
    ends_at = time.monotonic() + slowness.scaled(10)
    while sink.dropped < count:
        assert time.monotonic() < ends_at, f"{sink.dropped} of {count} dropped"
        time.sleep(0.001)


def lead_to(path: Path, descriptor: int) -> None:
    opened = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(opened, descriptor)
    os.close(opened)


def numbers(path: Path) -> list[int]:
    return [orjson.loads(line)["n"] for line in path.read_bytes().splitlines()]


def test_lines_of_several_threads_are_all_written_each_thread_s_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def put_thousand(first: int) -> None:
        for number in range(first, first + 1000):
            sink.put({"n": number})

    with path.open("wb") as file:
        sink = LogSink(file.fileno(), render, 10_000)
        threads = [threading.Thread(target=put_thousand, args=(first,)) for first in (0, 1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.close()
    written = numbers(path)
    assert sorted(written) == list(range(3000))
    for first in (0, 1000, 2000):
        of_thread = [number for number in written if first <= number < first + 1000]
        assert of_thread == sorted(of_thread)


def test_what_a_full_disk_did_not_take_is_counted_and_said_once_there_is_room(full: int, tmp_path: Path) -> None:
    sink = LogSink(full, render, 10)
    for number in range(3):
        sink.put({"n": number})
    until_dropped(sink, 3)
    lead_to(tmp_path / "log", full)
    sink.put({"n": 3})
    sink.put({"n": 4})
    sink.close()

    said, *rest = map(orjson.loads, (tmp_path / "log").read_bytes().splitlines())
    assert (said["event"], said["count"], said["cause"]) == (
        "log lines dropped",
        3,
        "could not be written: No space left on device",
    )
    assert rest == [{"n": 3}, {"n": 4}]
    assert sink.dropped == 0
    assert sink.dropped_total == 3, "what a line said is still counted"


def test_a_line_that_cannot_be_rendered_costs_no_other(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        sink = LogSink(file.fileno(), render, 10)
        for value in (1, object(), 2):
            sink.put({"n": value})
        sink.close()
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["n"] for line in lines if "n" in line] == [1, 2]
    [said] = [line for line in lines if "count" in line]
    assert (said["count"], said["cause"]) == (1, "a line could not be prepared: TypeError")


def test_lines_are_never_mixed_with_those_of_another_process_that_writes_to_the_same_pipe() -> None:
    reader, writer = os.pipe()
    written = list[int]()
    sink = LogSink(writer, lambda record: b"x" * record["bytes"] + b"\n", 1000)
    for size in (1000, 2000, 1500, 6000, 10):
        sink.put({"bytes": size})
    sink.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        written = [len(line) for line in lines]
    assert written == [1001, 2001, 1501, 6001, 11]
    assert WRITE_BYTES_MAX == 4096


def full_pipe() -> tuple[int, int]:
    """Returns the two ends of a pipe that takes nothing more until somebody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        return reader, writer


def test_exceptions_that_wait_take_no_more_memory_than_as_many_lines() -> None:
    reader, writer = full_pipe()
    sink = LogSink(writer, render, 100)
    frames = [{"filename": "f", "lineno": 1, "name": "n"}] * 10  # 50 values and containers: as much as 5,000 characters
    for number in range(1000):
        sink.put({"n": number, "exception": [{"exc_value": "v", "frames": frames}]})
    assert sink.dropped >= 1000 - 100 // 4 - BATCH_MAX  # those that the thread has already taken
    os.close(reader)
    sink.close()
    os.close(writer)


def test_long_lines_that_wait_take_no_more_memory_than_as_many_short_ones() -> None:
    reader, writer = full_pipe()
    sink = LogSink(writer, render, 1000)
    for number in range(2000):
        sink.put({"n": number, "text": "x" * 10_000})
    assert sink.dropped >= 2000 - 1000 // 10 - 2 * BATCH_MAX  # those that the thread has taken, and the first to wait
    os.close(reader)
    sink.close()
    os.close(writer)


def test_closing_does_not_wait_for_a_pipe_that_nobody_reads() -> None:
    reader, writer = full_pipe()
    sink = LogSink(writer, render, 10)
    sink.put({"n": 1})
    sink.close(0.01)
    os.read(reader, 1 << 20)  # there is room now, which also lets the thread end
    sink.flush()
    assert os.read(reader, 100) == b'{"n":1}\n'
    os.close(reader)
    os.close(writer)
