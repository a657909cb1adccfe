"""`webhooks`: create, look at and change where events go."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

import click
from webhook.v1 import replay_pb2, service_pb2, webhook_pb2

from webhook_grpc_cli.completing import event_types, webhook_ids
from webhook_grpc_cli.failures import ANSWER_IS_NO, UsageFailure
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.inputs import ids_given, number_of, secret_in, text_given
from webhook_grpc_cli.kinds import FILE, SECONDS, pairs, span_seconds, split
from webhook_grpc_cli.output.kind import Column, Kind
from webhook_grpc_cli.output.things import WEBHOOKS, WEBHOOKS_WITH_STATS, test_words
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.values import duration, enum_number, known_words, plain, timestamp

from .options import filters, for_each, limited, webhook_id, windowed
from .replays import run_replay

_STATS: Final = Kind("", (), message="GetWebhookStatsResponse")
_TESTED: Final = Kind(
    "delivery_id",
    [
        Column(path, path)
        for path in ("last_attempt.outcome", "last_attempt.response_status", "last_attempt.latency", "delivery_id")
    ],
    message="Delivery",
)
_STATUSES: Final = known_words(webhook_pb2.WebhookStatus)
CLEARED: Final = (
    "retry_policy", "timeout", "max_in_flight", "rate_limit_per_second", "headers", "labels", "description",
)  # fmt: skip


@group("webhooks")
def webhooks() -> None:
    """Create, look at and change where events go."""


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that `create` and `update` have in common."""
    for option in reversed(
        [
            click.option("--timeout", type=SECONDS, help="How long an answer may take: 15s."),
            click.option("--max-in-flight", type=int, help="How many requests at once."),
            click.option("--rate-limit-per-second", type=int, help="How many attempts a second."),
            click.option(
                "--retry-delay", "delays", multiple=True, callback=split, help="5s,1m,10m: before each retry."
            ),
            click.option("--header", "headers", multiple=True, callback=pairs, metavar="K=V", help="Sent with each."),
            click.option("--label", "labels", multiple=True, callback=pairs, metavar="K=V", help="Your own words."),
            click.option("--description", help="For people."),
        ]
    ):
        function = option(function)
    return function


def _fill(webhook: webhook_pb2.Webhook, given: dict[str, Any]) -> list[str]:
    """Fills in what the line gives. Returns the names of the fields."""
    paths = [name for name in ("max_in_flight", "rate_limit_per_second", "description") if given[name] is not None]
    for name in paths:
        setattr(webhook, name, given[name])
    for name in ("headers", "labels"):
        if given[name]:
            getattr(webhook, name).update(given[name])
            paths.append(name)
    if given["timeout"] is not None:
        webhook.timeout.CopyFrom(duration(given["timeout"]))
        paths.append("timeout")
    if given["delays"]:
        webhook.retry_policy.delays.extend(duration(_seconds(text)) for text in given["delays"])
        paths.append("retry_policy")
    return paths


def _seconds(text: str) -> float:
    try:
        return span_seconds(text)
    except ValueError as error:
        raise UsageFailure(f"--retry-delay: {error}") from error


def _secret_options(function: Callable[..., Any]) -> Callable[..., Any]:
    source = click.option(
        "--secret-file", type=FILE, metavar="FILE", help="A file with the secret; one is made without it."
    )
    target = click.option(
        "--secret-out", type=FILE, metavar="FILE", help="Write the secret there, for you alone, and nowhere else."
    )
    shown = click.option("--show-secret", is_flag=True, help="Print the secret also where nobody looks.")
    return source(target(shown(function)))


