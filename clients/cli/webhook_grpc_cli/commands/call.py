"""`call`: any method of the API, with JSON in and out."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from webhook.v1 import service_pb2

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.flags import Command
from webhook_grpc_cli.inputs import text_given
from webhook_grpc_cli.output import fields
from webhook_grpc_cli.output.kind import Kind
from webhook_grpc_cli.output.printing import Printer, write_line
from webhook_grpc_cli.reading import SHOWN_AS, Misread, read_into
from webhook_grpc_cli.session import Session, with_session
from webhook_grpc_cli.values import RAW, enum_words

_SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
_READS: Final = re.compile(r"Get|List|Explain|Watch")
_ANYTHING: Final = Kind("", ())
_TYPES: Final = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
}


@click.command(
    "call",
    cls=Command,
    examples=[
        """webhook-grpc call ListWebhooks '{"page_size": 10}' -c 42""",
        "webhook-grpc call CreateReplay --describe",
    ],
)
@click.argument("method", required=False)
@click.argument("request", metavar="[JSON|@FILE|-]", default="{}")
@click.option("--list", "is_list", is_flag=True, help="List the methods.")
@click.option("--describe", is_flag=True, help="Show the fields of the method's request and answer.")
@with_session
def call(session: Session, method: str | None, request: str, is_list: bool, describe: bool) -> None:
    """Call any method of the API with a request in JSON; the answer is JSON, one message a line."""
    if is_list or method is None:
        for known in _SERVICE.methods:
            write_line(f"{known.name:<22}  {_comment(known)}" if session.look.is_terminal else known.name)
        return
    descriptor = _method(method)
    if describe:
        _describe(descriptor)
        return
    message = GetMessageClass(descriptor.input_type)()
    try:
        read_into(message, json.loads(text_given(request)))
    except Misread as error:
        raise UsageFailure(str(error), remedy=f"webhook-grpc call {descriptor.name} --describe") from error
    except ValueError as error:
        raise UsageFailure(f"the request is no JSON: {error}") from error
    _call(session, descriptor, message)


def _call(session: Session, method: MethodDescriptor, request: Any) -> None:
    printer = Printer("json", session.look, session.fields)
    fields.check(session.fields, fields.members(method.output_type))
    stub = getattr(session.stub, method.name)
    if method.server_streaming:
        for message in session.stream(stub, request):
            write_line(printer.streamed(_ANYTHING, message))
            sys.stdout.flush()  # whoever reads a stream through a pipe wants each message now
        return
    may_repeat = bool(_READS.match(method.name)) or bool(getattr(request, "request_id", ""))
    printer.one(_ANYTHING, session.call(stub, request, may_repeat=may_repeat))


def _method(name: str) -> MethodDescriptor:
    found = {method.name.lower(): method for method in _SERVICE.methods}.get(name.lower())
    if found is None:
        raise UsageFailure(f"there is no method `{name}`", remedy="webhook-grpc call --list")
    return found


def _describe(method: MethodDescriptor) -> None:
    write_line(f"{method.name}: {_comment(method)}")
    for title, message in (("Request", method.input_type), ("Answer", method.output_type)):
        write_line(f"\n{title}")
        _describe_fields(message, "  ")


def _describe_fields(message: Any, indent: str) -> None:
    for field in message.fields:
        if field.full_name in SHOWN_AS:
            continue
        write_line(f"{indent}{RAW.get(field.full_name, field.name):<24}{_type(field):<28}{_comment(field)}".rstrip())
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("webhook.") and not _is_map(field):
            _describe_fields(inner, indent + "  ")  # no message of the API holds itself


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _type(field: FieldDescriptor) -> str:
    if _is_map(field):
        return "{text: text}"
    word = "JSON" if field.full_name in RAW else _TYPES.get(field.cpp_type, "whole number")
    if field.enum_type is not None:
        word = "|".join(word for number, word in enum_words(field.enum_type).items() if number)
    elif field.message_type is not None:
        word = field.message_type.name
    elif field.type == FieldDescriptor.TYPE_BYTES:
        word = "base64"
    return f"[{word}]" if field.is_repeated else word


def _comment(thing: Any) -> str:
    """Returns the first sentence of what the API's description says about a method or a field."""
    text = _comments().get(thing.full_name, "")
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


@cache
def _comments() -> dict[str, str]:
    return json.loads(Path(service_pb2.__file__).with_name("comments.json").read_bytes())
