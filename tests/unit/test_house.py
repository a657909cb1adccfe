"""The rules of the house that no linter knows: how objects get their collaborators."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import webhook_grpc

SOURCE = Path(webhook_grpc.__file__).parent
TESTS = Path(__file__).parents[1]
MODULES = sorted(SOURCE.rglob("*.py"))
PARAMETERS_MAX = 7
ROOM_MODULES_MAX = 13  # the spine of the engine, which is one subject; of others less
PROOF = re.compile(r"(^|[._])(macs?|digest|sha256|hash_of|token_hash)$")
COMPOSITION_ROOTS = frozenset({"App", "Engine"})  # what they wire is what they take


in_one_process = pytest.mark.xdist_group("unit/test_house")  # which reads the source once


@functools.cache
def read_source() -> tuple[list[str], list[str], list[str]]:
    """Constructors that take too much, assigned attributes that look like callbacks, proofs that `==` compares."""
    constructors, callbacks, proofs = list[str](), list[str](), list[str]()
    for path in MODULES:
        where = path.relative_to(SOURCE)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                constructors += [f"{where}: {found}" for found in too_many_parameters(node)]
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                callbacks += [f"{where}: {found}" for found in assigned_callbacks(node)]
            elif isinstance(node, ast.Compare) and is_about_a_proof(node):
                proofs.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    return constructors, callbacks, proofs


def is_about_a_proof(comparison: ast.Compare) -> bool:
    """Whether a hash or a MAC is compared, however: by equality or among others."""
    if not any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in comparison.ops):
        return False
    sides = [side.func if isinstance(side, ast.Call) else side for side in (comparison.left, *comparison.comparators)]
    return any(PROOF.search(ast.unparse(side)) for side in sides if isinstance(side, ast.Attribute | ast.Name))


def parameter_count(function: ast.FunctionDef) -> int:
    """How many parameters a method has, `self` not counted."""
    arguments = function.args
    return len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]) - 1


def too_many_parameters(made: ast.ClassDef) -> Iterator[str]:
    """The constructor of a class, if it takes more than seven."""
    for init in made.body:
        if isinstance(init, ast.FunctionDef) and init.name == "__init__" and made.name not in COMPOSITION_ROOTS:
            count = parameter_count(init)
            if count > PARAMETERS_MAX:
                yield f"{made.name} takes {count}"


def rooms() -> dict[str, int]:
    """How many modules lie flat in each folder, its `__init__.py` not counted."""
    return dict(Counter(str(path.parent.relative_to(SOURCE)) for path in MODULES if path.name != "__init__.py"))


def test_a_room_is_small_enough_to_be_read_from_its_listing() -> None:
    """`domain/` is flat: each module is a word of the service, and none needs another to be found."""
    assert {room: count for room, count in rooms().items() if count > ROOM_MODULES_MAX and room != "domain"} == {}


def test_each_room_says_what_belongs_there() -> None:
    packages = [SOURCE / room / "__init__.py" for room in rooms()]
    assert [path for path in packages if not ast.get_docstring(ast.parse(path.read_text()))] == []


@in_one_process
def test_no_constructor_takes_more_than_seven_parameters() -> None:
    """With more, a noun is missing between the class and its parameters. A dataclass may have more: it is a row."""
    assert read_source()[0] == []


def assigned_callbacks(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    """The attributes that look like callbacks, of those that a statement assigns."""
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        if isinstance(target, ast.Attribute) and target.attr.startswith(("on_", "before_", "after_")):
            yield ast.unparse(target)


@in_one_process
def test_no_callback_is_assigned_to_another_object() -> None:
    """Nor is there an attribute that does nothing until it is replaced: a reader could not tell who is called."""
    assert read_source()[1] == []


@in_one_process
def test_hashes_and_macs_are_compared_in_constant_time_alone() -> None:
    """By `hmac.compare_digest`: how long `==` takes says how much of a guess was right."""
    assert read_source()[2] == []
    guessed = ast.parse("found.sha256 == hash_of(secret)", mode="eval").body
    assert isinstance(guessed, ast.Compare)
    assert is_about_a_proof(guessed)


SHARED = sorted(
    path for room in ("api", "e2e", "engine", "simulation", "store") for path in (TESTS / room).rglob("*.py")
)


def test_roles_are_made_under_new_names() -> None:
    """Roles belong to the server: two test processes on one server would drop each other's of a fixed name.

    `TestPostgres.role` makes one.
    """
    assert [path for path in SHARED if "CREATE ROLE" in path.read_text()] == []