@webhooks.command(
    "create",
    examples=[
        "webhook-grpc webhooks create billing-eu https://hooks.example.com/in 'job.*' alert.triggered -c 42",
        "webhook-grpc webhooks create ci https://ci.example.com/hook '*' -c 42 --timeout 5s --secret-out ci.secret",
    ],
)
@click.argument("name")
@click.argument("url")
@click.argument("events", nargs=-1, required=True, metavar="EVENT…", shell_complete=event_types)
@_settings
@_secret_options
@click.option("--request-id", help="Makes the call safe to repeat; one is made.")
@with_session
def create(session: Session, name: str, url: str, events: tuple[str, ...], **given: Any) -> None:
    """Create a webhook. Its secret is shown only once."""
    webhook = webhook_pb2.Webhook(name=name, url=url, events=events, customer_id=session.place.customer_id)
    _fill(webhook, given)
    if given["secret_file"]:
        webhook.secret = secret_in(given["secret_file"])
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id=given["request_id"] or uuid4().hex)
    with _secret_target(given["secret_out"]) as save:
        made = session.call(session.stub.CreateWebhook, request, may_repeat=True)
        save(made)
    if session.printer.is_for_people:
        session.printer.sentence(f"Created webhook {made.webhook_id} ({_word(made)}).")
        _show_secret(session, made, is_wanted=given["show_secret"])
        session.printer.sentence(f"Try it  webhook-grpc webhooks test {made.webhook_id}")
        return
    session.printer.one(WEBHOOKS, made)
    _show_secret(session, made, is_wanted=given["show_secret"])


