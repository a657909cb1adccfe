"""Schemas of event types: what is admitted, what is told of data that does not fit, and that no data is expensive."""

from __future__ import annotations

# pyright: reportPrivateUsage=false
import http.server
import json
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain import schemas
from webhook_grpc.domain.errors import InvalidArgument
from webhook_grpc.domain.schema_shape import KEYWORDS_OF_A_VALUE_MAX, BadSchema, pointer
from webhook_grpc.domain.schemas import ERRORS_MAX, SCHEMA_BYTES_MAX, VIOLATIONS_MAX, Schema, compile_schema
from webhook_grpc.server.grpc.error_details import BOUNDS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
DATA_BYTES_MAX = 256 * 1024


def schema_of(schema: object) -> Schema:
    return compile_schema(json.dumps(schema))


def told(schema: object, data: object) -> list[tuple[str, str]]:
    """What is wrong, with the pointers alone."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return [(v.field.removeprefix("event.data_json"), v.description) for v in schema_of(schema).violations(raw)]


def refused(schema: object) -> dict[str, str]:
    """Why a schema is refused, by place."""
    with pytest.raises(BadSchema) as caught:
        compile_schema(schema if isinstance(schema, str) else json.dumps(schema))
    assert str(caught.value)
    return {violation.field: violation.description for violation in caught.value.violations}


# --- what is told of data --------------------------------------------------------------------------------------------


ORDER = {
    "type": "object",
    "required": ["id", "total"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^o-[0-9]+$"},
        "total": {"type": "number", "minimum": 0},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}},
}


def test_data_that_fits_has_no_violations() -> None:
    assert told(ORDER, {"id": "o-1", "total": 9.5, "lines": [{"sku": "a"}, {"sku": "b", "n": 1}]}) == []


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    data = {"id": 5, "lines": [{"sku": "a"}, {"sku": 1}, {}, "x"], "extra": 1}

    assert sorted(told(ORDER, data)) == [
        ("#", '"total" is a required property'),
        ("#", "Additional properties are not allowed ('extra' was unexpected)"),
        ("#/id", 'the value is not of type "string"'),
        ("#/lines/1/sku", 'the value is not of type "string"'),
        ("#/lines/2", '"sku" is a required property'),
        ("#/lines/3", 'the value is not of type "object"'),
    ]


def test_the_field_is_the_one_that_the_data_came_in() -> None:
    assert [v.field for v in schema_of(False).violations(b"1", "event.data")] == ["event.data#"]


@given(st.lists(st.one_of(st.text(), st.sampled_from(["", "01", "+1", "0", "~1"]), st.integers(0, 3)), max_size=5))
def test_a_pointer_leads_back_to_its_value(path: list[str | int]) -> None:
    """RFC 6901 read backwards."""
    data: object = 7
    schema: dict[str, Any] = {"type": "string"}
    for step in reversed(path):
        data = [0] * step + [data] if isinstance(step, int) else {step: data}
        schema = {"prefixItems": [True] * step + [schema]} if isinstance(step, int) else {"properties": {step: schema}}

    [violation] = schema_of(schema).violations(json.dumps(data).encode())

    found: Any = data
    for part in violation.field.removeprefix("event.data_json#").split("/")[1:]:
        step = part.replace("~1", "/").replace("~0", "~")
        found = found[int(step) if isinstance(found, list) else step]
    assert found == 7


def test_slashes_and_tildes_of_names_are_escaped() -> None:
    assert pointer(["a/b", "~1", 0, ""]) == "/a~1b/~01/0/"


def test_values_are_not_repeated() -> None:
    secret = "4111-1111-1111-1111"
    not_fitting: list[Any] = [
        {"type": "integer"},
        {"pattern": "x"},
        {"maxLength": 3},
        {"const": 1},
        {"enum": [1]},
        {"not": {}},
    ]
    for schema in not_fitting:
        for _, description in told(schema, secret):
            assert secret not in description
            assert len(description) <= 200


def test_a_description_is_bounded() -> None:
    [(_, description)] = told({"properties": {"a": {}}, "additionalProperties": False}, {"k" * 1000: 1, "l" * 1000: 2})
    assert len(description) == 200


def test_the_first_violations_are_told_and_the_others_counted() -> None:
    data = [0] * 300

    violations = told({"items": {"type": "string"}}, data)

    assert violations[:VIOLATIONS_MAX] == [(f"#/{n}", 'the value is not of type "string"') for n in range(100)]
    assert violations[VIOLATIONS_MAX:] == [("#", "and 200 more")]


def test_of_very_large_data_the_first_violation_is_told() -> None:
    """The library makes all errors at once: for `[{},{},…]` a million of them."""
    schema = {"items": {"required": [f"field_{number}" for number in range(20)]}}
    data = b"[" + b",".join([b"{}"] * 80_000) + b"]"

    assert told(schema, data) == [
        ("#/0", '"field_0" is a required property'),
        ("#", "the data is too large to look for what else may be wrong"),
    ]


@given(st.integers(1, 30), st.integers(1, 30))
def test_no_check_makes_more_errors_than_are_reckoned_with(required: int, count: int) -> None:
    """What ERRORS_MAX is compared with must not be less than what the library makes."""
    item = {"type": "object", "required": [f"f{n}" for n in range(required)], "minProperties": 1}
    schema = schema_of({"items": item, "minItems": 99, "allOf": [{"items": {"$ref": "#/items"}}]})
    data = json.dumps([{}] * count).encode()

    errors = list(schema._validator.iter_errors(json.loads(data)))

    assert len(errors) <= schemas._values_at_most(data) * schema._keywords_of_a_value


def test_an_error_of_any_data_fits_into_an_answer() -> None:
    """Clients accept 8 KiB of metadata; names of properties are the publisher's."""
    schema = schema_of({"additionalProperties": {"type": "string"}})
    violations = schema.violations(json.dumps({f"{'🎉' * 50}{n}": n for n in range(50)}).encode())

    error = InvalidArgument(violations)

    assert len(error.violations) == 50
    assert sum(len((v.field + v.description).encode()) for v in BOUNDS.violations(error)) < 3100
    assert len(BOUNDS.message(error).encode()) <= 1000


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "data", "fits"),
    [
        ({"type": "integer"}, "1.0", True),
        ({"type": "integer"}, "1e3", True),
        ({"type": "integer"}, "18446744073709551616", True),
        ({"type": "number"}, "1e999", True),
        ({"maximum": 5}, "1e999", False),
        ({"minimum": 5}, "-1e999", False),
        ({"minimum": 5}, "-1E+999", False),
        ({"maximum": 5}, "9" * 200_000, False),
        ({"maximum": 5}, "[" + "1e99999999," * 1000 + "1e-99999999]", True),
        ({"multipleOf": 0.01}, "19.99", True),
        ({"multipleOf": 3}, "9007199254740993", True),
        ({"const": "1e999"}, '"1e999"', True),
        ({"enum": [1]}, "1.0", True),
    ],
)
def test_numbers_are_doubles_or_64_bit_integers(schema: object, data: str, fits: bool) -> None:
    assert (told(schema, data.encode()) == []) is fits


