"""`events`: publish, find and explain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import click
from webhook.v1 import event_pb2, service_pb2

from webhook_grpc_cli.completing import event_ids, event_types
from webhook_grpc_cli.failures import ANSWER_IS_NO, UsageFailure
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.inputs import text_given
from webhook_grpc_cli.kinds import FILE, MOMENT, pairs
from webhook_grpc_cli.names import Names
from webhook_grpc_cli.output.kind import Kind
from webhook_grpc_cli.output.look import is_terminal, latency_text
from webhook_grpc_cli.output.things import EVENTS, EVENTS_WITH_DATA, EXPLANATIONS
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.values import timestamp
from webhook_grpc_cli.waiting import change_line, ended_deliveries

from .ndjson import Ndjson
from .options import filters, limited, waiting, windowed

_PUBLISHED = Kind("event_id", EVENTS.columns[-1:], message="PublishEventResponse")
_SUCCEEDED = 2  # DELIVERY_STATUS_SUCCEEDED


@group("events")
def events() -> None:
    """Publish events, find them, and see why they went where they went."""


@events.command(
    "publish",
    examples=[
        """webhook-grpc events publish job.completed '{"job_id": "job-1"}' -c 42 -r job-1-done --wait""",
        "webhook-grpc events publish --ndjson events.ndjson -c 42",
    ],
)
@click.argument("event_type", required=False, metavar="TYPE", shell_complete=event_types)
@click.argument("data", required=False, metavar="[DATA|@FILE|-]")
@click.option("-r", "--request-id", help="Makes the call safe to repeat: a natural key is best; one is made.")
@click.option("--occur-time", type=MOMENT, help="When it happened.")
@click.option("--attribute", "attributes", multiple=True, callback=pairs, metavar="K=V", help="Words to find it by.")
@waiting
@click.option("--ndjson", type=FILE, metavar="FILE|-", help="Publish many: one event a line, instead of TYPE and DATA.")
@click.option("--run", help="With --ndjson: the name of a run that broke off; no line is published twice.")
@click.option("--batch", type=click.IntRange(1, 500), default=500, show_default=True, help="Events in a call.")
@click.option("--in-flight", type=click.IntRange(1, 16), default=4, show_default=True, help="Calls at once.")
@click.option(
    "--errors", type=FILE, metavar="FILE", help="With --ndjson: where refused lines go, one JSON object for each."
)
@with_session
def publish(session: Session, event_type: str | None, data: str | None, ndjson: str | None, **given: Any) -> None:
    """Publish an event, or with --ndjson many."""
    if ndjson is not None:
        if event_type is not None or given["wait"] is not None:
            raise UsageFailure("--ndjson reads types and data from its lines, and cannot --wait")
        Ndjson(session, ndjson, given["run"], given["errors"]).publish(given["batch"], given["in_flight"])
        return
    if event_type is None:
        raise UsageFailure("the type of the event is missing", remedy="webhook-grpc events publish --help")
    _publish_one(session, event_type, "{}" if data is None else text_given(data), given)


def _publish_one(session: Session, event_type: str, data: str, given: dict[str, Any]) -> None:
    event = event_pb2.Event(
        event_type=event_type, data_json=data, attributes=given["attributes"], customer_id=session.place.customer_id
    )
    if given["occur_time"] is not None:
        event.occur_time.CopyFrom(timestamp(given["occur_time"]))
    request = service_pb2.PublishEventRequest(event=event, request_id=given["request_id"] or uuid4().hex)
    published = session.call(session.stub.PublishEvent, request, may_repeat=True)
    if not session.printer.is_for_people:
        session.printer.one(_PUBLISHED, published)
    else:
        count = published.delivery_count
        words = f"{published.event_id}  goes to {count} webhook{'' if count == 1 else 's'}"
        session.printer.sentence(words + ("  (published before)" if published.duplicate else ""))
    if given["wait"] is not None and published.delivery_count:
        _wait(session, published, given["wait"])


def _wait(session: Session, published: service_pb2.PublishEventResponse, seconds: float) -> None:
    names, started = Names(session), datetime.now(UTC)

    def note(delivery: Any) -> None:
        session.say(change_line(delivery, names))

    count, since = published.delivery_count, published.create_time.ToDatetime(UTC)
    ended = ended_deliveries(session, seconds, count, since, note, event_id=published.event_id)
    good = sum(delivery.status == _SUCCEEDED for delivery in ended)
    took = (datetime.now(UTC) - started).total_seconds()
    session.say(f"{good} of {count} delivered in {latency_text(took)}")
    if good < count:
        session.say(f"  try: webhook-grpc events explain {published.event_id}")
        raise click.exceptions.Exit(ANSWER_IS_NO)


@events.command(
    "list",
    examples=["webhook-grpc events list -t 'job.*' --since 2h", "webhook-grpc events list --since 24h -o json --data"],
)
@filters("event_types")
@windowed("24h")
@click.option(
    "--attribute", "attributes", multiple=True, callback=pairs, metavar="K=V", help="That have this attribute."
)
@click.option("--data", is_flag=True, help="Show what was published.")
@limited
@with_session
def list_events(
    session: Session,
    event_types: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    attributes: dict[str, str],
    data: bool,
    limit: int,
    is_all: bool,
) -> None:
    """List events, newest first."""
    request = service_pb2.ListEventsRequest(event_types=event_types, start_time=timestamp(since), attributes=attributes)
    if until is not None:
        request.end_time.CopyFrom(timestamp(until))
    found: Iterator[Any] = session.listed(session.stub.ListEvents, request, "events")
    session.print_list(EVENTS_WITH_DATA if data else EVENTS, found, None if is_all else limit)


event_id = click.argument("event_id", metavar="ID", shell_complete=event_ids)


@events.command(
    "get", examples=["webhook-grpc events get EVENT_ID", "webhook-grpc events get EVENT_ID --data > data.json"]
)
@event_id
@click.option("--data", is_flag=True, help="Only what was published, byte for byte.")
@with_session
def get(session: Session, event_id: str, data: bool) -> None:
    """Show an event."""
    request = service_pb2.GetEventRequest(event_id=event_id)
    event = session.call(session.stub.GetEvent, request, may_repeat=True)
    if not data:
        session.printer.one(EVENTS_WITH_DATA, event)
    elif is_terminal(sys.stdout):
        session.printer.sentence(event.data_json)
    else:
        sys.stdout.buffer.write(event.data_json.encode())


@events.command(
    "explain", examples=["webhook-grpc events explain EVENT_ID", "webhook-grpc events explain EVENT_ID -o json"]
)
@event_id
@with_session
def explain(session: Session, event_id: str) -> None:
    """Say for each webhook whether the event goes there, how far it is, and why."""
    request = service_pb2.ExplainEventRequest(event_id=event_id)
    explained = session.call(session.stub.ExplainEvent, request, may_repeat=True)
    if not session.printer.several(EXPLANATIONS, explained.webhooks):
        session.say("the customer has no webhooks")
