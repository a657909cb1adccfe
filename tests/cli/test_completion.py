"""A shell completes ids with names, event types, statuses, profiles and files; silent where nobody answers."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from tests.cli.running import Program
from tests.support import slowness
from tests.support.receiver import Receiver
from tests.support.service import Service
from webhook_grpc_cli import completing

live = pytest.mark.asyncio(loop_scope="module")


async def completed(program: Program, line: str, **environment: Any) -> dict[str, str]:
    """Returns what zsh is offered behind a line, each with what it is called."""
    words = shlex.split(line)
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - (not line.endswith(" ")))}
    ran = await program.run("", _WEBHOOK_GRPC_COMPLETE="zsh_complete", **asked, **environment)
    assert (ran.status, ran.stderr) == (0, "")
    lines = ran.lines if ran.stdout.strip() else []  # of nothing an empty line is printed
    kinds, values, texts = (lines[first::3] for first in range(3))
    return {kind if kind == "file" else value: text for kind, value, text in zip(kinds, values, texts, strict=True)}


@pytest.fixture(autouse=True)
def on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "LOOK_SECONDS_MAX", slowness.scaled(10.0))


@live
@pytest.mark.slow(3)
async def test_ids_and_event_types_are_those_of_the_service(
    program: Program, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url(), name="ci-\x1b[31mbot")
    event = await service.publish()
    await receiver.wait_for(1)
    number, event_id = str(webhook.webhook_id), event.event_id
    for line in (
        "webhooks get ",
        f"webhooks pause {number[0]}",
        "deliveries list --webhook-id ",
        "watch --webhook-id ",
    ):
        assert await completed(program, f"webhook-grpc {line}") == {number: "ci-\\x1b[31mbot"}
    assert await completed(program, f"webhook-grpc top --webhook-id {number},{number}") == {
        f"{number},{number}": "ci-\\x1b[31mbot"
    }
    assert await completed(program, "webhook-grpc webhooks get x") == {}
    types = await completed(program, "webhook-grpc events list -t job.failed,job.comp")
    assert list(types) == ["job.failed,job.completed"]
    assert await completed(program, "webhook-grpc events explain ") == {event_id: "job.completed"}
    assert await completed(program, "webhook-grpc deliveries get dlv_") == {
        f"{event_id.replace('evt_', 'dlv_')}_{number}": "job.completed"
    }
    assert await completed(program, "webhook-grpc replays get ") == {}


@live
async def test_words_profiles_and_files_need_no_service(offline: Program) -> None:
    offline.run_here("profiles add prod -a hooks.internal:443").ok()
    assert list(await completed(offline, "webhook-grpc deliveries list --status failed,s")) == ["failed,succeeded"]
    for line in ("-p p", "profiles use "):
        assert await completed(offline, f"webhook-grpc {line}") == {"prod": "hooks.internal:443"}
    for line in ("events publish --ndjson ", "--ca ", "verify --body b"):
        assert list(await completed(offline, f"webhook-grpc {line}")) == ["file"]


@live
async def test_nothing_is_offered_where_nobody_answers_or_something_would_be_asked(
    program: Program, service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.create_webhook(receiver.url())
    assert await completed(program, "webhook-grpc webhooks get ") != {}
    assert await completed(program, "webhook-grpc -a 127.0.0.1:1 webhooks get ") == {}
    assert await completed(program, "webhook-grpc -a nonsense webhooks get ") == {}
    assert await completed(program, "webhook-grpc -p nobody webhooks get ") == {}
    marker = program.home / "asked"
    (await program.run(f"profiles add by-command --token-command 'touch {marker}'")).ok()
    assert await completed(program, "webhook-grpc webhooks get ") == {}
    assert not marker.exists()
    monkeypatch.setattr(completing, "LOOK_SECONDS_MAX", 0.0)
    assert await completed(program, "webhook-grpc webhooks get ", WHK_TOKEN="t") == {}
