"""Routes of the methods, as the protos annotate them (google.api.http): a new RPC has its route by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from webhook_grpc.domain.record import record

PREFIXES: Final = ("/v1/", "/api/")  # as annotated, and the specification's base path

_VARIABLE: Final = re.compile(r"\{([a-z0-9_.]+)\}")


@record
class Route:
    """One way to call a method. `path` has variables in braces, named as the fields of the request that they set."""

    method: str
    verb: str
    path: str
    variables: tuple[str, ...]
    body: str  # the field that the body sets; `*` for the whole request, empty for none

    @property
    def pattern(self) -> str:
        """The path with a pattern for each variable: none contains a slash, or the colon of a custom verb."""
        return _VARIABLE.sub(lambda variable: "{" + _name(variable[1]) + ":[^/:]+}", self.path)

    def field_of(self, name: str) -> str:
        """Returns the field that a variable of the pattern sets."""
        return next(field for field in self.variables if _name(field) == name)


def routes_of(service: ServiceDescriptor) -> list[Route]:
    """Returns the routes of all methods, each under both prefixes. Raises ValueError for a method without any."""
    return [route for method in service.methods for route in _routes_of(method)]


def _routes_of(method: MethodDescriptor) -> Iterator[Route]:
    rule: HttpRule = method.GetOptions().Extensions[cast("Any", annotations_pb2).http]
    for binding in (rule, *rule.additional_bindings):
        verb, path = _verb_and_path(method, binding)
        for prefix in PREFIXES:
            own = path.replace(PREFIXES[0], prefix, 1)
            yield Route(method.name, verb, own, tuple(_VARIABLE.findall(own)), binding.body)


def _verb_and_path(method: MethodDescriptor, rule: HttpRule) -> tuple[str, str]:
    verb = rule.WhichOneof("pattern")
    path = str(getattr(rule, verb)) if verb else ""
    if not path.startswith(PREFIXES[0]):
        raise ValueError(f"{method.full_name} has no route below {PREFIXES[0]}")
    return str(verb).upper(), path


def _name(field: str) -> str:
    return field.replace(".", "__")
