"""How a JSON Schema is put together: where its subschemas are, and which of them apply to one and the same value.

That is what a check costs: at most the keywords that apply to one value times the values of the data. With recursion it
could be exponential in the depth of the data, which comes from anybody who may publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import unquote

from . import envelope
from .errors import Violation

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
KEYWORDS_MAX: Final = 10_000  # with every reference written out
KEYWORDS_OF_A_VALUE_MAX: Final = 500
STEPS_MAX: Final = 500_000  # of taking it apart, 0.5 s: a look for one name or index in one subschema
IN_PLACE_DEPTH_MAX: Final = 100
UNEVALUATED_DEPTH_MAX: Final = 3  # the cost doubles with each
_PATTERN_WEIGHT: Final = 20  # in keywords; the price of a pattern that has many states
_COMPOSITE_WEIGHT: Final = 10  # of comparing with an array or an object

# Where a schema holds subschemas. In place: they apply to the same value. Apart: to nothing by themselves.
_IN_PLACE: Final = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies")
_BELOW: Final = (
    *("properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"),
    *("items", "prefixItems", "contains", "unevaluatedItems"),
)
_APART: Final = ("$defs", "definitions", "contentSchema")
_MAPS: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"}
)
# Keywords that ask nothing of a value.
_SILENT: Final = frozenset(
    {"$schema", "$id", "$anchor", "$dynamicAnchor", "$comment", "title", "description", "default", "examples"}
    | {"deprecated", "readOnly", "writeOnly", "format", *_APART}
)

Subschema = Mapping[str, Any] | bool
_Applied = tuple[Subschema, frozenset[str]]  # with the references that led to it
_Here = list[tuple[Mapping[str, Any], frozenset[str]]]


class BadSchema(ValueError):
    """The text can't be used as a schema. The fields of the violations are JSON pointers into it, each after a `#`."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{violation.field}: {violation.description}" for violation in violations))
        self.violations = violations


