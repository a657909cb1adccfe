"""CPU time of one request: `python benchmarks/sender.py [--requests 10000] [--rounds 3] CHECKOUT …`, in turns.

Each round sends from a process of its own, with the sources of one checkout, over 50 connections to a sink that does
hardly anything; only the sender's process is measured. The interpreter is this one, so all checkouts need what it has
installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from typing import Any, Final

CONNECTIONS: Final = 50
WEBHOOKS: Final = 20
BODY: Final = b"x" * 500
WARM_UP: Final = 1000
HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "webhook-grpc/1",
    "X-Webhook-Event": "job.completed",
    "X-Webhook-Delivery": "dlv_" + "a" * 40,
    "X-Webhook-Attempt": "1",
    "X-Webhook-Signature": "sha256=" + "0" * 64,
    "webhook-id": "evt_" + "b" * 26,
    "webhook-timestamp": "1767225600",
    "webhook-signature": "v1," + "c" * 44,
}
MODES: Final = ("http, kept", "http, each new", "https, kept", "https, each new")


class Sink(asyncio.Protocol):
    """Answers each request with the same bytes."""

    def __init__(self, *, closes: bool) -> None:
        self._answer = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % (
            b"Connection: close\r\n" if closes else b""
        )
        self._closes = closes
        self._unread = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while b"\r\n\r\n" in self._unread and self._unread.endswith(BODY):
            self._unread = self._unread.partition(BODY)[2]
            self._transport.write(self._answer)
            if self._closes:
                self._transport.close()


async def serve(mode: str, certificate: str) -> None:
    """Listens on a free port, prints it, and goes on for ever."""
    context = None
    if mode.startswith("https"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    closes = mode.endswith("new")
    server = await asyncio.get_running_loop().create_server(lambda: Sink(closes=closes), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def send(mode: str, port: int, count: int, authority: str) -> float:
    """Returns the CPU seconds of so many requests."""
    from webhook_grpc.domain.egress import EgressPolicy  # noqa: PLC0415 - of the checkout that is measured
    from webhook_grpc.engine.http.sender import Request, Sender, SendLimits  # noqa: PLC0415
    from webhook_grpc.store.clock import DatabaseClock  # noqa: PLC0415

    policy = EgressPolicy(allow_http=True, allowed_networks=(IPv4Network("127.0.0.0/8"),))
    context = ssl.create_default_context(cafile=authority)
    sender = Sender(policy, DatabaseClock(), Random(), SendLimits(16_384), ssl_context=context)
    sender.open()
    url = f"{mode.partition(',')[0]}://127.0.0.1:{port}/hook/"
    left = 0

    async def work(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            webhook_id = number % WEBHOOKS
            result = await sender.send(Request(f"{url}{webhook_id}", HEADERS, BODY, 10.0, None, webhook_id))
            assert result.response_status == 200, result

    for left in (WARM_UP, count):  # noqa: B007 - the workers share it
        started_at = time.process_time()
        await asyncio.gather(*map(work, range(CONNECTIONS)))
    seconds = time.process_time() - started_at
    await sender.close()
    return seconds


@contextmanager
def sink(mode: str, certificate: str) -> Any:
    """A sink in a process of its own. Yields its port."""
    command = [sys.executable, __file__, "--serve", mode, "--certificate", certificate]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline()
        process.kill()


def measure(checkout: Path, mode: str, count: int, certificates: Path) -> float:
    """Returns the microseconds of CPU time that a request takes with the sources of a checkout."""
    with sink(mode, str(certificates / "server.pem")) as port:
        command = [sys.executable, __file__, "--send", mode, "--requests", str(count)]
        done = subprocess.run(
            [*command, "--certificate", str(certificates / "authority.pem")],
            input=port,
            capture_output=True,
            text=True,
            check=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(checkout / "generated/python")]),
            },
        )
    return float(done.stdout) / count * 1e6


def compare(checkouts: Sequence[Path], count: int, rounds: int) -> None:
    """Prints a row for each mode: the median of each checkout, and the last in relation to the first."""
    import trustme  # noqa: PLC0415 - the measured process does without

    authority: Any = trustme.CA()  # its types need pyOpenSSL
    with tempfile.TemporaryDirectory() as directory:
        authority.cert_pem.write_to_path(f"{directory}/authority.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(f"{directory}/server.pem")
        for mode in MODES:
            some = count if mode.endswith("kept") else count // 10
            figures = [[measure(path, mode, some, Path(directory)) for path in checkouts] for _ in range(rounds)]
            medians = [statistics.median(column) for column in zip(*figures, strict=True)]
            print(f"| {mode} | {' | '.join(f'{figure:.0f}' for figure in medians)} | {medians[-1] / medians[0]:.2f} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--send", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--certificate", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import uvloop  # noqa: PLC0415 - not needed to compare

    if arguments.serve:
        uvloop.run(serve(arguments.serve, arguments.certificate))
    elif arguments.send:
        print(uvloop.run(send(arguments.send, int(input()), arguments.requests, arguments.certificate)))
    else:
        compare(arguments.checkouts, arguments.requests, arguments.rounds)


if __name__ == "__main__":
    main()
