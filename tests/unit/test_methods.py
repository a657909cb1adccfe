"""The table of methods against the service that the protos describe."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from webhook.v1 import service_pb2

from webhook_grpc.api import methods as module
from webhook_grpc.api.methods import METHODS, Method, Stream, Unary
from webhook_grpc.domain.access import Permission

SERVICE = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
ROWS = {method.name: method for method in METHODS}


def test_the_table_has_each_rpc_once_in_the_order_of_the_proto_and_nothing_else() -> None:
    assert [method.name for method in METHODS] == [rpc.name for rpc in SERVICE.methods]


@pytest.mark.parametrize("rpc", list(SERVICE.methods), ids=lambda rpc: rpc.name)
def test_a_row_has_the_types_and_the_streaming_of_its_rpc(rpc: MethodDescriptor) -> None:
    row = ROWS[rpc.name]

    assert row.request_type.DESCRIPTOR is rpc.input_type
    assert row.response_type.DESCRIPTOR is rpc.output_type
    assert row.streams is rpc.server_streaming
    assert not rpc.client_streaming, "no door reads a stream of requests"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_row_names_a_coroutine_function_that_takes_its_request(method: Method[Any, Any]) -> None:
    assert isinstance(method, Unary | Stream)
    group_type, function = handler_of(method)

    hints = typing.get_type_hints(function)

    assert inspect.iscoroutinefunction(function), group_type
    assert hints["request"] is method.request_type
    if not method.streams:
        assert hints["return"] is method.response_type


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_what_only_looks_takes_read_and_what_publishes_takes_publish(method: Method[Any, Any]) -> None:
    assert method.permission in typing.get_args(Permission)
    only_looks = method.name.startswith(("Get", "List", "Explain", "Watch"))
    publishes = method.name in {"PublishEvent", "BatchPublishEvents"}
    if method.name == "CreateAccessToken":  # stores nothing
        only_looks = True
    elif method.name.endswith(("Token", "Tokens", "AuditEntries")):
        assert method.permission == "admin"
        return
    assert method.permission == ("read" if only_looks else "publish" if publishes else "manage")


class _Paths:
    """Stands in for Methods, and for its groups: says which attributes were looked up."""

    def __init__(self, path: tuple[str, ...] = ()) -> None:
        self.path = path

    def __getattr__(self, name: str) -> _Paths:
        return _Paths((*self.path, name))


def handler_of(method: Unary[Any, Any] | Stream[Any, Any]) -> tuple[type, Any]:
    """Returns the class and the function that a row names."""
    path = typing.cast("Any", method.handler)(_Paths()).path
    group, function = path
    group_type = getattr(module, f"{singular(group)}Methods")
    return group_type, getattr(group_type, function)


def singular(group: str) -> str:
    """`event_types` → `EventType`, `deliveries` → `Delivery`, `watch` → `Watch`."""
    word = "".join(part.capitalize() for part in group.split("_"))
    if word == "Stats":
        return word
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")
