"""What users and machines get wrong: each is one sentence that names it, or does no harm."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from grpc import StatusCode
from webhook.v1 import webhook_pb2

from tests.cli.running import Program
from tests.support.receiver import Receiver
from tests.support.service import Service
from webhook_grpc_cli import meaning
from webhook_grpc_cli.commands import ndjson
from webhook_grpc_cli.doctoring.results import proxy_of
from webhook_grpc_cli.failures import lines_of
from webhook_grpc_cli.output.fitting import fitted
from webhook_grpc_cli.output.kind import Column
from webhook_grpc_client.errors import Problem, made

live = pytest.mark.asyncio(loop_scope="module")
GOOD = '{"event_type":"job.completed","data":{}}'


@live
@pytest.mark.slow(3)
async def test_each_wrong_line_is_refused_by_itself_and_named(
    program: Program, service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson, "LINE_BYTES_MAX", 200)
    wrong = {
        b'{"event_type":"job.completed","data":{"a":"\xff"}}': "is no text in UTF-8",
        b'{"event_type":"job.completed","data":"' + b"a" * 700 + b'"}': "has more than 200 bytes",
        b'{"data":{}}': "event_type is missing",
        b'{"event_type":1}': "event_type must be text",
        GOOD.replace("{}", '{},"customer_id":"7"').encode(): "customer_id must be a whole number",
        GOOD.replace("{}", '{},"customer_id":true').encode(): "customer_id must be a whole number",
        GOOD.replace("{}", '{},"attributes":{"a":1}').encode(): "attributes must be an object whose values are texts",
        GOOD.replace("{}", '{},"occur_time":"noon"').encode(): "occur_time must be a time such as",
        GOOD.replace("{}", '{},"occur_time":"2026-01-01T00:00:00"').encode(): "occur_time has no time zone",
    }
    file, errors = home / "events.ndjson", home / "errors"
    file.write_bytes(b"\r\n".join([b"\xef\xbb\xbf" + GOOD.encode(), b"", *wrong, GOOD.encode()]))
    ran = await program.run(f"events publish --ndjson {file} --errors {errors}")
    assert (ran.status, ran.stdout.partition("   run")[0]) == (8, f"published 2 · duplicates 0 · refused {len(wrong)}")
    refused = [json.loads(line) for line in errors.read_text().splitlines()]
    assert [one["line"] for one in refused] == list(range(3, 3 + len(wrong)))
    for one, words in zip(refused, wrong.values(), strict=True):
        assert words in one["message"]


@live
async def test_of_a_pipe_nothing_is_read_ahead_for_the_progress_bar(program: Program, service: Service) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, f"{GOOD}\n".encode())
        os.close(writing)
        ran = (await program.run(f"events publish --ndjson /dev/fd/{reading}", terminal=True)).ok()
    finally:
        os.close(reading)
    assert ran.stdout.startswith("published 1 ")


def test_a_run_that_has_not_begun_is_not_to_be_continued(offline: Program) -> None:
    ran = offline.run_here("events publish --ndjson nowhere.ndjson")
    assert (ran.status, ran.stderr) == (2, "error: nowhere.ndjson: No such file or directory\n")


def test_the_lines_that_are_read_are_not_overwritten_with_those_that_are_refused(offline: Program) -> None:
    file = offline.home / "events.ndjson"
    file.write_text(f"{GOOD}\n")
    ran = offline.run_here(f"events publish --ndjson {file} --errors {file}")
    assert (ran.status, ran.stderr) == (2, f"error: --errors: {file} is what is read\n")
    assert file.read_text() == f"{GOOD}\n"


def test_a_misspelt_type_is_looked_for_once_and_only_so_many_are(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def matches(word: str, *_: object) -> list[str]:
        looked.append(word)
        return ["job.completed"]

    monkeypatch.setattr(meaning, "get_close_matches", matches)
    meant = meaning.Meant(list)
    for number in (*range(meaning.NAMES_MAX + 1), 0):
        hint = meant.hint(meaning.UNKNOWN, f"`job.{number}` is not registered")
        assert hint == ("" if number == meaning.NAMES_MAX else " Did you mean `job.completed`?")
    assert len(looked) == meaning.NAMES_MAX


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("$'a\\nb'", "can be no name of a profile"),
        ("''", "can be no name of a profile"),
        ("prod -a hooks.internal", "--address: `hooks.internal` is no HOST:PORT"),
        ("prod --token-command 'pass show \"hooks'", "--token-command: No closing quotation"),
        ("prod --token-command ' '", "token_command must be a list of words"),
    ],
)
def test_a_profile_that_no_line_could_use_is_not_written(offline: Program, words: str, said: str) -> None:
    ran = offline.run_here(f"profiles add {words}".replace("$'a\\nb'", "'a\nb'"))
    assert (ran.status, said in ran.stderr) == (2, True), ran
    assert not list(offline.home.rglob("config.toml*"))


def test_what_is_no_text_and_where_nothing_can_be_written_is_said_before_anything_begins(offline: Program) -> None:
    ran = offline.run_here(f"watch --cursor-file {offline.home}/nowhere/cursor -a 127.0.0.1:1")
    said = f"error: {offline.home}/nowhere/cursor: nothing can be written into {offline.home}/nowhere\n"
    assert (ran.status, ran.stderr) == (2, said)
    (offline.home / "no.pem").write_text("nothing")
    ran = offline.run_here(f"webhooks list --ca {offline.home}/no.pem -a hooks.internal:443")
    assert (ran.status, ran.stderr) == (2, f"error: {offline.home}/no.pem holds no certificate in PEM\n")
    for line in ("webhooks create \udcff http://a/ '*'", "deliveries retry \udcff"):
        ran = offline.run_here(f"{line} -a 127.0.0.1:1")
        assert (ran.status, ran.stderr) == (2, "error: `\\udcff` is no text in UTF-8\n"), line


@pytest.mark.slow(2)
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(home: Path, closed: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m webhook_grpc_cli profiles list {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    said = "" if "2>" in closed else "there are none; webhook-grpc profiles add NAME -a HOST:PORT\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)


@live
async def test_an_address_that_is_taken_is_named(program: Program, receiver: Receiver) -> None:
    place = receiver.url().removeprefix("http://").partition("/")[0]
    ran = await program.run(f"listen --listen {place}")
    assert (ran.status, ran.stdout) == (1, "")
    assert ran.stderr == f"error: {place}: Address already in use\n  try: another --listen HOST:PORT\n"


@live
async def test_what_has_no_columns_has_a_line_for_each_field_in_a_pipe(
    program: Program, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url())
    rows = dict((await program.run(f"webhooks stats {webhook.webhook_id}")).ok().rows)
    assert (rows["attempt_count"], rows["breaker_state"]) == ("0", "closed")
    [[outcome, status, *_, delivery_id]] = (await program.run(f"webhooks test {webhook.webhook_id}")).ok().rows
    assert (outcome, status, delivery_id[:4]) == ("succeeded", "200", "dlv_")
    ran = await program.run(f"webhooks stats {webhook.webhook_id} -o id")
    assert (ran.status, ran.stdout, ran.stderr) == (2, "", "error: -o id: what this prints has no id\n")


@live
@pytest.mark.slow(3)
async def test_a_field_that_is_misspelt_is_an_error_with_the_names_and_nothing_is_changed(
    program: Program, service: Service, receiver: Receiver
) -> None:
    for form in ("table", "tsv", "json", "id"):
        ran = await program.run(f"deliveries list -o {form} --fields delivery_id,last_attempt.response_statu")
        assert (ran.status, ran.stdout) == (2, ""), "also where there is nothing to print"
        assert "there is no `last_attempt.response_statu`; did you mean `last_attempt.response_status`?" in ran.stderr
        assert "last_attempt.attempt_number, last_attempt." in ran.stderr
    number = (await service.create_webhook(receiver.url(), labels={"team": "billing"})).webhook_id
    for line in (
        f"webhooks pause {number}",
        f"webhooks test {number}",
        f"webhooks get {number}",
        "events list",
        "watch",
    ):
        ran = await program.run(f"{line} -o json --fields nam")
        assert (ran.status, ran.stdout) == (2, ""), line
        assert "there is no `nam`" in ran.stderr, line
    assert (await service.webhook(number)).status == webhook_pb2.WEBHOOK_STATUS_ACTIVE
    assert not receiver.requests
    right = await program.run("webhooks list --stats -o tsv --fields labels.team,labels.none,stats.breaker_state,name")
    assert right.ok().rows[0][:3] == ["billing", "", "closed"]
    assert (await program.run("events list --fields data_json")).status == 2, "it is shown as `data`"
    assert "`url` has no fields" in (await program.run(f"webhooks get {number} --fields url.host")).stderr
    (await program.run("top -n 1 --interval 100ms -o json --fields name,stats.pending_count,last_problem.outcome")).ok()


@live
async def test_all_fields_at_fault_are_told_in_one_error(program: Program) -> None:
    ran = await program.run("webhooks create '' nonsense 'job.*' --timeout 100h")
    first, *fields, last = ran.stderr.splitlines()
    assert (ran.status, first) == (1, "error: 3 fields are wrong    INVALID_ARGUMENT  FIELD_INVALID")
    assert sorted(line.split()[0] for line in fields) == ["webhook.name", "webhook.timeout", "webhook.url"]
    assert last.startswith("  request ")


@live
async def test_the_event_type_that_was_meant_is_named(program: Program, home: Path) -> None:
    ran = await program.run("events publish job.complted")
    assert ran.status == 5
    assert "Did you mean `job.completed`?" in ran.stderr
    error = json.loads((await program.run("events publish job.complted -o json")).stderr)["error"]
    assert (error["reason"], "`job.completed`" in error["message"]) == ("EVENT_TYPE_UNKNOWN", True)
    assert "Did you mean" not in (await program.run("events publish xyzzy.q")).stderr
    created = await program.run("webhooks create x http://127.0.0.1:8099/ job.complted")
    assert (created.status, "Did you mean `job.completed`?" in created.stderr) == (5, True)
    (home / "events.ndjson").write_text(GOOD.replace("completed", "complted"))
    assert "`job.completed`" in (await program.run(f"events publish --ndjson {home}/events.ndjson")).stderr


@live
async def test_no_word_is_broken_in_a_table_of_80_columns(
    program: Program, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url(), name="billing-europe-production")
    async with service.watching() as watch:
        published = await service.publish()
        [ended] = await watch.until_ended()
    for line in (
        "webhooks list --stats", "deliveries list", f"deliveries attempts {ended.delivery_id}", "events list",
        f"events explain {published.event_id}", "event-types list",
    ):  # fmt: skip
        wide, narrow = [
            (await program.run(f"{line} -o table --utc", terminal=True, NO_COLOR="1", COLUMNS=width)).ok()
            for width in ("400", "80")
        ]
        assert max(map(len, narrow.lines)) <= 80, line
        words = {word for text in wide.lines for word in text.split() if not word.startswith("http")}
        broken = {word for text in narrow.lines for word in text.split() if not set(word) & set("─/:.")} - words
        assert broken <= set(ended.last_attempt.response_body.decode()), (line, broken)
    narrow = await program.run("deliveries list -o table", terminal=True, COLUMNS="80")
    assert (
        "left out, for 80 columns: Attempts, Event type, Answer, Latency, Next or ended. All: -o tsv, -o json"
        in narrow.stderr
    )
    assert ended.delivery_id in narrow.stdout


def test_columns_are_left_out_before_words_are_broken() -> None:
    columns = [Column("Id", "id", is_whole=True), Column("Name", "n"), Column("Url", "u", is_foldable=True)]
    columns += [Column("Late", "l", dropped=2), Column("Later", "r", dropped=1)]
    rows = [["0123456789", "one two", "x" * 90, "ten", "eleven"]]
    assert fitted(columns, rows, 400) == dict.fromkeys(range(5))
    assert fitted(columns, rows, 60) == {0: 10, 1: 7, 2: 25, 3: 4, 4: 6}
    assert list(fitted(columns, rows, 41)) == [0, 1, 2, 4]
    assert fitted(columns, rows, 30) == {0: 10, 1: 4, 2: 12}
    assert fitted(columns, rows, 20) == dict.fromkeys(range(3)), "what has no room is broken"


def test_the_noun_that_was_meant_is_named(offline: Program) -> None:
    assert "Did you mean 'webhooks'?" in offline.run_here("webhook list").stderr
    assert "Did you mean 'list'?" in offline.run_here("webhooks ls").stderr
    assert "Did you mean" not in offline.run_here("xyzzy").stderr
    assert "is not a valid whole number" in offline.run_here("webhooks get twelve").stderr


@live
async def test_a_dumb_terminal_is_as_wide_as_it_says(program: Program, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url(), name="w" * 60)
    ran = (await program.run("webhooks list", terminal=True, TERM="dumb", COLUMNS="140")).ok()
    assert len(ran.lines) == 3, "nothing is folded"


@live
async def test_a_proxy_of_the_environment_is_not_for_this_machine(program: Program, service: Service) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ran = (await program.run("webhooks list", https_proxy=proxy, http_proxy=proxy, grpc_proxy=proxy)).ok()
    assert ran.stderr == "nothing found\n"


def test_the_proxy_that_calls_go_through_is_known() -> None:
    environment = {"https_proxy": "http://proxy:1", "no_proxy": "internal, example.com"}
    assert proxy_of("hooks.other.com:443", environment) == "https_proxy"
    assert proxy_of("hooks.other.com:443", {**environment, "grpc_proxy": "http://proxy:2"}) == "grpc_proxy"
    for address in ("127.0.0.1:50051", "localhost:50051", "unix:/run/socket", "hooks.internal:443"):
        assert proxy_of(address, environment) == ""
    assert proxy_of("hooks.other.com:443", {}) == ""


@pytest.mark.parametrize("address", ["http://127.0.0.1:50051", "127.0.0.1", "hooks.internal", ":50051", "::1", "a b:1"])
def test_an_address_without_a_port_is_wrong_and_is_not_tried(offline: Program, address: str) -> None:
    for ran in (offline.run_here(f"webhooks list -a '{address}'"), offline.run_here("top", WHK_ADDRESS=address)):
        assert (ran.status, ran.stdout) == (2, "")
        assert f"`{address}` is no HOST:PORT" in ran.stderr


def test_what_to_do_where_nobody_answers_is_said() -> None:
    def tried(message: str, reason: str = "") -> list[str]:
        return lines_of(made(Problem(StatusCode.UNAVAILABLE, message, reason)))[1:]

    assert tried("Connection refused") == ["  try: webhook-grpc doctor"]
    assert "speaks HTTP" in tried("(Trying to connect an http1.x server (HTTP status 400))")[0]
    assert "--no-tls" in tried("SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER")[0]
    assert "--ca" in tried("SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: self signed certificate")[0]
    assert tried("the database is away", "DATABASE_UNAVAILABLE") == []


@live
async def test_a_profile_that_always_confirms_has_its_name_typed_before_anything_is_changed(
    program: Program, service: Service, receiver: Receiver, home: Path
) -> None:
    number = (await service.create_webhook(receiver.url())).webhook_id
    (await program.run("profiles add prod --confirm-always")).ok()
    (home / "events.ndjson").write_text(f"{GOOD}\n")
    for change in (
        f"webhooks pause {number}",
        f"webhooks update {number} --name other",
        f"webhooks test {number}",
        "events publish job.completed",
        f"events publish --ndjson {home}/events.ndjson",
        "event-types create order.paid",
        f"call PauseWebhook '{{\"webhook_id\": {number}}}'",
    ):
        assert (await program.run(change)).status == 2, "nobody can be asked"
        assert (await program.run(change, terminal=True, stdin="other\n")).status == 130
    assert (await program.run("deliveries list -o id")).ok().stdout == ""
    assert [row[:2] for row in (await program.run("webhooks list")).ok().rows] == [[str(number), "active"]]
    (await program.run("replays create --since 1h --dry-run")).ok()
    ran = (await program.run(f"webhooks pause {number}", terminal=True, stdin="prod\n")).ok()
    assert f"prod: pause webhook {number}? Type the name of the profile" in ran.stderr
    (await program.run(f"webhooks delete {number}", terminal=True, stdin="prod\n")).ok()
    (await program.run("events publish job.completed --yes")).ok()
