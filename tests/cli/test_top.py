"""`top` shows what happens now: the webhooks with trouble first, rates of the last interval, and it ends when asked."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import pty
import signal
import socket
import sys
import termios
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from webhook.v1 import delivery_pb2

from tests.cli.running import Program
from tests.cli.test_signals import ended, started
from tests.support import slowness
from tests.support.process import hear_signals
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service
from webhook_grpc_cli.output.look import Look
from webhook_grpc_cli.output.printing import Printer
from webhook_grpc_cli.overview import tally as tally_module
from webhook_grpc_cli.overview.asking import Asking
from webhook_grpc_cli.overview.following import Worker
from webhook_grpc_cli.overview.rows import heading, kind, rows, sparkline
from webhook_grpc_cli.overview.tally import Rate, Tally, behind_seconds
from webhook_grpc_cli.overview.view import View, keys
from webhook_grpc_cli.values import timestamp

live = pytest.mark.asyncio(loop_scope="module")
NOW = datetime(2026, 11, 28, 14, 3, 24, tzinfo=UTC)
LOOK = Look(is_terminal=True, has_colour=False, has_unicode=True, width=120, is_utc=True, now=NOW)


def change(webhook_id: int, outcome: str = "", response_status: int = 0) -> delivery_pb2.Delivery:
    attempt = delivery_pb2.DeliveryAttempt(
        outcome=delivery_pb2.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome or 'SUCCEEDED'}"),
        response_status=response_status,
    )
    last = attempt if outcome else None
    return delivery_pb2.Delivery(webhook_id=webhook_id, last_attempt=last, update_time=timestamp(NOW))


def webhook(webhook_id: int, **stats: Any) -> dict[str, Any]:
    return {"webhook_id": webhook_id, "customer_id": 7, "name": f"w{webhook_id}", "status": "active", "stats": stats}


def test_only_attempts_are_counted_and_a_round_forgets_them_but_not_the_last_problem() -> None:
    tally = Tally(100.0)
    for one in (change(1, "SUCCEEDED", 200), change(1, "HTTP_ERROR", 503), change(1), change(2, "TIMEOUT")):
        tally.note(one)
    first, second = tally.end_round(102.0), tally.end_round(104.0)
    problem = {"time": NOW.isoformat(), "outcome": "http_error", "response_status": 503}
    assert first[1] == Rate(1.0, 1, problem)
    assert (first[2].per_second, first[2].failed_count) == (0.5, 1)
    assert second[1] == Rate(0.0, 0, problem)
    assert list(tally.totals) == [1.5, 0.0]
    assert list(tally.last_of(1)) == [change(1), change(1, "HTTP_ERROR", 503), change(1, "SUCCEEDED", 200)]
    for _ in range(tally_module.CHANGES_SHOWN):
        tally.note(change(1, "TIMEOUT"))
    assert list(tally.last_of(1)) == [change(1, "TIMEOUT")] * tally_module.CHANGES_SHOWN
    assert list(tally.last_of(3)) == []


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "WEBHOOKS_MAX", 3)
    tally = Tally(0.0)
    for number in range(5):
        tally.note(change(number, "SUCCEEDED"))
    assert sorted(tally.end_round(1.0)) == [2, 3, 4]
    for number in range(2 * tally_module.ROUNDS_SHOWN):
        tally.end_round(number + 2.0)
    assert len(tally.totals) == tally_module.ROUNDS_SHOWN


def test_the_webhook_with_the_most_trouble_comes_first() -> None:
    fine = {"attempt_count": 10, "success_rate": 1.0}
    webhooks = [
        webhook(1, **fine),
        webhook(2, **fine),
        webhook(3, attempt_count=10, success_rate=0.5),
        webhook(4, **fine),
        webhook(5, oldest_due_age="22s"),
        webhook(6, breaker_state="open"),
        webhook(7),
    ]
    shown = rows(webhooks, {4: Rate(0.5, 1), 1: Rate(9.0)}, NOW, 6)
    assert [row["webhook_id"] for row in shown] == [6, 5, 4, 3, 1, 7]


def test_a_table_is_as_wide_as_the_terminal_and_a_pipe_gets_all() -> None:
    narrow = Look(is_terminal=True, has_colour=False, has_unicode=True, width=79, is_utc=True, now=NOW)
    titles = [[column.title for column in kind(look, is_table=True).columns] for look in (LOOK, narrow)]
    assert titles[0][-2:] == ["Oldest due", "Last problem"]
    assert titles[1] == titles[0][:-2]
    assert len(kind(narrow, is_table=False).columns) == len(titles[0]) + 1


def test_a_row_says_what_is_wrong_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    probe = (NOW + timedelta(seconds=58)).isoformat()
    stats = {
        "attempt_count": 400, "success_rate": 0.412, "latency_p95": "0.410s", "pending_count": 1204,
        "oldest_due_age": "252s", "breaker_state": "open", "breaker_probe_time": probe,
    }  # fmt: skip
    at = (NOW - timedelta(seconds=12)).isoformat()
    rates = {12: Rate(0.0, 0, {"time": at, "outcome": "http_error", "response_status": 503})}
    shown = rows([{**webhook(12, **stats), "name": "billing\x1b[31m"}], rates, NOW, 9)
    Printer("table", LOOK).several(kind(LOOK, is_table=True), shown)
    line = capsys.readouterr().out.splitlines()[-1]
    assert "\x1b" not in line
    for words in ("breaker open, in 58 s", "41.2 %", "410 ms", "1,204", "4 min 12 s", "■ 503, 12 s ago"):
        assert words in line, line


def test_the_heading_says_how_much_comes_and_how_late() -> None:
    text = heading("prod · customer 7", [0.0, 107.0, 214.0], 0.2, "live", LOOK)
    assert text == "webhook-grpc top · prod · customer 7   214/s   ▁▅█   0.2 s behind   ● live"
    assert sparkline([0.0, 0.0]) == ""
    plain = Look(is_terminal=True, has_colour=False, has_unicode=False, width=40, is_utc=True, now=NOW)
    assert heading("prod", [1.0], 0.0, "live", plain).isascii()
    assert len(heading("prod" * 20, [1.0], 0.0, "live", plain)) == 40
    assert behind_seconds(NOW, NOW + timedelta(seconds=2)) == 2.0
    assert behind_seconds(NOW + timedelta(seconds=2), NOW) == 0.0


def test_what_a_thread_fails_with_is_raised_where_somebody_waits() -> None:
    failed = threading.Event()

    def run() -> None:
        raise ValueError("broken")

    worker = Worker("test", run, failed)
    worker.raise_failure()
    worker.start()
    worker.join()
    assert failed.is_set()
    with pytest.raises(ValueError, match="broken"):
        worker.raise_failure()


def test_where_nobody_listens_it_ends_with_6(offline: Program) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ran = offline.run_here(f"top -a 127.0.0.1:{unused.getsockname()[1]} --timeout 100ms")
    assert (ran.status, ran.stdout) == (6, "")
    assert offline.run_here("top --interval 10ms").status == 2


@live
async def test_a_block_has_the_figures_of_each_webhook(program: Program, service: Service, receiver: Receiver) -> None:
    bad = await service.create_webhook(receiver.on("/bad", answer(410)), name="pager")
    other = await service.create_webhook(receiver.url(), name="ci-bot", events=["job.failed"])
    async with service.watching(webhook_ids=[bad.webhook_id]) as watch:
        await service.publish()
        await watch.until_ended()
    ran = (await program.run("top -n 1 --interval 100ms -o json")).ok()
    first, second = ran.objects
    assert (first["webhook_id"], first["name"], first["stats"]["attempt_count"]) == (bad.webhook_id, "pager", 1)
    assert (second["webhook_id"], second["stats"]["attempt_count"]) == (other.webhook_id, 0)
    line = f"top -n 2 --interval 100ms --webhook-id {bad.webhook_id}"
    for words in ((await program.run(line)).ok().rows, (await program.run(f"{line} -o id")).ok().rows):
        assert len(words) == 2
        assert all(str(bad.webhook_id) in "".join(row) for row in words)


@live
async def test_on_a_terminal_the_table_stays_in_its_place(
    program: Program, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url(), name="ci-\x1b[31mbot")
    ran = (await program.run("top -n 2 --interval 100ms", terminal=True, COLUMNS="120")).ok()
    assert ran.stdout.count("webhook-grpc top · ") >= 2
    assert "\x1b[1A" in ran.stdout  # the second table is written over the first
    assert "ci-\\x1b[31mbot" in ran.stdout
    dumb = (await program.run("top -n 2 --interval 100ms", terminal=True, TERM="dumb")).ok()
    assert "\x1b" not in dumb.stdout
    assert dumb.stdout.count("webhook-grpc top · ") == 2


@live
@pytest.mark.slow(6)
async def test_rates_are_those_of_the_stream_and_ctrl_c_ends_it(
    service: Service, receiver: Receiver, home: Path
) -> None:
    await service.create_webhook(receiver.url())
    process = await started(service, home, "top", "--interval", "200ms", "-o", "json")
    assert process.stdout is not None
    async with slowness.timeout(60):
        while not json.loads(await process.stdout.readline())["attempts_per_second"]:
            await service.publish()  # the first may come before the stream is open
    assert await ended(process, signal.SIGINT) == 130


def row(webhook_id: int, name: str = "", **fields: Any) -> dict[str, Any]:
    made = {"webhook_id": webhook_id, "name": name or f"w{webhook_id}", "failed_count": 0, "attempts_per_second": 0.0}
    return {**made, "stats": {}, **fields}


ROWS = [
    row(1, "pager", failed_count=2),
    row(2, "Billing", attempts_per_second=9.0),
    row(3, "ci-bot", stats={"pending_count": 7}),
]


def pressed(text: str, view: View | None = None) -> View:
    view = view or View()
    for key in keys(text.encode()):
        view.press(key, view.ordered(ROWS))
    return view


def names(view: View) -> str:
    return " ".join(one["name"] for one in view.ordered(ROWS))


def test_keys_choose_what_is_shown() -> None:
    assert [names(pressed("s" * times)) for times in range(5)] == [
        "pager Billing ci-bot", "Billing pager ci-bot", "ci-bot pager Billing", "Billing ci-bot pager",
        "pager Billing ci-bot",
    ]  # fmt: skip
    assert (names(pressed("p")), names(pressed("pp"))) == ("pager", "pager Billing ci-bot")
    assert (names(pressed("/bil\r")), names(pressed("/bix\x7fl\r")), names(pressed("/bil\x1b"))) == (
        "Billing", "Billing", "pager Billing ci-bot",
    )  # fmt: skip
    assert pressed("/sqpj k\r").words == "sqpj k", "they are letters while a filter is typed"
    assert not pressed("/q").has_quit
    assert pressed("q").has_quit
    assert pressed("qq").has_quit
    assert pressed("/ü计").words == "ü计"
    assert (pressed(" ").is_held, pressed("  ").is_held) == (True, False)


def test_a_webhook_is_chosen_with_arrows_and_opened_with_enter() -> None:
    assert [pressed(text).chosen for text in ("\x1b[B", "jj", "jjjjj", "jj\x1bOA", "kk", "\x1b[5~\x1b[1;2C")] == [
        1, 2, 3, 1, 1, 0,
    ]  # fmt: skip
    assert [one["webhook_id"] for one in pressed("jjj").window(ROWS, 2)] == [2, 3], "the chosen one is in sight"
    stats = {"outcomes": [{"outcome": "http_error", "count": 312}], "failing_since_time": NOW.isoformat()}
    view = pressed("j\r")
    text = "\n".join(view.footer([row(1, "billing\x1b[31m", stats=stats)], LOOK, ["  14:03:24.482  ■ 503"]))
    assert "billing\\x1b[31m #1 ─ http_error 312   failing since 14:03:24\n  14:03:24.482  ■ 503\n" in text
    assert "no webhook is chosen" in "\n".join(view.footer([], LOOK))
    assert "only those with trouble" in "\n".join(pressed("?").footer(ROWS, LOOK))


ASKED = "Pause: Billing #2? New deliveries are kept as pending."


def answered(text: str, asking: Asking | None = None) -> tuple[str, str]:
    """What is wanted after keys, and the question that is still open."""
    view, wanted = View(asking=asking or Asking()), None
    for key in keys(text.encode()):
        wanted = view.press(key, view.ordered(ROWS)) or wanted
    return wanted.title if wanted else "", view.asking.line()


def test_an_act_asks_and_only_yes_is_yes() -> None:
    assert answered("jjP") == ("", f"{ASKED} [y/N]")
    assert answered("jjPy") == answered("jjPY") == ("Pause: Billing #2", "")
    assert answered("jjPn") == answered("jjPq") == answered("jjP\r") == answered("jjP\x1b") == ("", "")
    assert answered("jje") == ("Explain: Billing #2", ""), "it changes nothing"
    assert answered("jjP", Asking(is_yes=True)) == ("Pause: Billing #2", "")
    assert answered("P") == ("", ""), "no webhook is chosen"
    assert "no webhook is chosen" in pressed("P").said
    assert answered("jj/P\r") == ("", ""), "it is a letter while a filter is typed"
    assert answered("jP")[1].startswith("Pause: pager #1?"), "the one that is chosen"


def test_a_profile_that_always_confirms_has_its_name_typed() -> None:
    def typed(text: str) -> tuple[str, str]:
        return answered(f"jjP{text}", Asking("prod", is_name_typed=True))

    assert typed("pr") == ("", f"prod: {ASKED} Type the name of the profile: pr_")
    assert typed("prox\x7fd\r") == ("Pause: Billing #2", "")
    assert typed("y\r") == typed("prod\x1b") == typed("\r") == ("", "")


def test_what_a_customer_wrote_drives_no_terminal_in_a_question() -> None:
    view = View(chosen=1)
    view.press("t", [row(1, "x\x1b[31m\u202e")])
    text = "\n".join(view.footer(ROWS, LOOK))
    assert "Send test: x\\x1b[31m\\u202e #1? One real request goes out now. [y/N]" in text


def test_the_last_lines_are_as_wide_as_the_terminal() -> None:
    look = Look(is_terminal=True, has_colour=False, has_unicode=True, width=80, is_utc=True, now=NOW)
    lines = pressed("j").footer(ROWS, look)
    assert max(map(len, lines)) <= 80
    assert "  ".join(lines).endswith("? help  q quit")


@live
@pytest.mark.slow(6)
@pytest.mark.parametrize(("end", "status"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
async def test_keys_of_a_real_terminal_are_heard_and_it_is_left_as_it_was(
    service: Service, receiver: Receiver, home: Path, end: str | signal.Signals, status: int
) -> None:
    await service.create_webhook(receiver.url(), name="ci-bot")
    async with shown_on_a_terminal(service, home) as shown:
        before = shown.attributes
        await shown.until("ci-bot #")
        shown.press("s")
        await shown.until("s sort: attempts")
        shown.press("j\r")
        await shown.until("no attempts in the last hour")
        if isinstance(end, str):
            shown.press(end)
        else:
            shown.process.send_signal(end)
        assert await shown.end() == status
        assert shown.attributes_now() == before


@live
@pytest.mark.slow(6)
async def test_acts_are_carried_out_where_they_are_agreed_to_and_say_what_came_of_them(
    service: Service, receiver: Receiver, home: Path
) -> None:
    number = (await service.create_webhook(receiver.on("/in", answer(503, "away")), name="ci-bot")).webhook_id
    async with service.watching() as watch:
        published = await service.publish()
        [failed] = await watch.until_ended()
    receiver.on("/in", answer(200))
    async with shown_on_a_terminal(service, home) as shown:
        await shown.until("ci-bot #")
        shown.press("jy")
        await shown.until(f"\x1b]52;c;{base64.b64encode(str(number).encode()).decode()}\x07")
        await shown.until(f"copied {number}")
        shown.press("e")
        await shown.until(f"Explain: ci-bot #{number}: job.completed {published.event_id}: ")
        count = len(receiver.requests)
        shown.press("t")
        await shown.until(f"Send test: ci-bot #{number}? One real request goes out now. [y/N]")
        shown.press("n")
        await shown.until("t test")
        assert len(receiver.requests) == count, "nobody has agreed"
        shown.press("ty")
        await shown.until(f"Send test: ci-bot #{number}: ✓ 200 in ")
        async with service.watching(event_id=published.event_id) as watch:
            shown.press("ry")
            await shown.until(f"Retry last: ci-bot #{number}: restarted {failed.delivery_id}")
            assert [one.status for one in await watch.until_ended()] == [delivery_pb2.DELIVERY_STATUS_SUCCEEDED]
        shown.press("\r")
        await shown.until(" manual")
        shown.press("\r")
        for columns in (60, 160):
            shown.resize(columns)
            await shown.until("\x1b[2J")  # else what was wider than the terminal would stay
        shown.press("Py")
        await shown.until(f"Pause: ci-bot #{number}: paused")
        shown.press("Py")
        await shown.until(f"Pause: ci-bot #{number}: ✕ webhook ")
        shown.press("Ry")
        await shown.until(f"Resume: ci-bot #{number}: active")
        shown.press("ry")
        await shown.until(f"Retry last: ci-bot #{number}: none of its deliveries has failed")
        assert len(receiver.requests) == count + 2, "a test and a retry"
        shown.press("q")
        assert await shown.end() == 0


class Shown:
    """What `top` writes to a terminal, which is read as it comes, and the keys that it gets."""

    def __init__(self, own: int, its: int, attributes: list[Any], process: asyncio.subprocess.Process) -> None:
        self._own = own
        self._its = its
        self.process = process
        self.attributes = attributes
        self._text = b""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(own, self._read)

    def _read(self) -> None:
        self._text += os.read(self._own, 65536)
        self._more.set()

    async def until(self, words: str) -> str:
        """Returns what has come up to these words, behind those that were waited for before."""
        async with slowness.timeout(60):
            while words.encode() not in self._text:
                await self._more.wait()
                self._more.clear()
        before, _, self._text = self._text.partition(words.encode())
        return before.decode(errors="replace")

    def press(self, text: str) -> None:
        os.write(self._own, text.encode())

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self._its, (24, columns))

    def attributes_now(self) -> list[Any]:
        return termios.tcgetattr(self._its)

    async def end(self) -> int:
        async with slowness.timeout(60):
            return await self.process.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._own)
        os.close(self._own)
        os.close(self._its)


@asynccontextmanager
async def shown_on_a_terminal(service: Service, home: Path) -> AsyncGenerator[Shown]:
    """Runs `top` on a terminal of its own; ends it at the end, whatever happens."""
    own, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 160))
    before = termios.tcgetattr(its)
    environment = {"WHK_ADDRESS": service.address, "WHK_CUSTOMER_ID": str(CUSTOMER), "HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webhook_grpc_cli", "top", "--interval", "100ms"),
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, **environment},
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0), hear_signals()),
    )
    shown = Shown(own, its, before, process)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        shown.close()