def pointer(path: Iterable[str | int]) -> str:
    """Returns a JSON pointer (RFC 6901): `/a~1b/0`; empty for the whole."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class Shape:
    """A schema that is as the meta-schema has it, taken apart."""

    def __init__(self, schema: Subschema) -> None:
        self.violations: list[Violation] = []
        self.patterns: dict[str, str] = {}  # by their places
        self._subschemas: dict[str, Subschema] = {}  # by their places and anchors
        self._references: dict[str, str] = {}  # by their places
        self._keyword_count = 0
        self._step_count = 0
        self._root = schema
        self._find(schema, "#")
        for place, reference in self._references.items():
            if not reference.startswith("#"):
                self._refuse(place, "must begin with `#`: references lead only into the schema itself")
            elif unquote(reference) not in self._subschemas:
                self._refuse(place, "must lead to a subschema or an anchor, for example below `#/$defs`")

    def keywords_of_a_value(self) -> int:
        """Returns how many keywords may apply to one value. Raises BadSchema if too many may, or if it is recursive."""
        return self._most_from([(self._root, frozenset[str]())], 1)

    @property
    def has_branches(self) -> bool:
        """Whether a value may have to fit one of several subschemas."""
        return any(
            isinstance(schema, dict) and not schema.keys().isdisjoint({"oneOf", "anyOf"})
            for schema in self._subschemas.values()
        )

    def _refuse(self, place: str, description: str) -> None:
        self.violations.append(Violation(place, description))

    # --- what there is -----------------------------------------------------------------------------------------------

    def _find(self, schema: Subschema, place: str) -> None:
        self._subschemas[place] = schema
        if isinstance(schema, bool):
            return
        self._check_identity(schema, place)
        if "$ref" in schema:
            self._references[f"{place}/$ref"] = schema["$ref"]
        if "pattern" in schema:
            self.patterns[f"{place}/pattern"] = schema["pattern"]
        for pattern in schema.get("patternProperties", ()):
            self.patterns[place + pointer(["patternProperties", pattern])] = pattern
        for keyword in (*_IN_PLACE, *_BELOW, *_APART):
            for path, subschema in _held(schema, keyword):
                self._find(subschema, place + pointer([keyword, *path]))

    def _check_identity(self, schema: Mapping[str, Any], place: str) -> None:
        if schema.get("$schema", DRAFT).removesuffix("#") != DRAFT:
            self._refuse(f"{place}/$schema", f"must be `{DRAFT}`, or left out")
        if "$id" in schema and place != "#":
            self._refuse(f"{place}/$id", "is possible only at the top: references are relative to the whole schema")
        for keyword in ("$dynamicRef", "$vocabulary"):
            if keyword in schema:
                self._refuse(f"{place}/{keyword}", "is not supported")
        for keyword in ("$anchor", "$dynamicAnchor"):
            anchor = "#" + schema.get(keyword, "")
            if anchor != "#" and self._subschemas.setdefault(anchor, schema) is not schema:
                self._refuse(f"{place}/{keyword}", "is taken by another subschema")

    # --- what applies together ---------------------------------------------------------------------------------------

    def _most_from(self, applied: Iterable[_Applied], depth: int) -> int:
        """Returns the most keywords of one value, of this one to which all these apply and of those below it."""
        if depth > envelope.DATA_DEPTH_MAX + 1:
            return 0  # no data is nested deeper
        here: _Here = []
        for schema, followed in applied:
            self._gather(schema, followed, here, 1, 0)
        if not here:
            return 0
        keywords = sum(_keyword_count(schema) for schema, _ in here)
        self._keyword_count += keywords
        if keywords > KEYWORDS_OF_A_VALUE_MAX:
            raise _bad(
                f"has more than {KEYWORDS_OF_A_VALUE_MAX} keywords for one and the same value (a pattern counts as "
                f"{_PATTERN_WEIGHT}, an array or object in `enum` or `const` as {_COMPOSITE_WEIGHT} at least)"
            )
        if self._keyword_count > KEYWORDS_MAX:
            raise _bad(f"has more than {KEYWORDS_MAX} keywords when its references are written out")
        self._step_count += len(here) * sum(
            len(schema.get("properties", ())) + len(schema.get("prefixItems", ())) for schema, _ in here
        )
        if self._step_count > STEPS_MAX:
            raise _bad("has too many names and items when its references are written out")
        return max([keywords, *(self._most_from(below, depth + 1) for below in _below(here))])

    def _gather(
        self, schema: Subschema, followed: frozenset[str], here: _Here, depth: int, unevaluated_depth: int
    ) -> None:
        """Adds what applies to a value to which this schema applies."""
        if schema is True:
            return
        if schema is False:
            schema = {"not": True}  # the same
        here.append((schema, followed))
        if len(here) > KEYWORDS_OF_A_VALUE_MAX or depth > IN_PLACE_DEPTH_MAX:
            raise _bad("has too many subschemas, or too deep ones, for one and the same value")
        unevaluated_depth += "unevaluatedProperties" in schema or "unevaluatedItems" in schema
        if unevaluated_depth > UNEVALUATED_DEPTH_MAX:
            raise _bad(f"has more than {UNEVALUATED_DEPTH_MAX} `unevaluated…` within each other for the same value")
        if "$ref" in schema:
            reference = unquote(schema["$ref"])
            if reference in followed:
                raise _bad(f"must not be recursive: `{reference}` leads back to itself")
            target = self._subschemas[reference]
            self._gather(target, followed | {reference}, here, depth + 1, unevaluated_depth)
        for keyword in _IN_PLACE:
            for _, subschema in _held(schema, keyword):
                self._gather(subschema, followed, here, depth + 1, unevaluated_depth)


def _bad(description: str) -> BadSchema:
    return BadSchema([Violation("#", description)])


def _held(schema: Mapping[str, Any], keyword: str) -> Iterator[tuple[Sequence[str | int], Subschema]]:
    """Returns the subschemas below a keyword, each with its path from there."""
    value = schema.get(keyword)
    if keyword in _MAPS:
        for name, item in cast("dict[str, Any]", value or {}).items():
            if not isinstance(item, list):  # `dependencies` may also list names
                yield [name], item
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield [index], item
    elif value is not None:
        yield [], value


def _below(here: _Here) -> Iterator[Iterator[_Applied]]:
    """Returns for each kind of value below one what applies to it. Every name is taken to fit every pattern."""
    names = dict.fromkeys(name for schema, _ in here for name in schema.get("properties", ()))
    for name in [*names, None]:
        yield (applied for schema, followed in here for applied in _of_property(schema, followed, name))
    yield ((schema["propertyNames"], followed) for schema, followed in here if "propertyNames" in schema)
    for index in range(1 + max((len(schema.get("prefixItems", ())) for schema, _ in here), default=0)):
        yield (applied for schema, followed in here for applied in _of_item(schema, followed, index))


def _of_property(schema: Mapping[str, Any], followed: frozenset[str], name: str | None) -> Iterator[_Applied]:
    properties = schema.get("properties", {})
    if name in properties:
        yield properties[name], followed
    for subschema in schema.get("patternProperties", {}).values():
        yield subschema, followed
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in schema and name not in properties:
            yield schema[keyword], followed


def _of_item(schema: Mapping[str, Any], followed: frozenset[str], index: int) -> Iterator[_Applied]:
    prefix = schema.get("prefixItems", ())
    if index < len(prefix):
        yield prefix[index], followed
    elif "items" in schema:
        yield schema["items"], followed
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            yield schema[keyword], followed


def _keyword_count(schema: Mapping[str, Any]) -> int:
    """Returns about how many comparisons a value takes; at least as many as there can be violations."""
    names = [schema.get("required", ()), *schema.get("dependentRequired", {}).values()]
    patterns = len(schema.get("patternProperties", ())) + ("pattern" in schema)
    composites = sum(map(_composite_weight, [*schema.get("enum", ()), schema.get("const")]))
    return 1 + len(schema.keys() - _SILENT) + sum(map(len, names)) + patterns * _PATTERN_WEIGHT + composites


def _composite_weight(value: object) -> int:
    """Returns the weight of an expected value: 0 for a scalar, otherwise more the more the value holds."""
    if not isinstance(value, dict | list):
        return 0
    items = cast("Iterable[object]", value.values() if isinstance(value, dict) else value)
    return _COMPOSITE_WEIGHT + sum(1 + _composite_weight(item) for item in items)
