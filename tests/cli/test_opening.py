"""`open` starts the page at an id, and attempts end with what follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from tests.cli.running import Program
from tests.cli.test_examples import commands
from tests.support.receiver import Receiver, answer
from tests.support.service import Service
from webhook_grpc_cli.flags import Command, Group
from webhook_grpc_cli.output.look import Look
from webhook_grpc_cli.output.things import next_line

live = pytest.mark.asyncio(loop_scope="module")
DELIVERY = "dlv_01jd8zq4v6e3m0k9x2h7t5n8cw_12"
NOW = datetime(2026, 11, 28, 14, 3, 24, tzinfo=UTC)
LOOK = Look(is_terminal=True, has_colour=False, has_unicode=True, width=120, is_utc=True, now=NOW)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was started with."""
    addresses: list[str] = []

    def start(address: str) -> bool:
        addresses.append(address)
        return True

    monkeypatch.setattr("webhook_grpc_cli.commands.open.webbrowser.open", start)
    return addresses


@pytest.mark.parametrize(
    ("one", "path"),
    [("", ""), ("12", "webhooks/12"), (DELIVERY, f"deliveries/{DELIVERY}"), (f"evt_{DELIVERY[4:30]}", "events/evt_")],
)
def test_a_browser_starts_at_the_id(offline: Program, opened: list[str], one: str, path: str) -> None:
    ran = offline.run_here(f"open {one} -c 7", terminal=True).ok()
    assert ran.stdout == ""
    assert opened[0].startswith(f"http://127.0.0.1:8080/{path}")
    assert opened[0].endswith("?customer_id=7")


def test_where_no_browser_is_the_address_is_printed(
    offline: Program, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offline.run_here("open 12").ok().stdout == "http://127.0.0.1:8080/webhooks/12\n"
    assert opened == []

    def start_none(_: str) -> bool:
        return False

    monkeypatch.setattr("webhook_grpc_cli.commands.open.webbrowser.open", start_none)
    assert offline.run_here("open", terminal=True).ok().stdout == "http://127.0.0.1:8080/\n"


def test_the_page_of_another_machine_has_to_be_named_once(offline: Program) -> None:
    unknown = offline.run_here("open -a hooks.internal:443")
    assert (unknown.status, "--page" in unknown.stderr) == (2, True)
    offline.run_here("profiles add prod -a hooks.internal:443 --page https://hooks.internal/").ok()
    assert offline.run_here("open 12").ok().stdout == "https://hooks.internal/webhooks/12\n"
    assert offline.run_here("open 12", WHK_PAGE="https://other").ok().stdout == "https://other/webhooks/12\n"
    assert offline.run_here("open 12 --page https://third").ok().stdout == "https://third/webhooks/12\n"


def test_what_is_no_id_and_what_is_no_address_is_refused(offline: Program, opened: list[str]) -> None:
    for line in ("open ../admin", "open dlv_1", "open --page file:///etc/passwd"):
        assert offline.run_here(line, terminal=True).status == 2
    assert opened == []


def test_no_option_takes_the_name_under_which_a_flag_of_every_command_is_kept() -> None:
    """Both would be written to one place without a word."""
    context = click.Context(click.Command("none"))
    flags = {parameter.name for parameter in Group(name="bare").get_params(context)} - {"help"}
    assert {"address", "timeout", "key"} <= flags
    for line, command in commands():
        assert isinstance(command, Command)
        assert not {parameter.name for parameter in command.params if not is_in_place_of_flag(parameter)} & flags, line


def is_in_place_of_flag(parameter: click.Parameter) -> bool:
    """Returns whether an option has the spelling of a flag, too: then the flag is not there."""
    return f"--{str(parameter.name).replace('_', '-')}" in parameter.opts


@pytest.mark.parametrize(
    ("webhook", "stats", "line"),
    [
        ({}, {}, "next: 14:04:22 (in 58 s)"),
        ({}, {"breaker_state": "open"}, "next: 14:04:22 (in 58 s), or later: the breaker is open"),
        ({}, {"breaker_state": "half_open"}, "next: 14:04:22 (in 58 s), or later: the breaker is half open"),
        ({"status": "paused"}, {}, "next: when the webhook is resumed; due 14:04:22 (in 58 s)"),
    ],
)
def test_the_last_line_says_when_the_next_attempt_is(webhook: dict[str, Any], stats: dict[str, Any], line: str) -> None:
    at = {"next_attempt_time": (NOW + timedelta(seconds=58)).isoformat()}
    assert next_line(at, webhook, stats, LOOK) == line
    assert next_line({"next_attempt_time": NOW.isoformat()}, {}, {}, LOOK) == "next: now"


@live
async def test_attempts_of_a_delivery_end_with_what_follows(
    program: Program, service: Service, receiver: Receiver
) -> None:
    later = {"delays": [timedelta(hours=1)]}
    bad = await service.create_webhook(receiver.on("/bad", answer(503)), retry_policy=later)
    good = await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        event = await service.publish()
        await watch.until(lambda seen: {one.webhook_id for one in seen} == {bad.webhook_id, good.webhook_id})
    delivery_id = event.event_id.replace("evt_", "dlv_")
    pending = (await program.run(f"deliveries attempts {delivery_id}_{bad.webhook_id}", terminal=True)).ok()
    assert pending.lines[-1].startswith("next: ")
    ended = (await program.run(f"deliveries attempts {delivery_id}_{good.webhook_id}", terminal=True)).ok()
    assert "next: " not in ended.stdout
    piped = (await program.run(f"deliveries attempts {delivery_id}_{bad.webhook_id}")).ok()
    assert len(piped.lines) == 1
