"""What a statement is to the world: a function of its parameters that runs at one instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from webhook_grpc.store.ownership.leases import OwnedShard

Row = tuple[Any, ...]
Params = Mapping[str, Any]
Run = Callable[[Params], list[Row]]


@dataclass(frozen=True, slots=True)
class Statement:
    """Takes its parameters, returns its rows."""

    run: Run
    is_write: bool  # a write is done when it commits; a read sees what was committed when it began


def reads(run: Run) -> Statement:
    return Statement(run, is_write=False)


def writes(run: Run) -> Statement:
    return Statement(run, is_write=True)


def rows_of(params: Params, *names: str) -> list[Row]:
    """Returns the rows of parameters that are columns."""
    return list(zip(*(params[name] for name in names), strict=True))


def fence_of(params: Params) -> tuple[UUID, dict[int, OwnedShard]]:
    """Returns what the parameters of a fence say: the worker, and what it knows of its shards."""
    shards = rows_of(params, "shards", "epochs", "last_seqs")
    return params["worker"], {number: OwnedShard(epoch, last_seq) for number, epoch, last_seq in shards}
