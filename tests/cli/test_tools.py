"""`verify` and `watch` as they are typed, against the live service."""

from __future__ import annotations

import base64
import json
import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.running import Program, Ran
from tests.e2e.test_docs import blocks
from tests.support import slowness
from tests.support.receiver import Receiver, answer
from tests.support.service import SECRET, Service
from webhook_grpc_cli.commands.verify import verify
from webhook_grpc_cli.commands.watch import watch

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run(program: Program, *words: str, stdin: str = "") -> Ran:
    async with slowness.timeout(30):
        return await program.run(shlex.join(words), stdin=stdin)


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


async def saved(service: Service, receiver: Receiver, folder: Path) -> str:
    """Delivers one event, and saves the request as a receiver would. Returns the delivery's id."""
    await service.create_webhook(receiver.url())
    await service.publish('{"name": "Zoë"}')
    (received,) = await receiver.wait_for(1)
    (folder / "body.json").write_bytes(received.body)
    (folder / "headers.txt").write_text("".join(f"{name}: {value}\n" for name, value in received.headers.items()))
    (folder / "secret").write_text(f"{SECRET}\n")
    return received.headers["X-Webhook-Delivery"]


VERIFY = ("verify", "--body", "body.json", "--headers", "headers.txt", "--secret-file", "secret")


async def test_a_request_that_a_receiver_saved_is_verified(
    program: Program, service: Service, receiver: Receiver, folder: Path
) -> None:
    delivery_id = await saved(service, receiver, folder)
    done = await run(program, *VERIFY, "--delivery", delivery_id, "-o", "table")
    assert (done.status, done.stderr) == (0, "")
    signatures, compared = done.lines
    assert re.fullmatch(r"✓ webhook-signature      right, \d+ s old +✓ X-Webhook-Signature    right", signatures)
    assert re.fullmatch(r"✓ body +right +✓ secret +right", compared)
    done = await run(program, *VERIFY, "-o", "json")
    assert [json.loads(line)["state"] for line in done.lines] == ["right", "right"]
    done = await run(program, *VERIFY, "--tolerance", "0s", "-o", "table", "--header", "webhook-timestamp: 1")
    assert (done.status, done.lines[0][:25]) == (9, "✕ webhook-signature      ")


async def test_what_differs_from_what_was_sent_is_named(
    program: Program, service: Service, receiver: Receiver, folder: Path
) -> None:
    delivery_id = await saved(service, receiver, folder)
    (folder / "secret").write_text("whsec_" + base64.b64encode(bytes(24)).decode())
    body = (folder / "body.json").read_bytes().replace(b"Zo", b"Z\x1b").decode()
    done = await run(
        program, "verify", "--body", "-", *VERIFY[3:], "--delivery", delivery_id, "-o", "table", stdin=body
    )
    assert done.status == 9
    assert "Another secret, or another body" in done.stdout
    assert "The body differs from byte" in done.stdout
    assert "Another secret: you use …AAAA" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


async def test_verify_says_which_file_is_wrong(offline: Program, folder: Path) -> None:
    right = {"headers.txt": "a: b\n", "secret": SECRET, "body.json": "{}"}
    wrong = {"headers.txt": "no header\n", "secret": "\n", "body.json": "x" * (2**20 + 1), "none": ""}
    for name, content in wrong.items():
        for one, text in {**right, **({} if name == "none" else {name: content})}.items():
            (folder / one).write_text(text)
        done = offline.run_here(shlex.join([*VERIFY[:-1], "none" if name == "none" else "secret"]))
        assert (done.status, done.stdout) == (2, ""), done
        assert done.stderr.startswith("error: ")


WATCH = ("watch", "--since", "5m")


async def test_a_line_has_its_columns_where_they_always_are(
    program: Program, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url(), name="ci-\x1b[31mbot")
    later = {"delays": [timedelta(seconds=60)]}
    await service.create_webhook(receiver.on("/bad", answer(503)), name="billing", retry_policy=later)
    await service.publish()
    done = await run(program, *WATCH, "-n", "2", "-o", "table", "--utc", "--color", "never")
    good = next(line for line in done.lines if "✓" in line)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3}  ✓ 200 {9} +\d+ ms  ci-\\x1b\[31mbot #\d+ +job\.completed   #1 scheduled {17}dlv_\w+",
        good,
    ), good
    assert good[14:31] == "✓ 200            "
    assert f"#{webhook.webhook_id} " in good
    bad = next(line for line in done.lines if "■" in line)
    assert re.search(
        r"■ 503 {10} .* ms  billing #\d+ +job\.completed   #1 scheduled  next \d\d:\d\d:\d\d  dlv_", bad
    ), bad


async def test_problems_alone_are_watched(program: Program, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    bad = await service.create_webhook(receiver.on("/bad", answer(410)))
    await service.publish()
    done = await run(program, *WATCH, "--problems", "-n", "1", "-o", "json")
    (line,) = done.lines
    assert json.loads(line)["webhook_id"] == bad.webhook_id


async def test_the_next_run_goes_on_where_the_cursor_file_says(
    program: Program, service: Service, receiver: Receiver, folder: Path
) -> None:
    await service.create_webhook(receiver.url())
    seen: list[str] = []
    for number in range(3):
        await service.publish(json.dumps({"n": number}))
        await receiver.wait_for(number + 1)
        since = () if number else ("--since", "5m")
        done = await run(program, "watch", *since, "-n", "1", "--cursor-file", "cursor", "-o", "json")
        assert (done.status, done.stderr) == (0, "")
        seen += [json.loads(line)["event_id"] for line in done.lines]
    assert len(set(seen)) == len(seen) == 3
    done = await run(program, *WATCH, "-n", "1", "--cursor-file", "cursor")
    assert done.status == 2
    assert "says where to go on" in done.stderr


async def test_cursors_are_printed_between_messages(program: Program, service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    await service.publish_many(5)
    await receiver.wait_for(5)
    done = await run(program, *WATCH, "--with-cursor", "-n", "5", "-o", "json")
    last = json.loads(done.lines[-1])
    assert set(last) == {"cursor", "server_time"}
    assert len([line for line in done.lines if "delivery_id" in line]) >= 5
    assert (await run(program, "watch", "--with-cursor")).status == 2


async def test_a_watch_that_the_service_refuses_ends_with_a_status(
    program: Program, service: Service, folder: Path
) -> None:
    (folder / "cursor").write_bytes(base64.b64encode(b"none of yours"))
    assert (await run(program, "watch", "--cursor-file", "cursor")).status == 1
    (folder / "cursor").write_text("!")
    assert (await run(program, "watch", "--cursor-file", "cursor")).status == 2
    assert (await run(program, "watch", "--since", "1h", "--snapshot")).status == 2
    assert (await run(program, "watch", "-s", "done")).status == 2
    assert (await run(program, "watch", "--heartbeat", "0s")).status == 2


async def test_lines_of_their_help_and_of_the_document_work(
    program: Program, service: Service, receiver: Receiver, folder: Path
) -> None:
    await saved(service, receiver, folder)
    for name in ("new", "old"):
        (folder / name).write_text(SECRET)
    await service.create_webhook(receiver.on("/bad", answer(503)))
    await service.publish()
    body = (folder / "body.json").read_text()
    documented = f"{blocks('docs/cli.md', 'verify')}\n{blocks('docs/cli.md', 'watch')}".splitlines()
    for line in (*verify.examples, *watch.examples, *filter(None, documented)):
        (folder / "billing.cursor").unlink(missing_ok=True)
        done = await run(program, *shlex.split(line.partition(" <")[0]), stdin=body)
        assert done.status == 0, done
        assert done.stdout
