"""Every statement of the store, read as Postgres reads it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from pglast import ast, parse_sql
from pglast.parser import ParseError, parse_plpgsql_json

from webhook_grpc import hub, store
from webhook_grpc.store.schema.migration_files import FOLDER

_BEGINNINGS: Final = ("WITH", "SELECT", "INSERT", "UPDATE", "DELETE", "(")
_FUNCTION: Final = re.compile(
    r"CREATE (?:OR REPLACE )?FUNCTION (\w+)\([^;]*?LANGUAGE plpgsql.*?\$\$.*?\$\$;", re.DOTALL
)
# Of our statements, those of which Postgres may give another value for each row or transaction.
VOLATILE: Final = frozenset({
    "clock_timestamp", "gen_random_uuid", "nextval", "random", "statement_timestamp", "timeofday", "uuidv7",
})  # fmt: skip
STABLE: Final = frozenset({"now", "transaction_timestamp"})


def statements() -> dict[str, str]:
    """The statements by `room.module.NAME`: constants of modules that begin as one does; `_NAME` is a part."""
    found: dict[str, str] = {}
    for room in (store, hub):
        for module_info in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            for name, value in vars(importlib.import_module(module_info.name)).items():
                if name.isupper() and name[0] != "_" and _is_statement(value):
                    found[f"{module_info.name.removeprefix('webhook_grpc.')}.{name}"] = value
    return found


def _is_statement(value: object) -> bool:
    return isinstance(value, str) and _without_comments(value).startswith(_BEGINNINGS)


def function_statements() -> dict[str, list[str]]:
    """The statements in functions of PL/pgSQL by the function's name, as the last migration that has it makes them."""
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("*.sql")):
        for made in _FUNCTION.finditer(path.read_text()):
            found[made[1]] = list(_run_by(json.loads(parse_plpgsql_json(made[0]))))
    return found


def _run_by(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        node = cast("dict[str, Any]", tree)
        if "PLpgSQL_stmt_execsql" in node:
            yield node["PLpgSQL_stmt_execsql"]["sqlstmt"]["PLpgSQL_expr"]["query"]
        tree = list(node.values())
    if isinstance(tree, list):
        for child in cast("list[object]", tree):
            yield from _run_by(child)


def refusals(statement: str) -> set[str]:
    """The forms of a statement that Citus refuses, in words."""
    return {refusal for tree in _parsed(statement) for refusal in _refusals(tree)}


def _without_comments(text: str) -> str:
    return re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE).strip()


def _parsed(statement: str) -> list[ast.Node | None]:
    """The statement with numbers for its parameters; `{…}` is a name, and a beginning is followed by `SELECT`."""
    numbered = re.sub(r"%\(\w+\)[bst]|%[bst](?!\w)", "$1", statement).replace("%%", "%")
    named = re.sub(r"\{(\w+)\}", r'"\1"', numbered)
    try:
        return [raw.stmt for raw in parse_sql(named)]
    except ParseError:
        return [raw.stmt for raw in parse_sql(named + " SELECT")]


def _refusals(tree: ast.Node | None) -> Iterator[str]:
    writes = [node for node in _below(tree) if isinstance(node, ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt)]
    names = {str(node.ctename) for node in _below(tree) if isinstance(node, ast.CommonTableExpr)}
    for write in writes:
        yield from _refusals_of_write(write, names)
    for node in _below(tree) if writes else ():
        if isinstance(node, ast.CaseExpr | ast.CoalesceExpr) and _calls(node, STABLE | VOLATILE):
            yield f"{'CASE' if isinstance(node, ast.CaseExpr) else 'coalesce'} with a function of time or chance"


def _refusals_of_write(write: ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt, names: set[str]) -> Iterator[str]:
    if _calls(_returning(write), STABLE | VOLATILE):
        yield "RETURNING with a function of time or chance"
    if isinstance(write, ast.UpdateStmt):
        if _calls(write.targetList, STABLE | VOLATILE):
            yield "UPDATE … SET with a function of time or chance"
        if _calls(write.whereClause, VOLATILE):
            yield "UPDATE … WHERE with a volatile function"
    if isinstance(write, ast.InsertStmt):
        if _calls(write.onConflictClause, STABLE | VOLATILE):
            yield "ON CONFLICT with a function of time or chance"
        select = write.selectStmt
        if isinstance(select, ast.SelectStmt) and not select.valuesLists and not _sources(select) & names:
            yield "INSERT … SELECT that reads no CTE"


def _returning(write: ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt) -> object:
    """What RETURNING has; in a clause of its own from Postgres 18 on."""
    return getattr(write, "returningClause", None) or getattr(write, "returningList", None)


def _sources(select: ast.SelectStmt) -> set[str]:
    """What stands in FROM itself, joins included, subqueries not."""
    found: set[str] = set()
    waiting: list[object] = list(select.fromClause or ())
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.JoinExpr):
            waiting += [item.larg, item.rarg]
        elif isinstance(item, ast.RangeVar):
            found.add(str(item.relname))
    return found


def _calls(node: object, functions: frozenset[str]) -> bool:
    found = [name for item in _below(node) for name in _called(item)]
    return not functions.isdisjoint(found)


def _called(node: ast.Node) -> Iterator[str]:
    if isinstance(node, ast.FuncCall):
        yield str(cast("Any", node.funcname)[-1].sval)
    if isinstance(node, ast.SQLValueFunction):
        yield "now"  # CURRENT_TIMESTAMP and its like


def _below(node: object) -> Iterator[ast.Node]:
    """A node, or those of a list, and all below."""
    if isinstance(node, ast.Node):
        yield node
    for child in _children(node):
        yield from _below(child)


def _children(node: object) -> Iterable[object]:
    if isinstance(node, tuple | list):
        return cast("Iterable[object]", node)
    names: Iterable[str] = cast("Any", node).__slots__ if isinstance(node, ast.Node) else ()
    return [getattr(node, name, None) for name in names]
