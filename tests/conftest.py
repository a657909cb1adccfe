"""Fixtures for all tests. What they need is started here: nothing is installed or running beforehand."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import cast

import hypothesis
import pytest
import structlog
from hypothesis import HealthCheck

from tests.support import byte_code, cells, durations, parsing, shaking, sharing, slowness
from tests.support.cells import CellPostgres
from tests.support.full import in_full
from tests.support.past import Past
from tests.support.postgres import TestPostgres
from tests.support.process import end_what_is_left
from tests.support.receiver import Receiver
from tests.support.service import ServiceFactory
from tests.support.symptoms import Line, recording, rows
from webhook_grpc.engine.duties.expiry import Expiry
from webhook_grpc.engine.duties.janitor import Janitor
from webhook_grpc.process.log.log_sink import LogSink
from webhook_grpc.process.log.logs import configure_logging
from webhook_grpc.settings import Settings

# Property tests have no deadline for each example and may take long to make one: the machine may be busy.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    max_examples=in_full(100, short=30),  # other ones in each run
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


SECONDS_MAX = pytest.StashKey[float]()  # of a test, on a machine that has only the suite to do

shaking.install()
parsing.install()


def pytest_report_header() -> list[str]:
    """Says how slow this machine is, measured before the workers are started, who take it over; and the shaking."""
    slower = f"slowness: {slowness.ratio():.2f} (deadlines are multiplied by it, see tests/support/slowness.py)"
    return [slower, shaking.header()]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compiles the tests before pytest-xdist starts the workers, each of which would compile all of them."""
    if session.config.getoption("numprocesses", None):
        byte_code.make(session.config.invocation_params.dir / path.partition("::")[0] for path in session.config.args)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout looks how long the test may take
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Each test is shaken in its own way, whatever ran before, and has the deadlines of a machine as slow as now."""
    shaking.begin(item.nodeid)
    slowness.measure_again()
    item.add_marker(pytest.mark.timeout(slowness.scaled(item.stash[SECONDS_MAX])), append=False)
    return (yield)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Returns the number of processes that `-n auto` starts."""
    return durations.workers(marks=str(config.getoption("markexpr", "")))


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the longest tests first, notes how long each may take, and marks the unit tests as fast.

    The tests of a module that share what is started for it run one after the other, in one process (`sharing.group`);
    those that need a service of their own at the end.
    """
    usual, unit = float(config.getini("timeout")), Path(__file__).parent / "unit"
    items.sort(key=_order)
    for item in items:
        if (group := sharing.group(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(group))
        if item.path.is_relative_to(unit):
            item.add_marker("fast")
        marker = item.get_closest_marker("timeout")
        item.stash[SECONDS_MAX] = float(marker.args[0]) if marker is not None else usual


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: the garbage collector would look at it in vain each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Takes what is imported and collected out of the garbage collector, for good, with what of it is garbage already.

    To look for that costs each process 0.3 CPU seconds, and frees 20 MB.
    """
    gc.freeze()


def _order(item: pytest.Item) -> tuple[float, bool]:
    """A long test that is started last runs alone at the end. One with its own services ends the shared one."""
    return -durations.slow_seconds(item), "services" in sharing.fixtures(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names the tests that are slow and not marked so."""
    found = durations.unmarked(terminalreporter, int(config.getoption("numprocesses", None) or 1))
    if found:
        terminalreporter.section(f"slow, but without the mark `slow`: see {durations.__name__}")
        for seconds, name in found:
            terminalreporter.write_line(f"{seconds:.2f}s {name}")


@pytest.fixture(scope="session")
def log_sink() -> LogSink:
    """Services that run inside the tests' process log as the real one does on a terminal."""
    sink = configure_logging(
        Settings.model_construct(log_format="console", log_level="info", log_lines_waiting_max=10_000)
    )
    structlog.configure(cache_logger_on_first_use=False)  # the simulation listens to what loggers say
    return sink


@pytest.fixture(autouse=True)
def lines_of_the_test(log_sink: LogSink) -> Generator[None]:
    """What a test logs is written before it ends, so that pytest shows it with the test."""
    yield
    log_sink.flush()


@pytest.fixture(scope="session")
def postgres(worker_id: str) -> Generator[TestPostgres]:
    """A real Postgres with a database of its own for this test process."""
    server = (CellPostgres if cells.are_wanted() else TestPostgres).start(worker_id)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def processes_of_the_test() -> Generator[None]:
    """A process that a failed test has left would disturb the tests that follow."""
    yield
    end_what_is_left()


@pytest.fixture(autouse=True)
def symptoms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[list[Line] | None]:
    """Holds a test to the lines that it says it produces; one that reads them from elsewhere appends them."""
    test = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType] - pytest has no type for it
    names = [name for marker in test.iter_markers("symptom") for name in marker.args]
    if not names:
        yield None
        return
    with recording(monkeypatch) as lines:
        yield lines
    for name in names:
        assert any(map(rows()[name].is_shown_by, lines)), f"no line such as {rows()[name]}"


@pytest.fixture
def database_url(postgres: TestPostgres) -> str:
    """A migrated database with nothing in it."""
    postgres.empty()
    return postgres.url


@pytest.fixture
async def past(database_url: str, postgres: TestPostgres) -> AsyncGenerator[Past]:
    """Days that are long gone, with what is left of them. What a test leaves of them is removed."""
    past = Past(postgres)
    yield past
    past.remove()
    await past.restore()


@pytest.fixture
def housekeeping_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services drop, delete and expire nothing by themselves, only when a test asks for it."""

    async def wait(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Janitor, "run", wait)
    monkeypatch.setattr(Expiry, "run", wait)


@pytest.fixture
def data_dir() -> Generator[Path]:
    """A folder for an embedded Postgres of a test's own; not below pytest's, which other users can't enter."""
    directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-test-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    """A real HTTP server on loopback that records what it gets."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def services(database_url: str, tmp_path: Path) -> AsyncGenerator[ServiceFactory]:
    """Starts processes of the service inside this one, on free ports, and stops them."""
    factory = ServiceFactory(database_url, tmp_path)
    yield factory
    await factory.stop()
