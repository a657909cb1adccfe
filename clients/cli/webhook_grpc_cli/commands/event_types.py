"""`event-types`: which types of events there are."""

from __future__ import annotations

import click
from webhook.v1 import event_type_pb2, service_pb2

from webhook_grpc_cli import completing
from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import group
from webhook_grpc_cli.inputs import text_given
from webhook_grpc_cli.kinds import FILE
from webhook_grpc_cli.output.things import EVENT_TYPES
from webhook_grpc_cli.session import Session, with_session


@group("event-types")
def event_types() -> None:
    """Which types of events there are, and what their data must look like."""


event_type = click.argument("event_type", metavar="TYPE", shell_complete=completing.event_types)
schema = click.option("--schema", type=FILE, metavar="FILE", help="A JSON Schema that data must fit.")
description = click.option("--description", help="For people.")


@event_types.command(
    "list", examples=["webhook-grpc event-types list", "webhook-grpc event-types list --include-archived -o id"]
)
@click.option("--include-archived", is_flag=True, help="Archived ones, too.")
@with_session
def list_event_types(session: Session, include_archived: bool) -> None:
    """List event types by name."""
    request = service_pb2.ListEventTypesRequest(include_archived=include_archived)
    session.print_list(EVENT_TYPES, session.listed(session.stub.ListEventTypes, request, "event_types"), None)


@event_types.command(
    "get",
    examples=[
        "webhook-grpc event-types get job.completed",
        "webhook-grpc event-types get job.completed --fields json_schema",
    ],
)
@event_type
@with_session
def get(session: Session, event_type: str) -> None:
    """Show an event type, with its schema."""
    request = service_pb2.GetEventTypeRequest(event_type=event_type)
    session.printer.one(EVENT_TYPES, session.call(session.stub.GetEventType, request, may_repeat=True))


@event_types.command(
    "create",
    examples=[
        "webhook-grpc event-types create order.paid --description 'An order is paid.'",
        "webhook-grpc event-types create order.sent --schema order.json",
    ],
)
@event_type
@schema
@description
@with_session
def create(session: Session, event_type: str, schema: str | None, description: str | None) -> None:
    """Register an event type."""
    made = event_type_pb2.EventType(event_type=event_type, description=description or "")
    if schema:
        made.json_schema = text_given(f"@{schema}")
    request = service_pb2.CreateEventTypeRequest(event_type=made)
    session.printer.one(EVENT_TYPES, session.call(session.stub.CreateEventType, request))


@event_types.command(
    "update",
    examples=[
        "webhook-grpc event-types update order.paid --description 'An order is paid in full.'",
        "webhook-grpc event-types update order.paid --archive",
    ],
)
@event_type
@schema
@description
@click.option("--archive/--unarchive", "archived", default=None, help="Take no more events of this type, or again.")
@click.option("--etag", default="", help="Only if nobody has changed it since.")
@with_session
def update(
    session: Session, event_type: str, schema: str | None, description: str | None, archived: bool | None, etag: str
) -> None:
    """Change what the flags of the line name, and nothing else."""
    changed = event_type_pb2.EventType(event_type=event_type, etag=etag)
    request = service_pb2.UpdateEventTypeRequest()
    given = {
        "json_schema": text_given(f"@{schema}") if schema else None,
        "description": description,
        "archived": archived,
    }
    for name, value in given.items():
        if value is not None:
            setattr(changed, name, value)
            request.update_mask.paths.append(name)
    if not request.update_mask.paths:
        raise UsageFailure("nothing is to be changed", remedy="webhook-grpc event-types update --help")
    request.event_type.CopyFrom(changed)
    session.printer.one(EVENT_TYPES, session.call(session.stub.UpdateEventType, request))