def test_a_schema_may_hold_a_number_beyond_a_double() -> None:
    assert compile_schema('{"maximum":1e999}').violations(b"1e998") == []
    assert compile_schema('{"maximum":-1e999}').violations(b"-1e308") != []


def test_format_is_an_annotation() -> None:
    assert told({"format": "email"}, "nobody") == []


# --- what is no schema -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "#"),
        ("{", "#"),
        ("NaN", "#"),
        ("[]", "#"),
        ('"string"', "#"),
        ("null", "#"),
        ('{"title":"' + "x" * SCHEMA_BYTES_MAX + '"}', "#"),
        ('{"not":' * 64 + "{}" + "}" * 64, "#"),
        ('{"title":"\ud800"}', "#"),
        ('{"type":"text"}', "#/type"),
        ('{"properties":{"a/b":{"minimum":"1"}}}', "#/properties/a~1b/minimum"),
        ('{"required":"a"}', "#/required"),
        ('{"items":[{}]}', "#/items"),
        ('{"$schema":"http://json-schema.org/draft-07/schema#"}', "#/$schema"),
        ('{"$schema":"https://example.com/mine"}', "#/$schema"),
        ('{"$defs":{"a":{"$schema":"http://json-schema.org/draft-04/schema"}}}', "#/$defs/a/$schema"),
        ('{"properties":{"a":{"$id":"b"}}}', "#/properties/a/$id"),
        ('{"$dynamicRef":"#a"}', "#/$dynamicRef"),
        ('{"$vocabulary":{}}', "#/$vocabulary"),
        ('{"$anchor":"a","items":{"$anchor":"a"}}', "#/items/$anchor"),
        ('{"pattern":"("}', "#/pattern"),
        ('{"pattern":"(?=a)a"}', "#/pattern"),
        (r'{"pattern":"(a)\\1"}', "#/pattern"),
        (r'{"pattern":"(\\p{L}{1,100}){1,100}"}', "#/pattern"),
        ('{"patternProperties":{"a[":{}}}', "#/patternProperties/a["),
        ('{"$ref":"#/$defs/missing"}', "#/$ref"),
        ('{"$ref":"#missing"}', "#/$ref"),
        ('{"$ref":"#/properties","properties":{}}', "#/$ref"),
        ('{"items":{"$ref":"#/const"},"const":{}}', "#/items/$ref"),
        ('{"$ref":""}', "#/$ref"),
        ('{"$ref":"#/%zz"}', "#/$ref"),
        ('{"$id":"::no URI::"}', "#"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_refused_with_its_place(text: str, place: str) -> None:
    assert list(refused(text)) == [place]


def test_everything_that_the_meta_schema_refuses_is_told() -> None:
    assert sorted(refused({"type": 1, "minimum": "1", "items": {"maxLength": -1}})) == [
        "#/items/maxLength",
        "#/minimum",
        "#/type",
    ]


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        {},
        {"$schema": DRAFT},
        {"$schema": DRAFT + "#"},
        {"$id": "https://example.com/order", "$ref": "#/$defs/a~1b~0%20c", "$defs": {"a/b~ c": {}}},
        {"$ref": "#a", "$defs": {"x": {"$anchor": "a"}}},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}, "$schema": {}}},
        {"const": {"$ref": "http://example.com/"}, "enum": [{"$id": 5}], "default": {"$schema": "x"}},
        {"unknown": {"$ref": "http://example.com/"}},
        {"pattern": r"^\p{L}+$"},
        {"pattern": "^[A-Za-z0-9_-]{1,255}$"},
        {"dependentSchemas": {"a": {"required": ["b"]}}, "if": {}, "then": {}, "else": {}},
    ],
)
def test_what_is_a_schema_is_admitted(schema: object) -> None:
    schema_of(schema)


