"""Holds answers against the OpenAPI document: documented status, content type, headers, schema."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

import jsonschema_rs

from webhook_grpc.server.http.openapi.document import document

Schema = dict[str, Any]

NDJSON: Final = "application/x-ndjson"
_PROBLEM: Final = "application/problem+json"
_NOT_OF_THE_API: Final = frozenset({"/", "/metrics", "/webhooks"})  # for people, and for Prometheus
_IN_NO_DOCUMENT: Final = frozenset({404, 405})  # answers of paths and verbs that are not there


@functools.cache
def contract() -> Contract:
    """Returns the contract of a service that has tokens: it has every status that one without them has."""
    return Contract(json.loads(document((), is_open=False).body))


class Contract:
    """An OpenAPI document that answers have to keep to."""

    def __init__(self, described: Schema) -> None:
        self.described = described
        self._components = _closed(described["components"])
        self._validators: dict[str, jsonschema_rs.Validator] = {}
        self._operations = [
            (verb.upper(), _pattern(path), operation)
            for path, item in described["paths"].items()
            for verb, operation in item.items()
        ]

    def hold(self, verb: str, path: str, status: int, headers: Mapping[str, str], text: str) -> None:
        """Raises AssertionError if an answer is not one that the document has. Header names are in lower case."""
        where = f"{verb} {path} {status}"
        kind = headers.get("content-type", "").partition(";")[0]
        operation = self._operation(verb, path)
        if operation is None:
            is_refused = status in _IN_NO_DOCUMENT or urlsplit(path).path in _NOT_OF_THE_API or verb == "OPTIONS"
            assert is_refused or self._is_refusal_of_all(status), f"{where}: the document has no such operation"
            if kind == _PROBLEM:
                self.fits({"$ref": "#/components/schemas/Problem"}, json.loads(text), where)
            return
        answer = self._answer(operation, status, where)
        for name, header in answer.get("headers", {}).items():
            is_required = self.resolved(header).get("required", False)
            assert not is_required or name.lower() in headers, f"{where}: the header {name} is missing"
        content = answer.get("content", {})
        assert not content or kind in content, f"{where}: {kind} is not one of {sorted(content)}"
        assert content or not text, f"{where}: has a body, and none is documented"
        if kind.endswith("json") and kind != NDJSON:
            self.fits(content[kind]["schema"], json.loads(text), where)

    def hold_head(self, path: str, status: int, kind: str) -> None:
        """Raises the same for the beginning of a stream."""
        operation = self._operation("GET", path)
        assert operation is not None, path
        assert kind in self._answer(operation, status, path)["content"], f"{path}: {kind}"

    def hold_line(self, path: str, line: Any) -> None:
        """Raises the same for a message of a stream."""
        operation = self._operation("GET", path)
        assert operation is not None, path
        self.fits(operation["responses"]["200"]["content"][NDJSON]["schema"], line, path)

    def fits(self, schema: Schema, value: Any, where: str) -> None:
        """Raises AssertionError if a value does not fit a schema of the document."""
        errors = [
            f"{error.instance_path}: {error.message}"[:500] for error in self._validator(schema).iter_errors(value)
        ]
        assert not errors, f"{where}: {errors}"

    def _operation(self, verb: str, path: str) -> Schema | None:
        plain = re.sub("^/v1/", "/api/", urlsplit(path).path)
        found = (operation for one, pattern, operation in self._operations if one == verb and pattern.fullmatch(plain))
        return next(found, None)

    def _answer(self, operation: Schema, status: int, where: str) -> Schema:
        answers = operation["responses"]
        assert str(status) in answers, f"{where}: the document has only {sorted(answers)}"
        return self.resolved(answers[str(status)])

    def _is_refusal_of_all(self, status: int) -> bool:
        return status == 403  # a page of another origin, wherever it calls

    def resolved(self, node: Schema) -> Schema:
        """Returns what a reference leads to; anything else as it is."""
        if "$ref" not in node:
            return node
        found: Any = self.described
        for name in node["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found

    def _validator(self, schema: Schema) -> jsonschema_rs.Validator:
        text = json.dumps(schema)
        if text not in self._validators:
            whole = {**_closed(schema), "components": self._components}
            self._validators[text] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        return self._validators[text]


def _closed(node: Any) -> Any:
    """Returns a schema in which no object has members that are not named: a client bears them, a test does not."""
    if isinstance(node, list):
        return [_closed(one) for one in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(value) for name, value in cast("Schema", node).items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _pattern(path: str) -> re.Pattern[str]:
    """Returns what a path template matches: no variable contains a slash, or the colon of a custom verb."""
    parts = re.split(r"(\{[^}]*\})", path)
    return re.compile("".join("[^/:]+" if part.startswith("{") else re.escape(part) for part in parts))
