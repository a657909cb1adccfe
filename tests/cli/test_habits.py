"""What people try who know other command lines, and the ways in which a line may be read: each gives what it should."""

from __future__ import annotations

import json
import termios
from datetime import UTC, datetime
from os import openpty
from typing import Any, cast

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from webhook.v1 import delivery_pb2, service_pb2

from tests.cli.running import Program
from tests.support.receiver import Receiver, answer
from tests.support.service import Service
from webhook_grpc_cli import program as program_module
from webhook_grpc_cli.output import progress as progress_module
from webhook_grpc_cli.output.look import Look, width_of
from webhook_grpc_cli.output.progress import Progress
from webhook_grpc_cli.session import Session
from webhook_grpc_cli.values import duration, timestamp
from webhook_grpc_cli.waiting import change_line
from webhook_grpc_client import Unavailable
from webhook_grpc_client.errors import Problem, made

live = pytest.mark.asyncio(loop_scope="module")
NOW = datetime(2026, 11, 28, 14, 3, 24, 482_000, tzinfo=UTC)
PENDING, SUCCEEDED = delivery_pb2.DELIVERY_STATUS_PENDING, delivery_pb2.DELIVERY_STATUS_SUCCEEDED
STATUSES = {
    "NOT_FOUND": 3,
    "UNAUTHENTICATED": 4, "PERMISSION_DENIED": 4,
    "ALREADY_EXISTS": 5, "FAILED_PRECONDITION": 5, "ABORTED": 5, "OUT_OF_RANGE": 5,
    "UNAVAILABLE": 6, "DEADLINE_EXCEEDED": 6,
    "RESOURCE_EXHAUSTED": 7,
}  # fmt: skip


# --- help ------------------------------------------------------------------------------------------------------------


def test_the_name_alone_prints_the_help_and_a_noun_alone_is_not_finished(offline: Program) -> None:
    alone = offline.run_here("").ok()
    assert "\nCommands:\n" in alone.stdout
    assert alone.stderr == ""
    noun = offline.run_here("webhooks")
    assert (noun.status, noun.stdout) == (2, "")
    assert "rotate-secret" in noun.stderr


def test_help_is_a_command_too(offline: Program) -> None:
    for words in ("", "webhooks", "webhooks create", "watch", "migrate"):
        assert offline.run_here(f"help {words}").ok().stdout == offline.run_here(f"{words} --help").ok().stdout
    for words in ("nonsense", "webhooks nonsense", "watch nonsense"):
        ran = offline.run_here(f"help {words}")
        assert (ran.status, ran.stdout) == (2, "")
        assert "nonsense" in ran.stderr
    assert "Did you mean '--version'?" in offline.run_here("version").stderr


# --- where flags stand -----------------------------------------------------------------------------------------------


@live
async def test_flags_stand_anywhere_also_those_that_may_have_a_value(
    program: Program, service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    for line in (
        "events publish --wait job.completed '{\"n\": 1}'",
        "events publish job.completed -w '{\"n\": 1}'",
        "-o tsv events -c 42 publish job.completed '{\"n\": 1}' --wait 60s",
        "events publish -w60s job.completed -- '{\"n\": 1}'",
    ):
        ran = (await program.run(line)).ok()
        assert "1 of 1 delivered in " in ran.stderr, line
    assert [json.loads(request.body)["data"] for request in receiver.requests] == [{"n": 1}] * 4
    wrong = await program.run("events publish job.completed --wait 60")
    assert (wrong.status, "must be a duration" in wrong.stderr) == (2, True), "60 is not what is published"


# --- statuses --------------------------------------------------------------------------------------------------------


def test_each_code_has_its_status_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        error = made(Problem(code, "a sentence", "A_REASON", request_id="7c1e0b3f"))
        wanted = STATUSES.get(code.name, 1)
        for is_json in (False, True):
            assert program_module._explain(error, is_json=is_json) == wanted, code  # pyright: ignore[reportPrivateUsage]
            said = capsys.readouterr().err
            if is_json:
                shown = json.loads(said)["error"]
                assert (shown["code"], shown["reason"], shown["exit_status"]) == (code.name, "A_REASON", wanted)
            else:
                assert said.startswith(f"error: a sentence    {code.name}  A_REASON\n")


def test_an_error_is_json_wherever_the_form_is_chosen(offline: Program) -> None:
    for line in ("nonsense -o json", "nonsense -ojson", "--output=json nonsense", "nonsense --output json"):
        assert json.loads(offline.run_here(line).stderr)["error"]["exit_status"] == 2, line
    assert json.loads(offline.run_here("nonsense", WHK_OUTPUT="json").stderr)["error"]["exit_status"] == 2
    assert offline.run_here("nonsense -ojson -otsv").stderr.startswith("error: ")


class TooMuch(grpc.RpcError):
    """What the service answers to a call for which it has no room."""

    def __init__(self, seconds: float) -> None:
        packed = Packed()
        packed.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(seconds * 1e9))))
        self._status = status_pb2.Status(code=8, details=[packed])

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str:
        return "too many calls"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


