"""Server reflection: what grpcurl, buf, grpcui and ghz ask to learn the API from the server itself.

grpcio-reflection knows neither methods nor enum values as symbols (grpc/grpc#34743) and has no descriptor of v1. Only
the messages are its own; the answers are from a catalogue made once: every file that a listed service needs, and every
symbol in them. What is listed can be described, and nothing else of this process is shown.

Bounds: a request has at most REQUEST_BYTES_MAX, a stream at most REQUESTS_MAX requests, at most STREAMS_MAX streams are
open, of one customer (else caller, else address) at most STREAMS_OF_ONE_MAX, and one on which nothing moves for
IDLE_SECONDS_MAX is ended (with OK: clients open another when they need it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, cast

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as pb

from webhook_grpc.api.codes import Code
from webhook_grpc.domain.access import Caller
from webhook_grpc.domain.concurrency_limits import Places
from webhook_grpc.server import header_names
from webhook_grpc.server.auth import CertificateNames

from .call import Call, Handler

REQUEST_BYTES_MAX: Final = 4096
REQUESTS_MAX: Final = 10_000
STREAMS_MAX: Final = 20  # each may have up to a stream window of bytes in memory; requests are smaller
STREAMS_OF_ONE_MAX: Final = 5  # tools open one at a time
IDLE_SECONDS_MAX: Final = 60.0
STREAM_SECONDS_MAX: Final = 600.0  # no tool needs so long, and streams take no token

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

_Symbol = tuple[str, FileDescriptor]
_V1ALPHA: Final = cast("FileDescriptor", pb.DESCRIPTOR)


class ReflectionAccess(Enum):
    """Who gets the API's description."""

    NOBODY = "nobody"
    CALLERS = "callers"  # whose token is known
    EVERYBODY = "everybody"


class _Ended(Exception):
    """The stream has ended: the client has no more requests, or has sent none for too long."""


class _NoPlace(Exception):
    """All places are taken."""


class Catalogue:
    """The files that a client can get, by their name, their symbols and their extensions."""

    def __init__(self, services: Iterable[str], files: Iterable[FileDescriptor]) -> None:
        """Takes the names of the services to list, and files that describe them. Files that those need come along."""
        needed: dict[str, FileDescriptor] = {}
        for file in (*files, v1_file(), _V1ALPHA):
            _collect(file, needed)
        self.services = tuple(sorted(services))
        self._files = {name: _closure(file) for name, file in needed.items()}
        symbols = [symbol for file in needed.values() for symbol in _symbols_of(file)]
        self._by_symbol = {name: file.name for name, file in symbols}
        self._by_extension = {
            extended: file.name for file in needed.values() for extended in map(_extended, _extensions_of(file))
        }

    def file(self, name: str) -> Sequence[bytes]:
        """Returns a file and all that it imports, itself first, each as a FileDescriptorProto. Raises KeyError."""
        return self._files[name]

    def file_of_symbol(self, name: str) -> Sequence[bytes]:
        """Returns the file of a service, method, message, field, oneof, enum, enum value or extension.

        An enum value has two names: protobuf's own, beside its enum, and the one below it. Raises KeyError.
        """
        return self._files[self._by_symbol[name.removeprefix(".")]]

    def file_of_extension(self, message: str, number: int) -> Sequence[bytes]:
        """Returns the file that extends a message by a field of this number. Raises KeyError."""
        return self._files[self._by_extension[message.removeprefix("."), number]]

    def extension_numbers(self, message: str) -> Sequence[int]:
        """Returns the numbers of the known extensions of a message. Raises KeyError for what is no known symbol."""
        name = message.removeprefix(".")
        self._by_symbol[name]  # pyright: ignore[reportUnusedExpression] - raises
        return sorted(number for extended, number in self._by_extension if extended == name)


class Reflection:
    """Answers reflection streams from a catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        caller_of: Callable[[Sequence[str | bytes], CertificateNames], Awaitable[Caller | None]],
    ) -> None:
        """`caller_of` returns whose the values of `authorization` and the names in the certificate are.

        It returns None for somebody to whom nothing is shown.
        """
        self._catalogue = catalogue
        self._caller_of = caller_of
        self._streams = Places[str](STREAMS_OF_ONE_MAX, _none_left, STREAMS_MAX)

    def handlers(self) -> dict[str, Handler]:
        """Returns what serves the service under both of its names: the messages are the same on the wire."""
        return {f"/{name}/ServerReflectionInfo": self._serve for name in SERVICES}

    async def _serve(self, call: Call) -> None:
        authorization = [value for key, value in call.metadata if key == header_names.AUTHORIZATION]
        caller = await self._caller_of(authorization, lambda: call.peer.names)
        if caller is None:
            message = "reflection takes a token here: send it as metadata `authorization: Bearer …`"
            call.abort(Code.UNAUTHENTICATED, message)
        try:
            with self._streams.place(_whose(caller, call)):
                async with asyncio.timeout(STREAM_SECONDS_MAX):
                    await self._answer_all(call)
        except _NoPlace as error:
            call.abort(Code.RESOURCE_EXHAUSTED, str(error))
        except (_Ended, TimeoutError):
            pass

    async def _answer_all(self, call: Call) -> None:
        for _ in range(REQUESTS_MAX):
            try:
                async with asyncio.timeout(IDLE_SECONDS_MAX):
                    await self._answer_one(call)
            except TimeoutError:
                raise _Ended from None
        message = f"one stream has at most {REQUESTS_MAX} requests; open another"
        call.abort(Code.RESOURCE_EXHAUSTED, message)

    async def _answer_one(self, call: Call) -> None:
        raw = await call.read(REQUEST_BYTES_MAX, f"a reflection request has at most {REQUEST_BYTES_MAX} bytes")
        if raw is None:
            raise _Ended
        try:
            request = pb.ServerReflectionRequest.FromString(raw)
        except DecodeError:
            call.abort(Code.INVALID_ARGUMENT, "the request is not a ServerReflectionRequest")
        await call.write(answer(self._catalogue, request).SerializeToString())


def _whose(caller: Caller, call: Call) -> str:
    """Returns whose share a stream takes: a customer's, however many tokens it has, else a caller's or an address's."""
    if not caller.has_token:
        return call.peer.address
    return caller.name if caller.customer_id is None else f"customer {caller.customer_id}"


