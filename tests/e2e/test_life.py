"""How a process begins and ends: signals at any moment, the strictest container, two that start in the same second."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.distribution import need
from tests.support.full import IS_FULL, in_full
from tests.support.postgres import TestPostgres
from tests.support.process import CLI, Process, run, run_cli
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER

# Asked to stop by the first thing that `serve` does, and once more by the last thing that Python does for it.
SIGNALS_AT_BOTH_ENDS = """
import atexit, os, signal, sys
from webhook_grpc import cli
first, last = (getattr(signal, name) for name in sys.argv[1:])
def at_exit():
    os.kill(os.getpid(), last)
    assert all(signal.getsignal(each) is signal.SIG_IGN for each in (first, last)), "Python would put the default back"
atexit.register(at_exit)
cli._warn_of_unknown_variables = lambda: os.kill(os.getpid(), first)
cli.main(["serve"])
"""
# Its user has no name and no home. (The capability lets it read Python where that is installed below root's home.)
NOBODY = (
    "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
    "env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", "-u", "XDG_RUNTIME_DIR",
)  # fmt: skip
# PID 1 of a name space of its own, on a file system that nobody may write to.
CONTAINER = (
    "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
    "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh",
)  # fmt: skip
# The same file system, but for one folder; and a user without a home, but with a name.
IN_ONE_FOLDER = (
    "unshare", "--mount",
    "sh", "-c", 'mount -o bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"', "sh",
)  # fmt: skip
AS_NOBODY = (*NOBODY[:1], "--reuid=nobody", "--regid=65534", *NOBODY[3:])
# A network of its own that has ::1 and no IPv4.
IPV6_ONLY = (
    "unshare", "--net", "sh", "-c", 'ip link set lo up && ip -4 address flush dev lo && exec "$@"', "sh",
)  # fmt: skip
# Run there: a customer who registers a receiver, and a program that publishes and probes.
WALK = """
import sys, threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
import grpc
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

class Server(HTTPServer):
    address_family = 10  # AF_INET6

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(204)
        self.end_headers()
        got.append(self.headers["webhook-id"])

    def log_message(self, *_):
        pass

got, server = [], Server(("::1", 0), Handler)
url = f"http://[::1]:{server.server_port}/"
stub = service_pb2_grpc.WebhookServiceStub(grpc.insecure_channel(sys.argv[1]))
webhook = webhook_pb2.Webhook(customer_id=1, name="all", url=url, events=["*"])
stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), wait_for_ready=True)
event = event_pb2.Event(customer_id=1, event_type="job.completed", data_json="{}")
published = stub.PublishEvent(service_pb2.PublishEventRequest(event=event))
server.handle_request()
assert got == [published.event_id], got
print(urllib.request.urlopen(f"{sys.argv[2]}/readyz").status)
"""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


async def test_signals_at_the_first_and_at_the_last_moment_end_it_well(database_url: str) -> None:
    program = (sys.executable, "-c", SIGNALS_AT_BOTH_ENDS, "SIGHUP", "SIGTERM")
    assert await run(*program, settings={"WEBHOOK_DATABASE_URL": database_url}) == (0, "", "")


@pytest.mark.parametrize(
    "number",
    in_full([signal.SIGHUP, signal.SIGINT, signal.SIGTERM], short=[signal.SIGHUP, signal.SIGTERM]),
)
async def test_a_signal_drains_and_the_same_again_changes_nothing(
    database_url: str, tmp_path: Path, number: int
) -> None:
    log = tmp_path / "log"
    process = await Process.start(log, WEBHOOK_DATABASE_URL=database_url, WEBHOOK_SHUTDOWN_DELAY_SECONDS="0.2")
    process.process.send_signal(number)
    async with slowness.timeout(20):
        while '"stopping"' not in log.read_text():
            await asyncio.sleep(0.01)  # a file gives no signal
    process.process.send_signal(number)
    assert await process.terminate() == 0
    assert '"stopped"' in log.read_text().splitlines()[-1]
    assert "Traceback" not in log.read_text()


@only_root
@pytest.mark.slow(5)
@pytest.mark.parametrize("processes", in_full(["1", "2"], short=["1"]))
async def test_the_strictest_container_will_do(database_url: str, tmp_path: Path, processes: str) -> None:
    """PID 1, a read-only file system, a user without a name and a home: it serves, leaves no zombie, and drains."""
    for program in ("unshare", "setpriv", "nsenter"):
        need(program)
    if (await run(*CONTAINER, "true", settings={}))[0] != 0:
        pytest.skip("this machine makes no name spaces")
    log = tmp_path / "log"
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_PROCESSES": processes}
    process = await Process.start(log, (*CONTAINER, *NOBODY, str(CLI)), **settings)
    try:
        await process.stub.ListWebhooks(service_pb2.ListWebhooksRequest())
        init = first_child(process.process.pid)
        await an_orphan_ends_and_is_collected(init)
        os.kill(init, signal.SIGTERM)
        async with slowness.timeout(20):
            assert await process.process.wait() == 0
        assert '"stopped"' in log.read_text().splitlines()[-1]
    finally:
        await process.end()


@only_root
@pytest.mark.parametrize("may_write", in_full([True, False], short=[False]))
async def test_the_embedded_postgres_writes_to_its_own_folder_only(tmp_path: Path, *, may_write: bool) -> None:
    """With nothing else that may be written, not even for temporary files. Without it, a sentence says so."""
    program = (*IN_ONE_FOLDER, str(tmp_path), *AS_NOBODY, str(CLI))
    if (await run(*program[:-1], "true", settings={}))[0] != 0:
        pytest.skip("this machine makes no name spaces")
    data = tmp_path / "data" if may_write else Path("/usr/webhook-grpc-data")
    open_to_all(tmp_path)
    settings = {"WEBHOOK_DATABASE_URL": "", "WEBHOOK_DATA_DIR": str(data)}
    if not may_write:
        status, _, err = await run(*program, "serve", settings=settings)
        assert (status, err.count("\n")) == (1, 1)
        assert f"needs a folder that may be written, and {data} is none; set WEBHOOK_DATA_DIR" in err
        return
    process = await Process.start(tmp_path / "log", program, **settings)
    assert await process.terminate() == 0


def open_to_all(folder: Path) -> None:
    """Lets every user write to a folder, and enter those above it."""
    folder.chmod(0o777)
    for parent in folder.parents[:-1]:
        parent.chmod(parent.stat().st_mode | 0o011)


async def an_orphan_ends_and_is_collected(init: int) -> None:
    """As of somebody who has left something running in a container. With several processes the children stay."""
    before = children_of(init)
    await run("nsenter", f"--target={init}", "--pid", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &", settings={})
    [orphan] = children_of(init) - before
    os.kill(orphan, signal.SIGKILL)
    async with slowness.timeout(40):
        while orphan in children_of(init):
            await asyncio.sleep(0.05)  # the kernel gives no signal
    assert children_of(init) == before


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def first_child(pid: int) -> int:
    """The number that PID 1 of the name space has out here."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@only_root
