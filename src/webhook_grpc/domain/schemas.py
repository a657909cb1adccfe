"""What the data of an event type must look like: a JSON Schema (draft 2020-12), checked when an event is published.

A schema comes from the platform's operators, but the data comes from anybody who may publish: whatever it is, a check
must end soon and take little memory. The library (jsonschema-rs) promises neither, so a schema is admitted only if

- it is small, and small too when every reference is written out (`Shape`): a check then costs at most
  keywords that apply to one value times values;
- its references stay inside (`#…`): nothing is ever fetched, and the library is configured so as well;
- its patterns are for an engine that does not backtrack, and of a bounded size.

Measured on one core of two: 256 bytes of ordinary data 0.03 ms, 256 KiB of it 3 ms, parsing included; of what an
operator can do to himself, 256 KiB against a `oneOf` of 120 branches 2.6 s, against a pattern with 200 states at once
5 s. The library holds the GIL all the while, so a thread would help nobody. It makes all errors of a check at once
(4 µs and 1.3 KB each), so they are listed only where there can't be more than ERRORS_MAX, which takes 20 ms; otherwise
only the first is named.

`format` is an annotation, as the draft has it by default, and is not checked. Numbers are taken as doubles or 64-bit
integers: one beyond a double counts as the largest double. Of a key that stands twice the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

import jsonschema_rs

from . import envelope
from .errors import Violation
from .schema_shape import DRAFT, BadSchema, Shape, Subschema, pointer

SCHEMA_BYTES_MAX: Final = 64 * 1024
PATTERNS_MAX: Final = 100
PATTERN_BYTES_MAX: Final = 128 * 1024  # of a compiled pattern
PATTERN_CACHE_BYTES_MAX: Final = 1024 * 1024  # of what its search may remember
ERRORS_MAX: Final = 4000  # that one check may have to make: nothing else runs meanwhile, for 10 µs each
VIOLATIONS_MAX: Final = 100
DESCRIPTION_CHARACTERS_MAX: Final = 200

_STEP: Final = re.compile(r'\[(?:"(.*?)"|([^"\]]*))\](?=[\[:])', re.DOTALL)  # of a path in the library's texts
_MASK: Final = "the value"  # stands for it in descriptions: data does not belong into errors and logs


class Schema:
    """A schema that was compiled. Made by `compile_schema`."""

    def __init__(self, validator: jsonschema_rs.Validator, keywords_of_a_value: int, *, has_branches: bool) -> None:
        self._validator = validator
        self._keywords_of_a_value = keywords_of_a_value
        self._has_branches = has_branches

    def violations(self, data_json: bytes, field: str = "event.data_json") -> list[Violation]:
        """Returns what is wrong with the data (valid JSON), in the schema's order; nothing if it fits.

        The fields are `field`, `#` and the JSON pointer (RFC 6901) of the value. The first VIOLATIONS_MAX are named; of
        data with very many values the first alone, and none if the schema has `oneOf` or `anyOf`: the library makes the
        errors of all branches for a single one.
        """
        data = envelope.parse(data_json)
        if self._validator.is_valid(data):
            return []
        if _values_at_most(data_json) * self._keywords_of_a_value > ERRORS_MAX:
            if self._has_branches:
                return [Violation(f"{field}#", "does not fit, and is too large to look for what is wrong")]
            more = Violation(f"{field}#", "the data is too large to look for what else may be wrong")
            return [*_named(self._first_error(data), field, data), more]
        errors = list(self._validator.iter_errors(data))
        named = _named(errors, field, data)
        if len(errors) > len(named):
            named.append(Violation(f"{field}#", f"and {len(errors) - len(named)} more"))
        return named

    def _first_error(self, data: Any) -> list[jsonschema_rs.ValidationError]:
        try:
            self._validator.validate(data)
        except jsonschema_rs.ValidationError as error:
            return [error]
        raise AssertionError("it is not valid")


def compile_schema(text: str) -> Schema:
    """Compiles a schema. Raises BadSchema, with everything that is wrong as far as one pass can find it."""
    schema = _parsed(text)
    _raise_if(_named(_META_SCHEMA.iter_errors(schema), "", schema))
    shape = Shape(schema)
    _raise_if([*shape.violations, *_pattern_violations(shape.patterns)])
    keywords_of_a_value = shape.keywords_of_a_value()
    try:
        validator = _validator(schema)
    except ValueError as error:
        raise BadSchema([Violation("#", _cut(f"cannot be used: {str(error).splitlines()[0]}"))]) from None
    return Schema(validator, keywords_of_a_value, has_branches=shape.has_branches)


def _raise_if(violations: Sequence[Violation]) -> None:
    if violations:
        raise BadSchema(violations)


def _parsed(text: str) -> Subschema:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > SCHEMA_BYTES_MAX:
        raise BadSchema([Violation("#", f"must have at most {SCHEMA_BYTES_MAX} bytes, has {len(raw)}")])
    if problem := envelope.why_not_json(raw):
        raise BadSchema([Violation("#", problem)])
    schema = envelope.parse(raw)
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise BadSchema([Violation("#", "must be an object, `true` or `false`")])
    return cast("dict[str, Any]", schema)


def _pattern_violations(patterns: Mapping[str, str]) -> list[Violation]:
    if len(patterns) > PATTERNS_MAX:
        return [Violation("#", f"must have at most {PATTERNS_MAX} patterns, has {len(patterns)}")]
    return [
        Violation(
            place,
            "is not a regular expression that can be used here: it may have no look-around and no back-reference, "
            "and not be too large (repeat `.` and `\\p{L}` with `*`, and limit the length by `maxLength`)",
        )
        for place, pattern in patterns.items()
        if not _is_usable(pattern)
    ]


def _is_usable(pattern: str) -> bool:
    try:
        _validator({"pattern": pattern})
    except ValueError:
        return False
    return True


def _validator(schema: Subschema) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        schema if isinstance(schema, bool) else dict(schema),
        mask=_MASK,
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(
            size_limit=PATTERN_BYTES_MAX, dfa_size_limit=PATTERN_CACHE_BYTES_MAX
        ),
    )


_META_SCHEMA: Final = _validator({"$ref": DRAFT})


def _named(errors: Iterable[jsonschema_rs.ValidationError], field: str, data: Any) -> list[Violation]:
    return [
        Violation(f"{field}#{_place(error, data)}", _cut(error.message)) for error in islice(errors, VIOLATIONS_MAX)
    ]


def _place(error: jsonschema_rs.ValidationError, data: Any) -> str:
    """Returns where in the data the error is, as a JSON pointer.

    The library's path leaves empty names out, and takes names like `01` for numbers; its text for people does not.
    """
    if _leads_somewhere(error.instance_path, data):
        return pointer(error.instance_path)
    _, _, place = error.verbose_message.rpartition("\n\nOn instance")
    return "".join("/" + (name or index) for name, index in _STEP.findall(place))


def _leads_somewhere(path: Iterable[str | int], data: Any) -> bool:
    """Returns whether the path can be followed, and past no empty name."""
    for step in path:
        container = cast("dict[str | int, Any] | list[Any]", data)
        if isinstance(container, list) is not isinstance(step, int):
            return False
        if isinstance(container, dict) and ("" in container or step not in container):
            return False
        data = container[cast("int", step)]
    return not (isinstance(data, dict) and "" in data)


def _cut(text: str) -> str:
    return text if len(text) <= DESCRIPTION_CHARACTERS_MAX else text[: DESCRIPTION_CHARACTERS_MAX - 1] + "…"


def _values_at_most(data_json: bytes) -> int:
    """Returns an upper bound of the count of values: each but the first follows one of these characters."""
    return 1 + data_json.count(b",") + data_json.count(b"[") + data_json.count(b"{")
