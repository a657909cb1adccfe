"""Reflection: the real tools learn the whole API from the server, and nothing makes it serve without a bound."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from tests.api.asking import METHODS
from tests.support import slowness
from tests.support.distribution import missing
from tests.support.service import Service, ServiceFactory
from webhook_grpc.server.grpc import reflection
from webhook_grpc.server.grpc.server import SERVICE

pytestmark = pytest.mark.asyncio(loop_scope="module")

pb: Any = reflection_pb2
BIN = Path(sys.executable).parent
V1, V1ALPHA = reflection.SERVICES


def opened(service: Service, name: str = V1) -> Any:
    """A stream of requests."""
    channel: Any = service.channel
    return channel.stream_stream(f"/{name}/ServerReflectionInfo", None, pb.ServerReflectionResponse.FromString)(
        timeout=slowness.scaled(20)
    )


async def asked(call: Any, **request: Any) -> Any:
    """The answer to one request."""
    await call.write(pb.ServerReflectionRequest(**request).SerializeToString())
    return await call.read()


def files_of(response: Any) -> list[FileDescriptorProto]:
    return [FileDescriptorProto.FromString(raw) for raw in response.file_descriptor_response.file_descriptor_proto]


async def run(*command: str | Path) -> tuple[int | None, str]:
    """Exit status and output of a tool."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with slowness.timeout(30):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


# --- the real tools --------------------------------------------------------------------------------------------------


async def test_grpcurl_describes_everything_that_is_listed_and_each_kind_of_symbol(services: ServiceFactory) -> None:
    service = await services.start()
    for symbol, line in (
        ("", f"{V1} is a service:"),
        (f"{SERVICE}.PublishEvent", f"{SERVICE}.PublishEvent is a method:"),
        ("webhook.v1.DeliveryStatus.DELIVERY_STATUS_PENDING", "DELIVERY_STATUS_PENDING = 1;"),
        ("webhook.v1.Event.customer_id", "int64 customer_id = 2 [(.google.api.field_behavior) = REQUIRED];"),
        (f"{V1}.ServerReflectionInfo", "rpc ServerReflectionInfo"),
        (f"{V1ALPHA}.ServerReflectionInfo", "rpc ServerReflectionInfo"),
    ):
        status, said = await run(BIN / "grpcurl", "-plaintext", service.address, "describe", *filter(None, [symbol]))
        assert (status, line in said) == (0, True), said


async def test_buf_lists_every_method(services: ServiceFactory) -> None:
    service = await services.start()
    address = f"http://{service.address}"
    for protocol in ("grpc-v1", "grpc-v1alpha"):
        status, said = await run(
            BIN / "buf", "curl", "--protocol=grpc", "--http2-prior-knowledge", f"--reflect-protocol={protocol}",
            address, "--list-methods",
        )  # fmt: skip
        assert status == 0, said
        listed = set(said.split())
        assert listed > {f"{SERVICE}/{method}" for method in METHODS}
        assert listed > {f"{V1}/ServerReflectionInfo", "grpc.health.v1.Health/Check"}