@contextmanager
def _secret_target(path: str | None) -> Generator[Callable[[webhook_pb2.Webhook], None]]:
    """Opens the file for a secret before anything is changed, so that no secret is lost to a wrong path."""
    if path is None:
        yield lambda _: None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageFailure(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            yield partial(_move_secret, file)
        except BaseException:
            Path(path).unlink()  # nothing was made, and the next try needs the name
            raise


def _move_secret(file: IO[str], webhook: webhook_pb2.Webhook) -> None:
    file.write(webhook.secret + "\n")
    webhook.ClearField("secret")


def _show_secret(session: Session, webhook: webhook_pb2.Webhook, *, is_wanted: bool) -> None:
    """Shows a secret on a terminal, or where it is wanted. In JSON it is in the object, or --fields leaves it out."""
    is_json = session.form == "json"
    if not webhook.secret or (is_json and "secret" in (session.fields or ["secret"])):
        return
    if (session.look.is_terminal or is_wanted) and not is_json:
        session.printer.sentence(f"Secret  {webhook.secret}      shown only this once")
    else:
        session.say(
            "the secret is not shown here; for a new one: "
            f"webhook-grpc webhooks rotate-secret {webhook.webhook_id} --secret-out FILE"
        )


@webhooks.command(
    "list", examples=["webhook-grpc webhooks list --stats", "webhook-grpc webhooks list --status disabled -o id"]
)
@filters("statuses", statuses=_STATUSES)
@click.option("--stats", is_flag=True, help="How they fared in the last 24 hours, and what waits.")
@limited
@with_session
def list_webhooks(session: Session, statuses: tuple[str, ...], stats: bool, limit: int, is_all: bool) -> None:
    """List webhooks, newest first."""
    numbers = [enum_number(webhook_pb2.WebhookStatus, word) for word in statuses]
    request = service_pb2.ListWebhooksRequest(statuses=numbers)
    found: Iterator[Any] = session.listed(session.stub.ListWebhooks, request, "webhooks")
    if stats:
        found = ({**plain(webhook), "stats": plain(_stats(session, webhook))} for webhook in found)
    session.print_list(WEBHOOKS_WITH_STATS if stats else WEBHOOKS, found, None if is_all else limit)


def _stats(session: Session, webhook: webhook_pb2.Webhook) -> service_pb2.GetWebhookStatsResponse:
    request = service_pb2.GetWebhookStatsRequest(
        webhook_id=webhook.webhook_id,
        customer_id=webhook.customer_id,
        start_time=timestamp(datetime.now(UTC) - timedelta(hours=24)),
    )
    return session.call(session.stub.GetWebhookStats, request, may_repeat=True)


def _get(session: Session, webhook_id: int) -> webhook_pb2.Webhook:
    request = service_pb2.GetWebhookRequest(webhook_id=webhook_id)
    return session.call(session.stub.GetWebhook, request, may_repeat=True)


@webhooks.command(
    "get", examples=["webhook-grpc webhooks get 12", "webhook-grpc webhooks get 12 -o json --fields url,events"]
)
@webhook_id
@with_session
def get(session: Session, webhook_id: int) -> None:
    """Show all of one webhook."""
    session.printer.one(WEBHOOKS, _get(session, webhook_id))


@webhooks.command(
    "update",
    examples=[
        "webhook-grpc webhooks update 12 --url https://new.example.com/in --event job.failed",
        "webhook-grpc webhooks update 12 --clear rate_limit_per_second --max-in-flight 4",
    ],
)
@webhook_id
@click.option("--name", help="A new name.")
@click.option("--url", help="A new URL.")
@click.option("--event", "events", multiple=True, callback=split, help="All event types, instead of those before.")
@_settings
@click.option(
    "--clear", multiple=True, type=click.Choice(CLEARED), help="A field that goes back to what it is by default."
)
@click.option("--etag", help="Only if nobody has changed it since.")
@with_session
def update(session: Session, webhook_id: int, clear: tuple[str, ...], etag: str | None, **given: Any) -> None:
    """Change what the flags of the line name, and nothing else."""
    webhook = webhook_pb2.Webhook(webhook_id=webhook_id, customer_id=session.place.customer_id, etag=etag or "")
    paths = _fill(webhook, given)
    for name in ("name", "url"):
        if given[name] is not None:
            setattr(webhook, name, given[name])
            paths.append(name)
    if given["events"]:
        webhook.events.extend(given["events"])
        paths.append("events")
    if both := set(paths) & set(clear):
        raise UsageFailure(f"{', '.join(sorted(both))}: set and cleared")
    if not (paths or clear):
        raise UsageFailure("nothing is to be changed", remedy="webhook-grpc webhooks update --help")
    request = service_pb2.UpdateWebhookRequest(webhook=webhook)
    request.update_mask.paths.extend([*paths, *clear])
    _report(session, session.call(session.stub.UpdateWebhook, request), "changed")


def _word(webhook: webhook_pb2.Webhook) -> str:
    return str(plain(webhook).get("status", ""))


def _report(session: Session, webhook: webhook_pb2.Webhook, verb: str) -> None:
    if session.printer.is_for_people:
        session.printer.sentence(f"{verb} {webhook.name} #{webhook.webhook_id} ({_word(webhook)})")
    else:
        session.printer.one(WEBHOOKS, webhook)


@webhooks.command("delete", examples=["webhook-grpc webhooks delete 12", "webhook-grpc webhooks delete 12 -y -q"])
@webhook_id
@click.option("--etag", default="", help="Only if nobody has changed it since.")
@with_session
def delete(session: Session, webhook_id: int, etag: str) -> None:
    """Delete a webhook. What is pending ends as cancelled; the history stays."""
    webhook = _get(session, webhook_id)
    session.confirm(f"delete {webhook.name} #{webhook_id}?")
    session.call(session.stub.DeleteWebhook, service_pb2.DeleteWebhookRequest(webhook_id=webhook_id, etag=etag))
    session.say(f"deleted {webhook.name} #{webhook_id}")


@webhooks.command(
    "pause",
    examples=[
        "webhook-grpc webhooks pause 12",
        "webhook-grpc webhooks list --status active -o id | webhook-grpc webhooks pause -",
    ],
)
@click.argument("ids", nargs=-1, required=True, metavar="ID…", shell_complete=webhook_ids)
@with_session
def pause(session: Session, ids: tuple[str, ...]) -> None:
    """Stop delivering, and keep what is pending until they are resumed."""

    def act(one: str) -> None:
        request = service_pb2.PauseWebhookRequest(webhook_id=number_of(one))
        _report(session, session.call(session.stub.PauseWebhook, request), "paused")

    for_each(session, ids_given(ids), act)


@webhooks.command("resume", examples=["webhook-grpc webhooks resume 12", "webhook-grpc webhooks resume 12 13 -o json"])
@click.argument("ids", nargs=-1, required=True, metavar="ID…", shell_complete=webhook_ids)
@click.option(
    "--replay-missed", is_flag=True, help="Then send what was published since it was disabled, after a count."
)
@with_session
def resume(session: Session, ids: tuple[str, ...], replay_missed: bool) -> None:
    """Deliver again, also what became pending meanwhile."""

    def act(one: str) -> None:
        before = _get(session, number_of(one)) if replay_missed else None
        request = service_pb2.ResumeWebhookRequest(webhook_id=number_of(one))
        _report(session, session.call(session.stub.ResumeWebhook, request), "resumed")
        if before is not None:
            _replay_missed(session, before)

    for_each(session, ids_given(ids), act)


def _replay_missed(session: Session, webhook: webhook_pb2.Webhook) -> None:
    """Sends what was published while a webhook was disabled."""
    if not webhook.HasField("disable_time"):
        session.say(f"{webhook.name} #{webhook.webhook_id} was not disabled, so it has missed nothing")
        return
    missed = replay_pb2.Replay(
        customer_id=webhook.customer_id,
        webhook_ids=[webhook.webhook_id],
        include_undelivered=True,
        start_time=webhook.disable_time,
    )
    run_replay(session, missed)


@webhooks.command(
    "rotate-secret",
    examples=[
        "webhook-grpc webhooks rotate-secret 12 --secret-out new.secret",
        "webhook-grpc webhooks rotate-secret 12 --leaked -y -o json",
    ],
)
@webhook_id
@click.option("--overlap", type=SECONDS, help="How long the old secret signs, too: 24h.")
@click.option("--leaked", is_flag=True, help="The old secret is known to others: it stops at once.")
@_secret_options
@with_session
def rotate_secret(session: Session, webhook_id: int, overlap: float | None, leaked: bool, **given: Any) -> None:
    """Give a webhook a new secret, which is shown only once."""
    request = service_pb2.RotateWebhookSecretRequest(webhook_id=webhook_id, request_id=uuid4().hex)
    if leaked and overlap:
        raise UsageFailure("--leaked is an overlap of 0s")
    if leaked:
        session.confirm(f"stop the old secret of webhook {webhook_id} at once?")
    if leaked or overlap is not None:
        request.overlap.CopyFrom(duration(0.0 if leaked else overlap or 0.0))
    if given["secret_file"]:
        request.secret = secret_in(given["secret_file"])
    with _secret_target(given["secret_out"]) as save:
        webhook = session.call(session.stub.RotateWebhookSecret, request, may_repeat=True)
        save(webhook)
    _report(session, webhook, "rotated the secret of")
    _show_secret(session, webhook, is_wanted=given["show_secret"])


@webhooks.command(
    "test",
    examples=[
        "webhook-grpc webhooks test 12",
        """webhook-grpc webhooks test 12 '{"job_id": "job-1"}' -t job.completed""",
    ],
)
@webhook_id
@click.argument("data", required=False, metavar="[DATA|@FILE|-]")
@click.option("-t", "--event-type", default="", help="webhook.test.")
@click.option("--event-id", help="Send the type and the data of this event.")
@with_session
def test(session: Session, webhook_id: int, data: str | None, event_type: str, event_id: str | None) -> None:
    """Send a test now, and show what the receiver answers. The status is 9 if that is no success."""
    session.printer.check(_TESTED)
    request = service_pb2.TestWebhookRequest(webhook_id=webhook_id, event_type=event_type)
    if data is not None:
        request.data_json = text_given(data)
    if event_id is not None:
        wanted = service_pb2.GetEventRequest(event_id=event_id)
        event = session.call(session.stub.GetEvent, wanted, may_repeat=True)
        request.event_type = event_type or event.event_type
        request.data_json = request.data_json or event.data_json
    delivery = session.call(session.stub.TestWebhook, request).delivery
    attempt = plain(delivery.last_attempt)
    is_success = attempt.get("outcome") == "succeeded"
    if session.printer.is_for_people:
        session.printer.sentence(test_words(attempt))
    else:
        session.printer.one(_TESTED, delivery)
    if not is_success:
        raise click.exceptions.Exit(ANSWER_IS_NO)


@webhooks.command(
    "stats", examples=["webhook-grpc webhooks stats 12", "webhook-grpc webhooks stats 12 --since 7d -o json"]
)
@webhook_id
@windowed("24h")
@with_session
def stats(session: Session, webhook_id: int, since: datetime, until: datetime | None) -> None:
    """Show how a webhook fared: outcomes, latencies, what waits."""
    request = service_pb2.GetWebhookStatsRequest(webhook_id=webhook_id, start_time=timestamp(since))
    if until is not None:
        request.end_time.CopyFrom(timestamp(until))
    session.printer.one(_STATS, session.call(session.stub.GetWebhookStats, request, may_repeat=True))
