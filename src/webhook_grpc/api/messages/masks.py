"""Update masks (AIP-134): which fields of a resource an Update call changes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from webhook_grpc.domain.errors import InvalidArgument, Violation, field_invalid
from webhook_grpc.domain.record import record

PATHS_MAX: Final = 100  # no resource has so many fields


@record
class Updatable:
    """What an Update call may do to a resource: the names of the fields that it changes and of those that it ignores.

    `field`: the resource's field in the request; `name`: what people call it. Ignored are output-only fields (AIP-203).
    """

    field: str
    name: str
    changeable: Collection[str]
    ignored: Collection[str]
    # Fields that can't be changed: a call without a mask that sets one must not seem to have changed it.
    refused_when_set: Collection[str] = ()

    def fields_to_change(self, resource: Message, mask: FieldMask) -> frozenset[str]:
        """Returns the fields that the mask names. No mask means all that are set, `*` all that can be changed.

        Raises InvalidArgument.
        """
        if len(mask.paths) > PATHS_MAX:
            raise field_invalid(
                "update_mask", f"must have at most {PATHS_MAX} paths, has {len(mask.paths)}", "FIELD_MASK_INVALID"
            )
        paths = list(mask.paths)
        if not paths:
            read = (*self.changeable, *self.refused_when_set)
            paths = [field.name for field, _ in resource.ListFields() if field.name in read]
        elif paths == ["*"]:
            paths = list(self.changeable)
        known = resource.DESCRIPTOR.fields_by_name
        unknown = [
            Violation("update_mask", f"`{path}` is not a field of {self.name}") for path in paths if path not in known
        ]
        if unknown:
            raise InvalidArgument(unknown, "FIELD_MASK_INVALID")
        set_fields = {field.name for field, _ in resource.ListFields()}
        unchanged = {path for path in self.refused_when_set if path not in set_fields}
        paths = [path for path in paths if path not in self.ignored and path not in unchanged]
        fixed = [
            Violation(f"{self.field}.{path}", "cannot be changed") for path in paths if path not in self.changeable
        ]
        if fixed:
            raise InvalidArgument(fixed, "FIELD_IMMUTABLE")
        if not paths:
            raise field_invalid(
                "update_mask", f"names no field, and no field that can be changed is set in `{self.field}`"
            )
        return frozenset(paths)