def need_ghz() -> str:
    """The path of ghz. Skips the test without Go, which builds it; fails it where CI should have built it."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed, so ghz could not be built")
    return shutil.which("ghz", path=f"{BIN}:{os.environ['PATH']}") or missing("ghz", "make more-tools")


async def test_ghz_calls_a_method_without_a_proto(services: ServiceFactory) -> None:
    ghz, service = need_ghz(), await services.start()
    status, said = await run(
        ghz, "--insecure", "--call", f"{SERVICE}.ListWebhooks", "--data", '{"customer_id": 1}',
        "--total", "3", "--concurrency", "1", service.address,
    )  # fmt: skip
    assert status == 0, said
    assert "[OK]" in said
    assert "3 responses" in said


# --- what is known ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reflection.SERVICES)
async def test_what_is_listed_has_a_descriptor_and_so_has_all_that_it_imports(
    services: ServiceFactory, name: str
) -> None:
    call = opened(await services.start(), name)
    listed = [found.name for found in (await asked(call, list_services="")).list_services_response.service]
    assert len(listed) == 4
    for service in listed:
        files = files_of(await asked(call, file_containing_symbol=service))
        package, _, short = service.rpartition(".")
        assert files[0].package == package
        assert short in [each.name for each in files[0].service]
        assert {imported for file in files for imported in file.dependency} <= {file.name for file in files}
    call.cancel()


async def test_every_kind_of_symbol_is_found_in_its_file(services: ServiceFactory) -> None:
    call = opened(await services.start())
    known = {
        f"{SERVICE}.PublishEvent": "webhook/v1/service.proto",
        f".{SERVICE}.PublishEvent": "webhook/v1/service.proto",  # ghz passes on what its user typed
        "webhook.v1.Event": "webhook/v1/event.proto",
        "webhook.v1.Event.customer_id": "webhook/v1/event.proto",
        "webhook.v1.Event.content": "webhook/v1/event.proto",
        "webhook.v1.Event.AttributesEntry": "webhook/v1/event.proto",
        "webhook.v1.DeliveryStatus": "webhook/v1/delivery.proto",
        "webhook.v1.DELIVERY_STATUS_PENDING": "webhook/v1/delivery.proto",
        "webhook.v1.DeliveryStatus.DELIVERY_STATUS_PENDING": "webhook/v1/delivery.proto",
        "google.rpc.ErrorInfo": "google/rpc/error_details.proto",
        "google.rpc.Status": "google/rpc/status.proto",
        "google.api.http": "google/api/annotations.proto",
        "grpc.health.v1.HealthCheckResponse.SERVING": "grpc_health/v1/health.proto",
    }
    found = {name: files_of(await asked(call, file_containing_symbol=name))[0].name for name in known}
    assert found == known
    by_name = await asked(call, file_by_filename="webhook/v1/event.proto")
    assert files_of(by_name)[0].name == "webhook/v1/event.proto"
    extension = {"containing_type": "google.protobuf.MethodOptions", "extension_number": 72295728}
    assert files_of(await asked(call, file_containing_extension=extension))[0].name == "google/api/annotations.proto"
    numbers = await asked(call, all_extension_numbers_of_type="google.protobuf.MethodOptions")
    assert 72295728 in numbers.all_extension_numbers_response.extension_number
    call.cancel()


async def test_what_is_not_known_is_not_found_and_the_stream_goes_on(services: ServiceFactory) -> None:
    """Also what is in the process, but no part of the API."""
    call = opened(await services.start())
    for request in (
        {"file_containing_symbol": f"{SERVICE}.Nothing"},
        {"file_containing_symbol": ""},
        {"file_containing_symbol": "google.protobuf.compiler.CodeGeneratorRequest"},
        {"file_by_filename": "nothing.proto"},
        {"file_containing_extension": {"containing_type": "webhook.v1.Event", "extension_number": 1}},
        {"all_extension_numbers_of_type": "webhook.v1.Nothing"},
    ):
        answer = await asked(call, **request)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        assert answer.original_request == pb.ServerReflectionRequest(**request)
    assert (await asked(call)).error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert (await asked(call, list_services="")).list_services_response.service
    call.cancel()


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_requests_beyond_the_bounds_end_their_stream(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    large = opened(service)
    symbol = "x" * reflection.REQUEST_BYTES_MAX
    await large.write(pb.ServerReflectionRequest(file_containing_symbol=symbol).SerializeToString())
    assert await large.code() is grpc.StatusCode.INVALID_ARGUMENT
    nonsense = opened(service)
    await nonsense.write(b"\xff")
    assert await nonsense.code() is grpc.StatusCode.INVALID_ARGUMENT
    monkeypatch.setattr(reflection, "REQUESTS_MAX", 2)
    many = opened(service)
    for _ in range(2):
        assert (await asked(many, list_services="")).list_services_response.service
    assert await many.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_streams_are_bounded_and_one_that_ends_makes_room(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflection, "STREAMS_MAX", 1)
    service = await services.start()
    first = opened(service)
    await asked(first, list_services="")
    assert await opened(service, V1ALPHA).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await first.done_writing()
    assert await first.code() is grpc.StatusCode.OK
    assert (await asked(opened(service), list_services="")).list_services_response.service


async def test_a_stream_on_which_nothing_is_asked_ends(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflection, "IDLE_SECONDS_MAX", 0.05)
    assert await opened(await services.start()).code() is grpc.StatusCode.OK
