"""The paths of the door itself: health, and this document."""

from __future__ import annotations

from typing import Any, Final

from webhook_grpc.server.http.jwks import PATH as JWKS_PATH

from .refusals import refusals

Schema = dict[str, Any]

_JSON: Final = "application/json"


def operational_paths(*, is_open: bool) -> dict[str, Schema]:
    """Returns them. `is_open`: callers need no token; but for `/api/caller` none is needed in any case."""
    return {
        "/healthz": {"get": _probe("IsAlive", "Whether the process lives", {"200": _text("It does.")})},
        "/readyz": {
            "get": _probe(
                "IsReady",
                "Whether the process can take calls",
                {"200": _text("It can."), "503": _text("It can't now; its log says why.")},
            )
        },
        "/api/caller": {"get": _caller(is_open=is_open)},
        "/api/openapi.json": {"get": _openapi()},
        JWKS_PATH: {"get": _jwks()},
    }


def _jwks() -> Schema:
    members = ("kty", "crv", "x", "kid", "use", "alg")
    key = {"type": "object", "required": list(members), "properties": {name: {"type": "string"} for name in members}}
    schema = {"type": "object", "required": ["keys"], "properties": {"keys": {"type": "array", "items": key}}}
    return {
        "operationId": "GetJwks",
        "tags": ["operations"],
        "summary": "The public signing keys of a customer, for receivers",
        "description": "A JSON Web Key Set (RFC 7517) of Ed25519 keys (RFC 8037): empty for a customer without any.",
        "parameters": [
            {
                "name": "customer_id",
                "in": "path",
                "required": True,
                "schema": {"type": "integer", "format": "int64", "minimum": 0},
            }
        ],
        "responses": {
            "200": {
                "description": "The keys, newest first.",
                "content": {"application/jwk-set+json": {"schema": schema}},
            },
            **refusals({403, 404, 429, 503}),
        },
        "security": [],
    }


def _probe(operation_id: str, summary: str, answers: Schema) -> Schema:
    return {
        "operationId": operation_id,
        "tags": ["operations"],
        "summary": summary,
        "responses": answers | refusals({403}),
        "security": [],
    }


def _text(description: str) -> Schema:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _caller(*, is_open: bool) -> Schema:
    properties = {
        "name": {"type": "string", "description": "The name of the token."},
        "customer_id": {"type": "integer", "description": "The only customer it is for. Unset: several, or all."},
        "customer_ids": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "The customers it is for, if these are several. Unset: one, or all.",
        },
        "permissions": {"type": "array", "items": {"type": "string", "enum": ["admin", "manage", "publish", "read"]}},
        "version": {"type": "string", "description": "Of the service."},
        "grpc_address": {"type": "string", "description": "Where it serves gRPC."},
        "events_retention_days": {"type": "integer", "description": "How long events are kept."},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": sorted(properties.keys() - {"customer_id", "customer_ids"}),
    }
    return {
        "operationId": "GetCaller",
        "tags": ["operations"],
        "summary": "Whose token this is, and what it may do",
        "responses": {
            "200": {"description": "The caller.", "content": {_JSON: {"schema": schema}}},
            **refusals({403} if is_open else {401, 403, 503}),
        },
        "security": [] if is_open else [{"token": []}],
    }


def _openapi() -> Schema:
    return {
        "operationId": "GetOpenApi",
        "tags": ["operations"],
        "summary": "This document",
        "description": "The event types are in it for callers whose token is known.",
        "parameters": [
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "The `ETag` of the document that the caller has.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {
            "200": {
                "description": "The document.",
                "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
                "content": {_JSON: {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}},
            },
            "304": {"description": "The caller has it already."},
            **refusals({403}),
        },
        "security": [],
    }
