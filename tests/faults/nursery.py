"""Processes of the suite, forked from one that has imported everything: importing costs more than most rounds need.

`python -m tests.faults.nursery` reads a line of JSON for each process that is wanted, forks it, and answers with its
pid; it is their parent, so it is asked for the status of those that have ended. A fork is a process of its own as far
as signals, descriptors and memory go; nothing was started before it: no thread, no event loop, no connection.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.process import ROOT


class Child:
    """One forked process, with what is needed of asyncio's processes."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self._descriptor = os.pidfd_open(pid)
        self._status: int | None = None
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal, or None while it lives."""
        if self._status is None and select.select([self._descriptor], [], [], 0)[0]:
            self._status = self._nursery.status_of(self.pid)
            os.close(self._descriptor)
        return self._status

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    async def wait(self) -> int:
        """Waits until it has ended, and returns the exit status."""
        if self.returncode is None:
            loop = asyncio.get_running_loop()
            ended = loop.create_future()
            loop.add_reader(self._descriptor, ended.set_result, None)
            try:
                await ended
            finally:
                loop.remove_reader(self._descriptor)
        assert self.returncode is not None
        return self.returncode


class Nursery:
    """The process that forks."""

    def __init__(self) -> None:
        environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        atexit.register(self._end)

    def fork(self, task: str, environment: Mapping[str, str], stdout: Path, stderr: Path) -> Child:
        """A process that runs one of the tasks below."""
        stdout.touch()
        pid = self._ask(task=task, environment=dict(environment), stdout=str(stdout), stderr=str(stderr))
        return Child(self, pid)

    def status_of(self, pid: int) -> int:
        """The exit status of a process that has ended, once."""
        return self._ask(ended=pid)

    def _ask(self, **request: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def _end(self) -> None:
        self._process.communicate()  # it ends when there is nobody to ask for more, and its children with it


@functools.cache
def nursery() -> Nursery:
    """The one of this process, started when it is first needed."""
    return Nursery()


async def first_line(path: Path, child: Child) -> str:
    """The first line that a process writes; what there is of it if the process ends before."""
    while True:
        is_alive = child.returncode is None
        line = _first_line(path)
        if line.endswith("\n") or not is_alive:
            return line
        await asyncio.sleep(0.01)


def _first_line(path: Path) -> str:
    with path.open() as lines:
        return lines.readline()


def _serve() -> None:
    from tests.faults import faulty
    from webhook_grpc import cli

    faulty.patch(os.environ)
    sys.argv = ["webhook-grpc", "serve"]
    cli.main()


def _receive() -> None:
    from tests.faults import receiver

    asyncio.run(receiver.serve(Path(os.environ["RECEIVER_FILE"])))


_TASKS = {"serve": _serve, "receive": _receive}


def _fork(request: Mapping[str, Any]) -> int:
    """Returns the pid in the parent; never returns in the child."""
    pid = os.fork()
    if pid:
        return pid
    os.environ.clear()
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, path in ((1, request["stdout"]), (2, request["stderr"])):
        opened = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(nothing, 0)
    os.close(nothing)
    _TASKS[request["task"]]()
    sys.exit(0)


def _import_all() -> None:
    """Whatever the tasks need, so that they find it imported."""
    for name in ("uvloop", "webhook_grpc.app", "tests.faults.faulty", "tests.faults.receiver"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _run() -> None:
    _import_all()
    living: set[int] = set()
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests, os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        for line in requests:
            request = json.loads(line)
            if "ended" in request:
                _, status = os.waitpid(request["ended"], 0)
                living.discard(request["ended"])
                answer = os.waitstatus_to_exitcode(status)
            else:
                answer = _fork(request)
                living.add(answer)
            answers.write(f"{answer}\n".encode())
    for pid in living:  # a forked process does not come here: it ends in its task
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _run()
