"""Which names --fields may have: those of the message that is printed, as it is shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.values import RAW

from .kind import ANY, Kind

_PACKAGE: Final = "webhook.v1."
Names = Mapping[str, Any]
"""A name, and what may follow it: names again, ANY for one of any kind, None for nothing."""


def check(paths: Sequence[str], names: Names) -> None:
    """Raises UsageFailure for the first path that leads nowhere."""
    for path in paths:
        place: Any = names
        done: list[str] = []
        for name in path.split("."):
            if place is ANY:
                place = None
            elif place is None or name not in place:
                raise _unknown(path, done, name, place)
            else:
                place = place[name]
            done.append(name)


def _unknown(path: str, done: Sequence[str], name: str, place: Names | None) -> UsageFailure:
    folder = ".".join(done)
    if place is None:
        return UsageFailure(f"--fields: `{path}` is none, for `{folder}` has no fields")
    meant = get_close_matches(name, place, 1)
    hint = f"; did you mean `{'.'.join([*done, meant[0]])}`?" if meant else ""
    known = ", ".join(".".join([*done, one]) for one in place)
    return UsageFailure(f"--fields: there is no `{path}`{hint}", remedy=f"some of {known}")


def names_of(kind: Kind) -> Names | None:
    """Returns the names of what a kind shows; None if nothing is known of it before it is there."""
    if not (kind.message or kind.more):
        return None
    own: Names = members(_descriptor(kind.message)) if kind.message else {}
    return {**own, **{name: _following(one) for name, one in kind.more.items()}}


def names_in(value: Mapping[str, Any]) -> Names:
    """Returns the names that a plain value has."""
    inner = {name: cast("Mapping[str, Any]", one) for name, one in value.items() if isinstance(one, Mapping)}
    return {name: names_in(inner[name]) if name in inner else None for name in value}


def members(message: Descriptor) -> Names:
    """Returns the names of a message's fields, as they are shown."""
    return {RAW.get(field.full_name, field.name): _members_of(field) for field in message.fields}


def _members_of(field: FieldDescriptor) -> Any:
    inner = field.message_type
    if inner is None or field.full_name in RAW:
        return None
    if inner.GetOptions().map_entry:
        return ANY
    is_open = not field.is_repeated and inner.full_name.startswith(_PACKAGE)  # times and durations are texts
    return members(inner) if is_open else None  # no message of the API holds itself


def _following(name: str) -> Any:
    return members(_descriptor(name)) if name not in {"", ANY} else name or None


def _descriptor(name: str) -> Descriptor:
    return Default().FindMessageTypeByName(_PACKAGE + name)  # the stubs have registered it


_SHOWN_IN_PART: Final = frozenset({"TestWebhookResponse"})  # their commands check what they print of them


def names_of_answer(request: Descriptor) -> Names:
    """Returns the names of what is printed when a request has been answered, before it is sent; none for a part."""
    service = Default().FindServiceByName(f"{_PACKAGE}WebhookService")
    answer = service.methods_by_name[request.name.removesuffix("Request")].output_type
    return {} if answer.name in _SHOWN_IN_PART else members(answer)
