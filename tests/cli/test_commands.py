"""What the commands do, and what they never do."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from webhook.v1 import webhook_pb2

from tests.cli.running import Program
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def webhook(service: Service, receiver: Receiver) -> AsyncGenerator[webhook_pb2.Webhook]:
    """A webhook for all events."""
    yield await service.create_webhook(receiver.url(), name="billing-eu")


async def test_a_secret_is_shown_on_a_terminal_in_json_or_in_a_file_and_nowhere_else(
    program: Program, receiver: Receiver, home: Path
) -> None:
    line = f"webhooks create billing {receiver.url()} job.* "
    assert "whsec_" in (await program.run(line, terminal=True)).ok().stdout
    [made] = (await program.run(f"{line} -o json")).ok().objects
    assert made["secret"].startswith("whsec_")
    without = (await program.run(f"{line} -o json --fields webhook_id", terminal=True)).ok()
    assert (list(without.objects[0]), "rotate-secret" in without.stderr) == (["webhook_id"], True)
    piped = (await program.run(line)).ok()
    assert "whsec_" not in piped.stdout + piped.stderr
    assert "--secret-out FILE" in piped.stderr
    assert "whsec_" in (await program.run(f"{line} --show-secret")).ok().stdout
    file = home / "secret"
    for form in ("-o json", "-o table"):
        ran = (await program.run(f"{line} {form} --secret-out {file}", terminal=True)).ok()
        assert "whsec_" not in ran.stdout + ran.stderr
        assert file.read_text().startswith("whsec_")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        taken = await program.run(f"{line} --secret-out {file}")
        assert taken.status == 2, "a secret that is there is not written over"
        file.unlink()
    failed = await program.run(f"webhooks create x nonsense * --secret-out {file}")
    assert (failed.status, file.exists()) == (1, False)


async def test_an_update_changes_what_the_line_names_and_nothing_else(
    program: Program, service: Service, webhook: webhook_pb2.Webhook
) -> None:
    line = f"webhooks update {webhook.webhook_id}"
    await program.run(f"{line} --timeout 3s --header X-One=a=b --label team=x --description old --max-in-flight 3")
    ran = await program.run(f"{line} --event job.*,alert.triggered --retry-delay 1s,2m --clear description -o json")
    [changed] = ran.ok().objects
    assert changed["events"] == ["job.*", "alert.triggered"]
    assert (changed["timeout"], changed["headers"], changed["labels"]) == ("3s", {"X-One": "…"}, {"team": "x"})
    assert changed["retry_policy"]["delays"] == ["1s", "120s"]
    assert "description" not in changed
    assert changed["name"] == webhook.name
    stale = await program.run(f"{line} --name new --etag {webhook.etag}")
    assert (stale.status, "ETAG_MISMATCH" in stale.stderr) == (5, True)
    assert (await program.run(line)).status == 2


async def test_what_cannot_be_undone_is_asked_for(
    program: Program, service: Service, webhook: webhook_pb2.Webhook
) -> None:
    line = f"webhooks delete {webhook.webhook_id}"
    nobody = await program.run(line)
    assert (nobody.status, "add --yes" in nobody.stderr) == (2, True)
    refused = await program.run(line, terminal=True, stdin="n\n")
    assert (refused.status, "delete billing-eu" in refused.stderr) == (130, True)
    await program.run("profiles add prod --confirm-always")
    assert (await program.run(line, terminal=True, stdin="y\n")).status == 130, "the profile's name is wanted"
    assert (await service.webhook(webhook.webhook_id)).name == "billing-eu"
    (await program.run(line, terminal=True, stdin="prod\n")).ok()
    assert (await program.run(line.replace("delete", "get"))).status == 3


async def test_a_test_that_fails_is_status_9(
    program: Program, webhook: webhook_pb2.Webhook, receiver: Receiver
) -> None:
    good = (await program.run(f"webhooks test {webhook.webhook_id}", terminal=True)).ok()
    assert good.stdout.startswith("✓ 200 in ")
    receiver.on("/ok", answer(503, "upstream \x1b[31munavailable"))
    bad = await program.run(f"webhooks test {webhook.webhook_id}", terminal=True)
    assert bad.status == 9
    assert bad.stdout.startswith("✕ 503 in ")
    assert "(http_error)   upstream \\x1b[31munavailable" in bad.stdout


async def test_publish_waits_for_all_deliveries(
    program: Program, service: Service, webhook: webhook_pb2.Webhook, receiver: Receiver
) -> None:
    line = "events publish job.completed '{\"n\": 1.50}' -r one --attribute a=b --wait"
    ran = (await program.run(line, terminal=True)).ok()
    assert "goes to 1 webhook" in ran.stdout
    assert "1 of 1 delivered" in ran.stderr
    assert "✓ billing-eu #" in ran.stderr
    again = (await program.run(line, terminal=True)).ok()
    assert "(published before)" in again.stdout
    assert "1 of 1 delivered" in again.stderr, "what has ended already is found, too"
    [[event_id]] = (await program.run("events publish job.completed -r one '{\"n\": 1.50}' --attribute a=b")).rows
    assert (await program.run(f"events get {event_id} --data")).stdout == '{"n": 1.50}'
    shown = (await program.run(f"events get {event_id}", terminal=True)).ok().stdout
    assert ["publisher", "anonymous"] in [line.split() for line in shown.splitlines()]
    receiver.on("/ok", answer(500))
    failed = await program.run("events publish job.failed --wait", stdin="")
    assert (failed.status, "events explain evt_" in failed.stderr) == (9, True)


async def test_publish_takes_data_from_a_file_and_from_stdin(program: Program, home: Path) -> None:
    (home / "data.json").write_text('{"from":"file"}')
    for data, expected in ((f"@{home / 'data.json'}", '{"from":"file"}'), ("-", '{"from":"stdin"}')):
        [[event_id]] = (await program.run(f"events publish job.completed {data}", stdin='{"from":"stdin"}')).ok().rows
        assert (await program.run(f"events get {event_id} --data")).stdout == expected
    missing = await program.run("events publish job.completed @nowhere")
    assert (missing.status, "No such file" in missing.stderr) == (2, True)


async def test_a_list_says_that_there_is_more_and_nothing_is_cut(program: Program, service: Service) -> None:
    ids = await service.publish_many(5)
    ran = (await program.run("events list -n 3 -o id")).ok()
    assert len(ran.lines) == 3
    assert set(ran.lines) < set(ids)
    assert ran.stderr == "3 shown, there are more: -n N or --all\n"
    assert sorted((await program.run("events list --all -o id")).lines) == sorted(ids)
    chosen = (await program.run("events list -n 1 --data --fields event_type,data")).ok()
    assert [row[0] for row in chosen.rows] == ["job.completed"]
    assert chosen.rows[0][1].startswith('{"n":')
    assert (await program.run("events list -n 1 -o json --fields event_type")).objects == [
        {"event_type": "job.completed"}
    ]
    empty = (await program.run("events list -t nobody.*")).ok()
    assert (empty.stdout, empty.stderr) == ("", "nothing found\n")


async def test_deliveries_are_retried_from_stdin_and_one_that_is_refused_is_status_8(
    program: Program, service: Service, webhook: webhook_pb2.Webhook, receiver: Receiver
) -> None:
    receiver.on("/ok", answer(503, "away"))
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended()
    table = (await program.run("deliveries list -s failed --since 1h", terminal=True, COLUMNS="140")).ok()
    assert "✕ failed" in table.stdout
    assert "billing-eu #" in table.stdout
    failed = (await program.run("deliveries list -s failed -o id")).ok()
    attempts = (await program.run(f"deliveries attempts {failed.lines[0]} -o json")).ok().objects
    assert {attempt["response_text"] for attempt in attempts} == {"away"}
    assert (await program.run("deliveries attempts - -o json", stdin=failed.stdout)).ok().objects == attempts
    receiver.on("/ok", answer(200))
    ran = await program.run("deliveries retry - --wait -o json", stdin=failed.stdout + "dlv_nonsense\n")
    assert ran.status == 8
    assert [delivery["status"] for delivery in ran.objects] == ["succeeded"]
    assert "dlv_nonsense" in ran.stderr
    alone = await program.run("deliveries retry dlv_nonsense")
    assert alone.status in {1, 3}


async def test_a_replay_is_counted_first(
    program: Program, service: Service, webhook: webhook_pb2.Webhook, receiver: Receiver
) -> None:
    async with service.watching() as watch:
        await service.publish_many(3)
        await watch.until_ended(3)
    line = "replays create --since 1h --status succeeded"
    counted = (await program.run(f"{line} --dry-run -o json")).ok()
    assert "would send 3 deliveries" in counted.stderr
    assert counted.objects[0]["delivery_count"] == 3
    assert (await program.run("replays list -o id")).stdout == "", "nothing is sent yet"
    assert (await program.run(line)).status == 2, "nobody can be asked"
    done = (await program.run(f"{line} -y --wait -o json")).ok()
    assert (done.objects[0]["status"], done.objects[0]["succeeded_count"]) == ("completed", 3)


async def test_a_webhook_that_was_disabled_is_sent_what_it_has_missed(
    program: Program, service: Service, webhook: webhook_pb2.Webhook, receiver: Receiver
) -> None:
    receiver.on("/ok", answer(410))
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended()
    missed = await service.publish()
    receiver.on("/ok", answer(200))
    async with service.watching() as watch:
        line = f"webhooks resume {webhook.webhook_id} --replay-missed -y"
        ran = (await program.run(line)).ok()
        assert "would send 1 delivery" in ran.stderr
        [ended] = await watch.until_ended()
    assert ended.event_id == missed.event_id
    again = await program.run(f"webhooks pause {webhook.webhook_id}")
    assert again.status == 0
    assert "has missed nothing" in (await program.run(line)).ok().stderr


async def test_ndjson_publishes_each_line_once_and_names_those_that_are_refused(
    program: Program, home: Path, service: Service
) -> None:
    lines = [f'{{"event_type":"job.completed","data":{{"n": {number}.0}}}}' for number in range(30)]
    lines[7] = '{"event_type":"nobody.knows","data":{}}'
    lines[9] = "nonsense"
    file, errors = home / "events.ndjson", home / "errors"
    file.write_text("\n".join(lines))
    line = f"events publish --ndjson {file} --errors {errors} --batch 10 -o json"
    ran = await program.run(line)
    assert ran.status == 8
    [counts] = ran.objects
    assert {**counts, "run": ""} == {"published": 28, "duplicates": 0, "refused": 2, "run": ""}
    assert {(error["line"], error["reason"]) for error in map(json.loads, errors.read_text().splitlines())} == {
        (8, "EVENT_TYPE_UNKNOWN"),
        (10, "LINE_INVALID"),
    }
    assert "line 8: EVENT_TYPE_UNKNOWN" in ran.stderr
    [again] = (await program.run(f"{line} --run {counts['run']}")).objects
    assert (again["published"], again["duplicates"]) == (0, 28)
    data = (await program.run("events list --all --data --fields data")).lines
    assert sorted(data) == sorted(f'{{"n": {number}.0}}' for number in range(30) if number not in {7, 9})
    piped = (await program.run("events publish --ndjson -", stdin=lines[0])).ok()
    assert piped.stdout.startswith("published 1 · duplicates 0 · refused 0   run ")


async def test_explain_says_why(
    program: Program, service: Service, webhook: webhook_pb2.Webhook, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url(), name="audit", events=["quota.*"])
    published = await service.publish()
    rows = {row[0]: row[1] for row in (await program.run(f"events explain {published.event_id}")).ok().rows}
    assert sorted(rows.values()) == ["matched", "type_not_subscribed"]


async def test_the_data_of_a_customer_is_deleted_only_if_the_number_is_given_again(
    program: Program, service: Service, webhook: webhook_pb2.Webhook
) -> None:
    line = f"customers delete-data {CUSTOMER}"
    assert (await program.run(f"{line} -y")).status == 2
    assert (await program.run(f"{line} --yes-delete-customer 7")).status == 2
    assert (await program.run(line, terminal=True, stdin="7\n")).status == 2
    assert (await service.webhook(webhook.webhook_id)).name == "billing-eu"
    (await program.run(line, terminal=True, stdin=f"{CUSTOMER}\n")).ok()
    assert (await program.run("webhooks list -o id")).stdout == ""


async def test_what_others_wrote_drives_no_terminal(program: Program, service: Service, receiver: Receiver) -> None:
    named = await service.create_webhook(receiver.url(), name="\u202e\x1b[31m")
    published = (await program.run("events publish job.completed --wait", terminal=True)).ok()
    asked = await program.run(f"webhooks delete {named.webhook_id}", terminal=True, stdin="y\n")
    for said in (published.stderr, asked.stderr):
        assert "\\u202e\\x1b[31m #" in said
        assert not {"\u202e", "\x1b"} & set(said)
    hostile = '{"name": "\u202e\u0007 title", "x": "\u009b31m"}'
    await service.publish(data_json=hostile.replace("\u0007", "\\u0007"))
    for terminal in (True, False):
        ran = (await program.run("events list --data", terminal=terminal, COLUMNS="200")).ok()
        assert "\\u202e" in ran.stdout
        assert "\\x9b31m" in ran.stdout
        assert not {"\u202e", "\x9b", "\x07"} & set(ran.stdout)


async def test_colour_and_marks_are_for_terminals_that_have_them(
    program: Program, webhook: webhook_pb2.Webhook
) -> None:
    async def listed(flags: str = "", *, terminal: bool = True, encoding: str = "utf-8", **environment: str) -> str:
        line = f"webhooks list -o table {flags}"
        return (await program.run(line, terminal=terminal, encoding=encoding, **environment)).ok().stdout

    assert "\x1b[" in await listed()
    assert "\x1b[" not in await listed(NO_COLOR="")
    assert "\x1b[" not in await listed(TERM="dumb")
    assert "\x1b[" not in await listed(terminal=False)
    assert "\x1b[" in await listed(terminal=False, FORCE_COLOR="1")
    assert "\x1b[" in await listed("--color always", NO_COLOR="1")
    assert "\x1b[" not in await listed("--color never", FORCE_COLOR="1")
    assert "● active" in await listed(NO_COLOR="1")
    plain = await listed(NO_COLOR="1", encoding="ascii")
    assert "o active" in plain
    assert plain.isascii()
    for width in (40, 80):
        assert max(map(len, (await listed(NO_COLOR="1", COLUMNS=str(width))).splitlines())) <= width


async def test_a_table_is_for_people_and_tabs_are_for_a_pipe(program: Program, webhook: webhook_pb2.Webhook) -> None:
    assert "Webhook" in (await program.run("webhooks list --stats", terminal=True)).ok().stdout
    piped = (await program.run("webhooks list")).ok()
    assert piped.rows == [[str(webhook.webhook_id), "active", "billing-eu", webhook.url, "*"]]
    assert (await program.run("webhooks list", WHK_OUTPUT="id")).lines == [str(webhook.webhook_id)]
    wrong = await program.run("webhooks list", WHK_OUTPUT="yaml")
    assert (wrong.status, "WHK_OUTPUT" in wrong.stderr) == (2, True)


async def test_completion_knows_the_tree(program: Program) -> None:
    assert "_WEBHOOK_GRPC_COMPLETE=bash_complete" in (await program.run("completion bash")).ok().stdout
    environment = {
        "_WEBHOOK_GRPC_COMPLETE": "bash_complete",
        "COMP_WORDS": "webhook-grpc webhooks re",
        "COMP_CWORD": "2",
    }
    ran = await program.run("", **environment)
    assert {line.partition(",")[2] for line in ran.lines} == {"resume"}


async def test_a_run_that_breaks_off_says_how_to_go_on(offline: Program) -> None:
    (offline.home / "events.ndjson").write_text('{"event_type":"job.completed","data":{}}\n')
    ran = await offline.run(f"events publish --ndjson {offline.home / 'events.ndjson'} -a 127.0.0.1:1 --timeout 200ms")
    assert ran.status == 6
    assert "to go on: the same command with --run " in ran.stderr