@pytest.mark.slow(5)
@pytest.mark.skipif(not IS_FULL, reason="starts three services for what hardly changes: make test-long")
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_network_without_ipv4_will_do(database_url: str, tmp_path: Path, processes: str) -> None:
    """The database is on a socket in the file system, which belongs to no network."""
    for program in ("unshare", "nsenter", "ip"):
        need(program)
    if (await run(*IPV6_ONLY, "true", settings={}))[0] != 0:
        pytest.skip("this machine makes no name spaces, or has no IPv6")
    process = await Process.start(
        tmp_path / "log",
        (*IPV6_ONLY, str(CLI)),
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_PROCESSES=processes,
        WEBHOOK_GRPC_ADDRESS="[::]:0",
        WEBHOOK_HTTP_ADDRESS="[::]:0",
        WEBHOOK_METRICS_ADDRESS="[::]:0",
        WEBHOOK_GRPC_PLAINTEXT="true",
        WEBHOOK_HTTP_PLAINTEXT="true",
        WEBHOOK_ALLOW_ANONYMOUS="true",
        WEBHOOK_EGRESS_ALLOW_CIDRS="::1/128",
    )
    http = process.http_url.replace("127.0.0.1", "[::1]")
    inside = ("nsenter", "--net", f"--target={process.process.pid}", sys.executable, "-c", WALK)
    assert await run(*inside, process.address.replace("[::]", "[::1]"), http, settings={}) == (0, "200\n", "")
    assert await process.terminate() == 0


@pytest.mark.slow
async def test_with_few_descriptors_the_doors_take_fewer_connections_and_deliveries_go_out(
    database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    few = (need("prlimit"), "--nofile=256", str(CLI))
    process = await Process.start(log, few, WEBHOOK_DATABASE_URL=database_url, WEBHOOK_HTTP_ADDRESS="127.0.0.1:0")
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="all", url=receiver.url(), events=["*"])
    await process.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
    for _ in range(5):
        await process.stub.PublishEvent(service_pb2.PublishEventRequest(event=event))
    await receiver.wait_for(5)
    assert '"fewer connections than configured"' in log.read_text()
    assert await process.terminate() == 0


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


@only_root
async def test_a_user_without_a_home_gets_one_sentence_if_there_is_no_database(tmp_path: Path) -> None:
    command = (need("setpriv"), *NOBODY[1:], str(CLI), "serve")
    status, _, said = await run(*command, cwd=tmp_path, settings={"WEBHOOK_SECRET_KEYS": ""})
    assert status == 1
    assert "there is no home directory" in said
    assert "set WEBHOOK_DATA_DIR" in said
    assert said.count("\n") == 1, said
    assert is_empty(tmp_path)


@pytest.mark.slow(5)
async def test_two_replicas_that_start_in_the_same_second_on_a_new_database_both_serve(
    postgres: TestPostgres, worker_id: str, tmp_path: Path
) -> None:
    """Each of them runs `migrate` and `serve`, as an init container and a container do."""
    name = f"webhook_test_replicas_{worker_id}"
    settings = {"WEBHOOK_DATABASE_URL": postgres.create_database(name)}
    try:
        migrated = await asyncio.gather(*(run_cli("migrate", **settings) for _ in range(2)))
        assert [status for status, _, _ in migrated] == [0, 0], migrated
        starts = [Process.start(tmp_path / f"log{number}", **settings) for number in range(2)]
        replicas = await asyncio.gather(*starts)
        for replica in replicas:
            await replica.stub.ListWebhooks(service_pb2.ListWebhooksRequest())
        assert [await replica.terminate() for replica in replicas] == [0, 0]
    finally:
        postgres.drop_database(name)
