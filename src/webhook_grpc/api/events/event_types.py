"""Event types: create, get, list, update. They belong to the platform, not to a customer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from webhook.v1 import event_type_pb2, service_pb2

from webhook_grpc.api.call import Call, refuse_if, set_fields
from webhook_grpc.api.messages import writing
from webhook_grpc.api.messages.masks import Updatable
from webhook_grpc.api.messages.paging import PageToken, fitting, page_size, page_token_invalid
from webhook_grpc.domain import matching, validation
from webhook_grpc.domain.errors import FailedPrecondition, Violation
from webhook_grpc.domain.model import EventType, EventTypeSpec
from webhook_grpc.domain.schema_shape import BadSchema
from webhook_grpc.domain.schemas import compile_schema
from webhook_grpc.hub.type_rules import EventTypes
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import event_types as store
from webhook_grpc.store.schema.versions import refuse_beside_older

from .offloading import LargeWork

_UPDATABLE: Final = Updatable(
    field="event_type",
    name="an event type",
    changeable=("description", "json_schema", "archived"),
    ignored=("event_type", "built_in", "create_time", "update_time", "etag"),
)
_KEY_FORMAT: Final = f"{matching.TYPE_LENGTH_MAX}s"


class EventTypeMethods:
    """The calls that manage event types."""

    def __init__(self, database: Database, event_types: EventTypes, large: LargeWork, event_types_max: int) -> None:
        self._database = database
        self._large = large
        self._event_types = event_types
        self._event_types_max = event_types_max

    async def create(self, request: service_pb2.CreateEventTypeRequest, call: Call) -> event_type_pb2.EventType:
        """Registers an event type."""
        call.caller.must_be_for_all_customers()
        message, violations = request.event_type, list[Violation]()
        _read_name(message.event_type, "event_type.event_type", violations)
        spec = await self._read_spec(message, _UPDATABLE.changeable, violations)
        refuse_if(violations)
        if spec.json_schema is not None:
            await self._refuse_beside_older()
        audit = call.audit(f"event_type:{message.event_type}", fields=set_fields(message))
        created = await store.create(self._database, message.event_type, spec, self._event_types_max, audit=audit)
        self._event_types.changed()
        return writing.event_type_message(created)

    async def get(self, request: service_pb2.GetEventTypeRequest, call: Call) -> event_type_pb2.EventType:
        """Returns one event type."""
        del call  # anybody may read them
        violations = list[Violation]()
        _read_name(request.event_type, "event_type", violations)
        refuse_if(violations)
        return writing.event_type_message(await store.get(self._database, request.event_type))

    async def list(self, request: service_pb2.ListEventTypesRequest, call: Call) -> service_pb2.ListEventTypesResponse:
        """Lists event types, in the order of their names."""
        del call
        violations = list[Violation]()
        size = page_size(request.page_size, violations)
        refuse_if(violations)
        token = PageToken(request, _KEY_FORMAT)
        found = await store.list_page(
            self._database, include_archived=request.include_archived, after=_name_from_token(token), limit=size + 1
        )
        listed = await fitting(found[:size], writing.event_type_message)
        return service_pb2.ListEventTypesResponse(
            event_types=listed,
            next_page_token="" if len(listed) == len(found) else token.after(listed[-1].event_type.encode("ascii")),
        )

    async def catalogue(self) -> Sequence[EventType]:
        """Returns all types that may be published, for the description of the API. Raises Unavailable."""
        return await store.list_page(self._database, include_archived=False, after="", limit=self._event_types_max)

    async def update(self, request: service_pb2.UpdateEventTypeRequest, call: Call) -> event_type_pb2.EventType:
        """Changes the fields that the mask names."""
        call.caller.must_be_for_all_customers()
        message, violations = request.event_type, list[Violation]()
        _read_name(message.event_type, "event_type.event_type", violations)
        refuse_if(violations)
        fields = _UPDATABLE.fields_to_change(message, request.update_mask)
        given = await self._read_spec(message, fields, violations)
        refuse_if(violations)
        current = await store.get(self._database, message.event_type)
        if message.etag and message.etag != str(current.version):
            raise store.etag_mismatch(current)
        spec = replace(current.spec, **{field: getattr(given, field) for field in fields})
        if spec.archived and current.built_in:
            raise FailedPrecondition(
                "EVENT_TYPE_BUILT_IN",
                f"event type `{current.event_type}` is built in and can't be archived",
                f"event_type:{current.event_type}",
            )
        if spec.json_schema not in {None, current.spec.json_schema}:
            await self._refuse_beside_older()
        audit = call.audit(f"event_type:{current.event_type}", fields=fields)
        updated = await store.update(self._database, current, spec, audit=audit)
        self._event_types.changed()
        return writing.event_type_message(updated)

    async def _read_spec(
        self, message: event_type_pb2.EventType, fields: Collection[str], violations: list[Violation]
    ) -> EventTypeSpec:
        """Returns what the caller chose; adds violations of the given fields only. A schema is compiled in a thread."""
        if not message.json_schema:
            return _read_spec(message, fields, violations)
        return await self._large.run(None, _read_spec, message, fields, violations)

    async def _refuse_beside_older(self) -> None:
        """Raises FailedPrecondition beside an older process, which would publish what the schema forbids."""
        await refuse_beside_older(self._database, "a json_schema")


def _read_name(event_type: str, field: str, violations: list[Violation]) -> None:
    if not matching.is_event_type(event_type):
        violations.append(Violation(field, "must be an event type like `job.completed`"))


def _read_spec(
    message: event_type_pb2.EventType, fields: Collection[str], violations: list[Violation]
) -> EventTypeSpec:
    """Returns what the caller chose; adds violations of the given fields only."""
    if "description" in fields and (
        problem := validation.text_problem(message.description, validation.DESCRIPTION_CHARACTERS_MAX)
    ):
        violations.append(Violation("event_type.description", problem))
    if "json_schema" in fields and message.json_schema:
        violations += _schema_violations(message.json_schema)
    return EventTypeSpec(message.description, message.json_schema or None, message.archived)


def _schema_violations(text: str) -> list[Violation]:
    field = "event_type.json_schema"
    try:
        compile_schema(text)
    except BadSchema as error:
        return [Violation(field + violation.field, violation.description) for violation in error.violations]
    return []


def _name_from_token(token: PageToken) -> str:
    key = token.read()
    if key is None:
        return ""
    [packed] = key
    assert isinstance(packed, bytes)
    name = packed.rstrip(b"\0").decode("ascii", "replace")
    if not matching.is_event_type(name):
        raise page_token_invalid()
    return name