def test_a_name_of_its_own_leads_no_reference_elsewhere() -> None:
    """With the meta-schema's `$id`, `#/$defs/…` could mean what is there, whose cost nobody has reckoned."""
    schema = {"$id": DRAFT, "$ref": "#/$defs/anchorString", "$defs": {"anchorString": {"type": "integer"}}}
    assert told(schema, 5) == []


# --- nothing is fetched ----------------------------------------------------------------------------------------------


class Site:
    """A web site that would serve a schema, and counts."""

    def __init__(self) -> None:
        requests: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        self.requests = requests
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/schema.json"


@pytest.fixture
def site() -> Any:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


def test_references_lead_nowhere_else(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text("{}")
    for target in (site.url, f"file://{file}", str(file), "other.json", "urn:x:y", DRAFT, site.url + "#/a"):
        for schema in (
            {"$ref": target},
            {"$id": site.url, "$ref": target},
            {"properties": {"a": {"items": {"$ref": target}}}},
            {"$defs": {"unused": {"$ref": target}}},
            {"$schema": target, "$dynamicRef": target},
            {"$schema": target},
        ):
            if schema != {"$schema": DRAFT}:
                problems = refused(schema)
                assert all("$ref" not in place or "begin with `#`" in problems[place] for place in problems)
    assert site.requests == []


def test_the_library_fetches_nothing_even_if_it_is_asked_to(site: Site, tmp_path: Path) -> None:
    """The second line behind `Shape`; the control shows that the library would."""
    file = tmp_path / "schema.json"
    file.write_text("{}")
    for target in (site.url, f"file://{file}"):
        with pytest.raises(ValueError, match="Retrieval is disabled"):
            schemas._validator({"$ref": target})
    assert site.requests == []

    jsonschema_rs.Draft202012Validator({"$ref": site.url})
    assert site.requests


# --- what a check costs ----------------------------------------------------------------------------------------------


def chain(keyword: str, length: int) -> dict[str, Any]:
    """Each definition names the next twice."""
    link = "#/$defs/d{}".format
    held: Any = {"properties": dict, "allOf": list, "anyOf": list, "oneOf": list}[keyword]
    definitions = {
        f"d{n}": {keyword: {"a": {"$ref": link(n + 1)}, "b": {"$ref": link(n + 1)}}}
        if held is dict
        else {keyword: [{"$ref": link(n + 1)}] * 2}
        for n in range(length)
    }
    return {"$ref": link(0), "$defs": {**definitions, f"d{length}": {"type": "integer"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"child": {"$ref": "#"}}},
        {"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"type": "string"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}},
        {"$anchor": "top", "not": {"$ref": "#top"}},
        {"patternProperties": {"^x": {"additionalProperties": {"$ref": "#"}}}},
        {"propertyNames": {"$ref": "#"}},
        {"unevaluatedItems": {"$ref": "#"}},
        {"dependentSchemas": {"a": {"contains": {"$ref": "#"}}}},
    ],
    ids=str,
)
def test_a_recursive_schema_is_refused(schema: object) -> None:
    """With two ways down its cost would be 2 to the depth of the data, which may be 64."""
    assert "recursive" in refused(schema)["#"]


EXPENSIVE: list[Any] = [
    *(chain(keyword, 30) for keyword in ("allOf", "anyOf", "oneOf", "properties")),
    {"$ref": "#/$defs/d0", "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1400)}, "d1400": {}}},
    {"items": {"allOf": [{"type": "string"}] * 1000}},
    {"required": [f"f{n}" for n in range(1000)]},
    {"enum": [[n] for n in range(1000)]},
    {"const": [[n] for n in range(1000)]},
    {"allOf": [{"pattern": f"a{n}"} for n in range(30)]},
    {"properties": {f"p{n}": {"pattern": "a"} for n in range(200)}},
    {"allOf": [{"allOf": [{"allOf": [{"unevaluatedItems": {}}], "unevaluatedItems": {}}], "unevaluatedItems": {}}],
     "unevaluatedItems": {}},
    {"patternProperties": {f"^{n}": {"patternProperties": {f"^{m}": {} for m in range(10)}} for n in range(10)}},
    {"$defs": {"a": {"properties": {f"{n:x}": True for n in range(3000)}}},
     "prefixItems": [{"$ref": "#/$defs/a"}] * 1500},
]  # fmt: skip


@pytest.mark.parametrize("schema", EXPENSIVE)
def test_a_schema_that_makes_checks_expensive_is_refused(schema: object) -> None:
    started_at = time.process_time()
    refused(schema)
    assert time.process_time() - started_at < 5, "a fraction of a second, if the machine is not busy"


LARGE: list[Any] = [
    {"properties": {f"p{n}": {"type": "string"} for n in range(1000)}},
    {"enum": [f"value {n}" for n in range(3000)]},
    {"oneOf": [{"properties": {"kind": {"const": f"k{n}"}}, "required": ["kind"]} for n in range(60)]},
    {"properties": {f"p{n}": {"$ref": "#/$defs/money"} for n in range(100)},
     "$defs": {"money": {"type": "object", "required": ["cents", "currency"]}}},
    {"unevaluatedProperties": False, "allOf": [{"properties": {"a": {}}}]},
]  # fmt: skip


@pytest.mark.parametrize("schema", LARGE)
def test_a_large_ordinary_schema_is_admitted(schema: object) -> None:
    schema_of(schema)


def test_the_largest_data_of_a_large_schema_is_checked_in_little_time() -> None:
    """Compared with parsing the same data, so that it holds on any machine."""
    line = {"id": 1, "name": "name of it", "price": 19.99, "tags": ["a", "b"]}
    properties = {
        "id": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[a-z ]{1,64}$"},
        "price": {"type": "number", "multipleOf": 0.01},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True},
    }
    schema = schema_of({"items": {"properties": properties, "required": list(properties)}})
    data = json.dumps([line] * 3400).encode()
    assert 200_000 < len(data) < DATA_BYTES_MAX

    def cost(function: Any) -> float:
        started_at = time.process_time()
        function()
        return time.process_time() - started_at

    checked = min(cost(lambda: schema.violations(data)) for _ in range(5))
    parsed = min(cost(lambda: json.loads(data)) for _ in range(5))
    assert checked < 50 * parsed


# --- whatever it is --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["type", "properties", "items", "$ref", "$defs", "allOf", "anyOf", "not", "const", "enum", "pattern", "required",
     "$id", "$anchor", "$schema", "minimum", "prefixItems", "patternProperties", "dependencies", "if", "contains",
     "propertyNames", "unevaluatedProperties", "$dynamicRef", "a", "", "~/"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5),
    st.sampled_from(["#", "#/$defs/a", "#a", "http://127.0.0.1:9/", "object", "string", "^a+$", "(", DRAFT]),
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


@given(st.dictionaries(NAMES, JSON, max_size=5), JSON)
def test_no_schema_and_no_data_is_an_error_of_ours(schema: object, data: object) -> None:
    try:
        compiled = schema_of(schema)
    except BadSchema:
        return
    raw = json.dumps(data).replace("Infinity", "1e999").encode()
    for violation in compiled.violations(raw):
        assert violation.field.startswith("event.data_json#")
        assert violation.description


def test_the_bounds_are_as_documented() -> None:
    assert (SCHEMA_BYTES_MAX, KEYWORDS_OF_A_VALUE_MAX, ERRORS_MAX) == (65_536, 500, 4000)