def _none_left(_: str) -> _NoPlace:
    return _NoPlace(
        f"this server is serving {STREAMS_MAX} streams of reflection, or {STREAMS_OF_ONE_MAX} of yours; retry later"
    )


def answer(catalogue: Catalogue, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
    """Returns the response to one request. What is not known is an error_response, as the protocol has it."""
    response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
    files = response.file_descriptor_response.file_descriptor_proto
    try:
        match request.WhichOneof("message_request"):
            case "list_services":
                listed = [pb.ServiceResponse(name=name) for name in catalogue.services]
                response.list_services_response.service.extend(listed)
            case "file_by_filename":
                files.extend(catalogue.file(request.file_by_filename))
            case "file_containing_symbol":
                files.extend(catalogue.file_of_symbol(request.file_containing_symbol))
            case "file_containing_extension":
                wanted = request.file_containing_extension
                files.extend(catalogue.file_of_extension(wanted.containing_type, wanted.extension_number))
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                numbers = catalogue.extension_numbers(name)
                response.all_extension_numbers_response.base_type_name = name
                response.all_extension_numbers_response.extension_number.extend(numbers)
            case _:
                _fail(response, Code.INVALID_ARGUMENT, "the request has no known kind")
    except KeyError:
        _fail(response, Code.NOT_FOUND, "this server knows nothing of that name")
    return response


def _fail(response: pb.ServerReflectionResponse, code: Code, message: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = message


def v1_file() -> FileDescriptor:
    """Returns the descriptor of grpc.reflection.v1: that of v1alpha, whose messages are the same, under its own name.

    In a pool of its own, where it cannot meet another one of the same name.
    """
    v1alpha, v1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", v1
    for field in (field for message in file.message_type for field in message.field if field.type_name):
        field.type_name = field.type_name.replace(f".{v1alpha}.", f".{v1}.")
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(f".{v1alpha}.", f".{v1}.")
        method.output_type = method.output_type.replace(f".{v1alpha}.", f".{v1}.")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


def _collect(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    """Adds a file and all that it imports. Files cannot import each other in a circle."""
    if file.name not in found:
        found[file.name] = file
        for imported in file.dependencies:
            _collect(imported, found)


def _closure(file: FileDescriptor) -> Sequence[bytes]:
    found: dict[str, FileDescriptor] = {}
    _collect(file, found)
    return [each.serialized_pb for each in found.values()]


def _symbols_of(file: FileDescriptor) -> Iterator[_Symbol]:
    for service in file.services_by_name.values():
        yield from ((name, file) for name in _names_of_service(service))
    for message in _messages_of(file):
        yield from ((name, file) for name in _names_of_message(message))
    for enum in _enums_of(file):
        yield from ((name, file) for name in _names_of_enum(enum))
    yield from ((extension.full_name, file) for extension in _extensions_of(file))


def _names_of_service(service: ServiceDescriptor) -> Iterator[str]:
    yield service.full_name
    yield from (method.full_name for method in service.methods)


def _names_of_message(message: Descriptor) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (oneof.full_name for oneof in message.oneofs)


def _names_of_enum(enum: EnumDescriptor) -> Iterator[str]:
    yield enum.full_name
    scope = enum.full_name.rpartition(".")[0]
    for value in enum.values:
        yield f"{scope}.{value.name}"
        yield f"{enum.full_name}.{value.name}"


def _messages_of(file: FileDescriptor) -> Iterator[Descriptor]:
    pending = list(file.message_types_by_name.values())
    while pending:
        message = pending.pop()
        yield message
        pending.extend(message.nested_types)


def _enums_of(file: FileDescriptor) -> Iterator[EnumDescriptor]:
    yield from file.enum_types_by_name.values()
    for message in _messages_of(file):
        yield from message.enum_types


def _extensions_of(file: FileDescriptor) -> Iterator[FieldDescriptor]:
    yield from file.extensions_by_name.values()
    for message in _messages_of(file):
        yield from message.extensions


def _extended(extension: FieldDescriptor) -> tuple[str, int]:
    """Returns the message that an extension extends, and by which number."""
    assert extension.containing_type is not None
    return extension.containing_type.full_name, extension.number
