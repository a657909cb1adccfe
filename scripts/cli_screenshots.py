"""`make screenshots-cli`: writes docs/screenshots/cli-*.svg from what the command line prints beside a real service.

Starts the service on its embedded Postgres with the receivers and webhooks of `make demo-page`, publishes for a while,
runs each command in a pipe with colours, and draws what it printed as a terminal would show it.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shlex
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

from examples.demo import ACME, running_service
from examples.demo_page import SETTINGS, publish_one, register, running_receiver
from rich.console import Console
from rich.text import Text
from webhook.v1 import service_pb2, service_pb2_grpc

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "screenshots"
WIDTH: Final = 142
PUBLISHED: Final = 60
EVERY_SECONDS: Final = 0.5
ROUNDS: Final = 20  # of `top`, whose last one is shown: its chart has as many ticks
SECONDS_MAX: Final = 60
_FONT_FACE: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # rich's fonts come from the network: never here
HEADING: Final = "webhook-grpc top"

# name of the picture: the line
SHOTS: Final = {
    "top": f"top --interval 1s -n {ROUNDS}",
    "watch": "watch --since 20s -n 12",
    "webhooks": "webhooks list --stats",
}


async def printed(line: str, address: str) -> str:
    """Returns what a line prints, with colours."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "WHK_ADDRESS": address, "WHK_CUSTOMER_ID": str(ACME)}
    program = Path(sys.executable).with_name("webhook-grpc")
    words = shlex.split(f"{line} -o table --color always --utc")
    process = await asyncio.create_subprocess_exec(program, *words, env=environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(SECONDS_MAX):
        stdout, _ = await process.communicate()
    if process.returncode:
        sys.exit(f"screenshots: `{line}` ended with {process.returncode}")
    text = stdout.decode()
    return HEADING + text.rpartition(HEADING)[2] if HEADING in text else text


def draw(name: str, line: str, text: str) -> None:
    """Writes a picture of a terminal."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text.from_ansi(text.rstrip("\n")), no_wrap=True, crop=True, overflow="ignore")
    path = FOLDER / f"cli-{name}.svg"
    svg = console.export_svg(title=f"webhook-grpc {line}", unique_id=f"cli-{name}")
    path.write_text(_FONT_FACE.sub("", svg).replace("Fira Code", "ui-monospace"), encoding="utf-8")
    print(f"{path.name:<24} {path.stat().st_size // 1024:>4} KiB", flush=True)


def free_address() -> str:
    """Returns an address of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def has_open_breaker(stub: service_pb2_grpc.WebhookServiceAsyncStub) -> bool:
    """Returns whether a receiver has failed so often that a picture shows it."""
    listed = await stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=ACME))
    for webhook in listed.webhooks:
        request = service_pb2.GetWebhookStatsRequest(customer_id=ACME, webhook_id=webhook.webhook_id)
        if (await stub.GetWebhookStats(request)).breaker_state == service_pb2.BREAKER_STATE_OPEN:
            return True
    return False


async def main() -> None:
    """Makes the scene and draws all pictures."""
    address = free_address()
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-screenshots-") as directory:
        settings = {**SETTINGS, "WEBHOOK_GRPC_ADDRESS": address}
        async with running_receiver(SECONDS_MAX) as port, running_service(Path(directory), **settings) as service:
            await register(service.stub, port)

            async def publish() -> None:
                for number in range(sys.maxsize):
                    await publish_one(service.stub, number)
                    await asyncio.sleep(0 if number < PUBLISHED else EVERY_SECONDS)  # a trickle

            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(publish())
                async with asyncio.timeout(SECONDS_MAX):
                    while not await has_open_breaker(service.stub):  # noqa: ASYNC110 - no signal says so
                        await asyncio.sleep(EVERY_SECONDS)
                for name, line in SHOTS.items():
                    draw(name, line, await printed(line, address))
                publishing.cancel()


if __name__ == "__main__":
    asyncio.run(main())
