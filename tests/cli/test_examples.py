"""Each command's help ends with two lines that work as they stand there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2

from tests.cli.running import Program, Ran
from tests.support import slowness
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service
from webhook_grpc_cli.program import main
from webhook_grpc_cli.tree import COMMANDS

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOOLS = (
    "watch",
    "listen",
    "verify",
    "doctor",
    "open",
)  # run by test_tools.py and others: they need files, or somebody who calls
FOREIGN = ("grep", "jq", "eval")


def commands() -> Iterator[tuple[str, click.Command]]:
    """All commands of the tree, with what their line begins with."""
    context = click.Context(main)
    for noun in COMMANDS:
        command = main.get_command(context, noun)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{noun} {verb}", one) for verb, one in command.commands.items())
        else:
            yield noun, command


@pytest.mark.parametrize("line", [pytest.param(line, id=line) for line, _ in commands()])
async def test_the_help_ends_with_two_examples(offline: Program, line: str) -> None:
    ran = (await offline.run(f"{line} --help")).ok()
    examples = ran.stdout.partition("\nExamples:\n")[2].splitlines()
    assert len(examples) == 2
    assert all(f"webhook-grpc {line}" in example for example in examples)


FILTERS = ("webhook_ids", "event_types", "statuses", "event_id", "since", "until")


async def test_filters_have_the_same_words_and_the_same_order_wherever_they_are() -> None:
    """The words of a status, and what holds without --since, are those of the command."""
    said: dict[str, set[tuple[str, ...]]] = {}
    for line, command in commands():
        options = [one for one in command.params if isinstance(one, click.Option) and one.name in FILTERS]
        names = [str(one.name) for one in options]
        assert names == sorted(names, key=FILTERS.index), line
        for one in options:
            if (
                one.multiple or one.name != "event_id" or "deliveries" in str(one.help)
            ):  # that of `webhooks test` is its own
                help_text = str(one.help).partition(": " if one.name == "statuses" else ";")[0].rstrip(".")
                said.setdefault(str(one.name), set()).add((*one.opts, str(one.metavar), help_text))
    assert {name: len(texts) for name, texts in said.items()} == dict.fromkeys(FILTERS, 1), said


class Scene:
    """A webhook, an event, a delivery and a replay, for which the examples' ids stand."""

    def __init__(self, service: Service, receiver: Receiver) -> None:
        self._service = service
        self._receiver = receiver
        self._count = 0

    async def ids(self, line: str) -> dict[str, str]:
        """Makes new ones, as the command of a line needs them."""
        self._count += 1
        webhook = await self._service.create_webhook(self._receiver.url(), name=f"example-{self._count}")
        is_pending = "cancel" in line or "resume" in line
        if is_pending:
            await self._service.pause_webhook(webhook.webhook_id)
        async with self._service.watching(webhook_ids=[webhook.webhook_id]) as watch:
            event = await self._service.publish()
            changed = await watch.until(lambda seen: is_pending or (bool(seen) and seen[-1].status != 1))
        delivery = f"{event.event_id}".replace("evt_", "dlv_") + f"_{webhook.webhook_id}"
        assert is_pending or changed[-1].delivery_id == delivery
        return {" 12": f" {webhook.webhook_id}", "EVENT_ID": event.event_id, "DELIVERY_ID": delivery}

    async def replay_id(self) -> int:
        """Starts a replay."""
        replay = replay_pb2.Replay(customer_id=CUSTOMER, statuses=[delivery_pb2.DELIVERY_STATUS_FAILED])
        replay.start_time.GetCurrentTime()
        replay.start_time.seconds -= 60
        request = service_pb2.CreateReplayRequest(replay=replay)
        return (await self._service.stub.CreateReplay(request)).replay_id


async def run(program: Program, line: str) -> Ran:
    """Runs a line of the shell: parts behind `|` get what the part before has printed."""
    parts = [part.partition(" > ")[0].strip() for part in line.split(" | ")]
    ran = Ran(0, "", "")
    for number, part in enumerate(parts):
        if not part.startswith(FOREIGN):
            is_last = number == len(parts) - 1
            ran = await program.run(part, stdin=ran.stdout if number else "y\n", terminal=is_last and not number)
            assert ran.status == 0, (part, ran)
    return ran


def examples_of(noun: str) -> list[str]:
    return [example for line, one in commands() if line.split()[0] == noun for example in getattr(one, "examples", ())]


@pytest.mark.slow(8)
@pytest.mark.parametrize("noun", [noun for noun in COMMANDS if noun not in TOOLS])
async def test_examples_work(
    program: Program, service: Service, receiver: Receiver, noun: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "events.ndjson").write_text('{"event_type":"job.completed","data":{}}\n')
    (home / "order.json").write_text('{"type":"object"}')
    scene = Scene(service, receiver)
    for name in ("old", "prod", "local"):
        await program.run(f"profiles add {name} -a 127.0.0.1:1")
    for example in examples_of(noun):
        line = example.replace(" 12 13", " 12").replace("https://hooks.example.com/in", receiver.url())
        line = line.replace("https://ci.example.com/hook", receiver.url()).replace(
            "https://new.example.com/in", receiver.url()
        )
        if noun == "replays":
            line = line.replace(" 7", f" {await scene.replay_id()}") if " 7" in line else line
        if any(word in line for word in (" 12", "EVENT_ID", "DELIVERY_ID")):
            for word, value in (await scene.ids(line)).items():
                line = line.replace(word, value)
        async with slowness.timeout(30):
            await run(program, line)
