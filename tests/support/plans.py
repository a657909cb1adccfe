"""What a statement touches: the plans of EXPLAIN (ANALYZE, BUFFERS), counted in rows and pages, never in time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from webhook_grpc.store.connection.arrays import Array

Node = dict[str, Any]
_LOST: Final = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a statement."""

    root: Node
    uses_jit: bool

    @property
    def cost(self) -> float:
        """What the planner expects; `jit_above_cost` is compared with this."""
        return self.root["Total Cost"]

    @property
    def touched(self) -> float:
        """Rows that any node returned, or read and dropped."""
        return sum(_touched(node) for node in nodes(self.root))

    @property
    def buffers(self) -> int:
        """Pages that were looked at, as often as they were."""
        return self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"]

    def worst(self) -> str:
        """The node that touched most, for a message."""
        node = max(nodes(self.root), key=_touched)
        return json.dumps({name: value for name, value in node.items() if name != "Plans" and "Block" not in name})


def nodes(node: Node) -> Iterator[Node]:
    """A node of a plan and all below."""
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def _touched(node: Node) -> float:
    return node["Actual Loops"] * (node["Actual Rows"] + sum(node.get(name, 0) for name in _LOST))


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement with its values, as text: large values cost more to write than the statement to run."""

    prepare: str
    explain: str

    @classmethod
    def of(cls, statement: str, parameters: Mapping[str, object], connection: psycopg.Connection[Any]) -> Asked:
        """Writes a statement as one that is prepared, and its values as a call of that."""
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)[bs]", statement)))
        numbered = re.sub(r"%\((\w+)\)[bs]", lambda match: f"${names.index(match[1]) + 1}", statement)
        values = sql.SQL(", ").join(_literal(parameters[name]) for name in names)
        arguments = sql.SQL("({})").format(values) if names else sql.SQL("")
        explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE explained{}").format(arguments)
        return cls(f"PREPARE explained AS {numbered.replace('%%', '%')}", explain.as_string(connection))


def explained(connection: psycopg.Connection[Any], asked: Asked) -> Plan:
    """Runs a prepared statement and takes back what it did. Needs an open transaction.

    Whether the plan is custom or generic is up to `plan_cache_mode`.
    """
    connection.execute("SAVEPOINT before")
    connection.execute(asked.prepare.encode())
    [([plan],)] = connection.execute(asked.explain.encode()).fetchall()
    connection.execute("ROLLBACK TO before")
    connection.execute("DEALLOCATE explained")
    return Plan(plan["Plan"], "JIT" in plan)


def _literal(value: object) -> sql.Literal:
    return sql.Literal(list(value.items) if isinstance(value, Array) else value)
