"""Writes the comments of a descriptor set as JSON, by full name. Run by scripts/generate.py in its own environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# Where parts of a part stand in descriptor.proto, by the field's number, and what they hold themselves.
_ENUM: dict[int, Any] = {2: ("value", {})}
_MESSAGE: dict[int, Any] = {2: ("field", {}), 8: ("oneof_decl", {})}
_MESSAGE[3] = ("nested_type", _MESSAGE)
_MESSAGE[4] = ("enum_type", _ENUM)
_FILE: dict[int, Any] = {4: ("message_type", _MESSAGE), 5: ("enum_type", _ENUM), 6: ("service", {2: ("method", {})})}


def comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yields full name and comment of everything in a file that has one."""
    for location in file.source_code_info.location:
        name = _name(file, list(location.path))
        if name and location.leading_comments.strip():
            yield name, " ".join(location.leading_comments.split())


def _name(file: FileDescriptorProto, path: list[int]) -> str:
    node: Any = file
    names, parts = [file.package], _FILE
    while path:
        number, *path = path
        if number not in parts or not path:
            return ""
        (list_name, parts), (index, *path) = parts[number], path
        node = getattr(node, list_name)[index]
        names.append(node.name)
    return ".".join(names) if len(names) > 1 else ""


def main() -> None:
    """Reads the descriptor set that the first argument names, writes the file that the second names."""
    source, target = map(Path, sys.argv[1:])
    files = FileDescriptorSet.FromString(source.read_bytes()).file
    found = dict(sorted(pair for file in files for pair in comments_of(file)))
    target.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