class Full:
    """A method that is refused until there is room."""

    def __init__(self, refusals: int, seconds: float) -> None:
        self.refusals = refusals
        self._seconds = seconds

    def with_call(self, request: Any, **_: Any) -> tuple[Any, Any]:
        self.refusals -= 1
        if self.refusals >= 0:
            raise TooMuch(self._seconds)
        return request, cast("Any", Answered())


class Answered:
    """The call behind an answer."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK


def test_a_change_that_was_too_much_is_made_again_when_there_is_room(offline: Program) -> None:
    request = service_pb2.PauseWebhookRequest(customer_id=1, webhook_id=12)
    environment = {"HOME": str(offline.home)}
    session = Session({"timeout": 10.0, "quiet": True}, environment)
    assert session.call(Full(2, 0.001), request) is request
    too_long = Full(1, 0.5)
    with pytest.raises(Unavailable):
        Session({"timeout": 0.3, "quiet": True}, environment).call(too_long, request)
    assert too_long.refusals == 0, "what the service asks for is more than there is"


# --- how it looks ----------------------------------------------------------------------------------------------------


@live
@pytest.mark.slow(4)
async def test_fields_are_chosen_wherever_fields_are_printed(
    program: Program, service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.on("/bad", answer(410)), name="pager")
    published = await service.publish()
    await receiver.wait_for(1)
    for form in ("table", "tsv"):
        line = f"watch --since 5m -n 1 --problems -o {form} --fields last_attempt.response_status,webhook_id"
        [shown] = (await program.run(line)).ok().lines
        assert shown.split() == ["410", str(webhook.webhook_id)], form
    request = json.dumps({"event_id": published.event_id})
    ran = (await program.run(f"call GetEvent '{request}' --fields event_type")).ok()
    assert ran.objects == [{"event_type": "job.completed"}]
    assert (await program.run("call ListEvents --fields event")).status == 2
    for line in ("doctor --fields check,state", "doctor -o json --fields check,state"):
        ran = (await program.run(line)).ok()
        assert "dns" in ran.stdout
        assert "127.0.0.1" not in ran.stdout
    assert "dns" in (await program.run("doctor -o id")).ok().lines
    (await program.run("profiles add local -a 127.0.0.1:1")).ok()
    assert (await program.run("profiles list --fields address")).ok().lines == ["127.0.0.1:1"]
    ran = (await program.run("profiles show local --fields address -o json")).ok()
    assert ran.objects == [{"address": "127.0.0.1:1"}]
    for line in ("listen --fields nam", "watch --fields nam", "doctor --fields nam", "profiles list --fields nam"):
        ran = await program.run(line)
        assert (ran.status, ran.stdout) == (2, ""), line


@live
@pytest.mark.slow(5)
async def test_a_list_is_the_same_on_each_terminal_and_in_a_pipe(
    program: Program, service: Service, receiver: Receiver
) -> None:
    """With 80 and 120 columns, in a pipe, with NO_COLOR, and in the locale C, in which Python writes UTF-8."""
    await service.create_webhook(receiver.on("/bad", answer(410, "gone")), name="pager")
    async with service.watching() as watch:
        published = await service.publish()
        [ended] = await watch.until_ended()
    for line in (
        "webhooks list --stats", "deliveries list --since 1h", f"deliveries attempts {ended.delivery_id}",
        f"events explain {published.event_id}", "replays create --since 1h --dry-run",
        "watch --since 5m -n 1 --problems",
    ):  # fmt: skip
        for columns in (80, 120):
            shown = (await program.run(line, terminal=True, COLUMNS=str(columns))).ok()
            plain = (await program.run(line, terminal=True, COLUMNS=str(columns), NO_COLOR="1")).ok()
            assert "\x1b[" not in plain.stdout, line
            if not line.startswith(("watch", "replays")):  # of which a line may be longer than the terminal is wide
                assert "\x1b[" in shown.stdout or "explain" in line, line
                assert max(map(len, plain.lines)) <= columns, line
        piped = (await program.run(line, FORCE_COLOR="")).ok()
        assert "\x1b[" not in piped.stdout
        assert all("\t" in row for row in piped.lines), line
        for locale in ({"LANG": "C"}, {"LC_ALL": "POSIX"}, {"LANG": "C", "LC_CTYPE": "C.UTF-8"}):
            assert (await program.run(line, terminal=True, **locale)).ok().stdout.isascii(), (line, locale)
    assert not (await program.run("webhooks list", terminal=True, LANG="C", LC_CTYPE="de_DE.UTF-8")).stdout.isascii()


def test_a_line_is_as_wide_as_the_terminal_that_it_is_written_to() -> None:
    """And not as that of stdout, which may be a pipe."""
    own, its = openpty()
    with open(own, "rb"), open(its, "w") as stream:  # noqa: PTH123 - they are descriptors
        for columns in (41, 133):
            termios.tcsetwinsize(its, (24, columns))
            assert width_of(stream, {}) == columns
        assert width_of(stream, {"COLUMNS": "70"}) == 70


@pytest.mark.parametrize(
    ("number", "answered", "next_in", "line"),
    [
        (1, 200, 0, "  ✓ ci-bot #14        200          84 ms"),
        (1, 500, 5, "  ◷ ci-bot #14        500          84 ms   next in 5 s …"),
        (2, 200, 0, "  ✓ ci-bot #14        200          84 ms   second attempt"),
        (4, 200, 0, "  ✓ ci-bot #14        200          84 ms   attempt 4"),
    ],
)
def test_a_change_that_is_waited_for_is_a_line(number: int, answered: int, next_in: int, line: str) -> None:
    outcome = "HTTP_ERROR" if next_in else "SUCCEEDED"
    attempt = delivery_pb2.DeliveryAttempt(
        attempt_number=number,
        latency=duration(0.084),
        outcome=delivery_pb2.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome}"),
        response_status=answered,
    )
    delivery = delivery_pb2.Delivery(
        webhook_id=14, status=PENDING if next_in else SUCCEEDED, last_attempt=attempt, update_time=timestamp(NOW)
    )
    if next_in:
        delivery.next_attempt_time.FromSeconds(int(NOW.timestamp()) + next_in + 1)
        delivery.update_time.FromSeconds(int(NOW.timestamp()) + 1)
    assert change_line(delivery, lambda _: "ci-bot #14") == line


def test_progress_says_the_same_on_a_terminal_and_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = 100.0, list[str]()
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    look = Look(is_terminal=False, has_colour=False, has_unicode=True, width=120, is_utc=True, now=NOW)
    with Progress(look, said.append, 100_000, is_quiet=False) as shown:
        now += progress_module.LINE_SECONDS
        shown.show(61_500, "run k3f9a2 · 61,500 of 100,000", *shown.rate_and_left(61_500), "3 refused")
        shown.show(70_000, "is too soon")
        now += progress_module.LINE_SECONDS
        shown.show(70_000, "Replay 7", "looked at up to 04:12", total=140_000)
    assert said == [
        "run k3f9a2 · 61,500 of 100,000   62 %  6,150/s  0:00:07 left  3 refused",
        "Replay 7   50 %  looked at up to 04:12",
    ]
