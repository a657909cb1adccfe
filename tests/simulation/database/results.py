"""Results of attempts as parameters of statements."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from psycopg import errors

from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome

from .statements import Params

_REASONS: Final = {reason.name.lower(): reason for reason in FailureReason}


def result_of(params: Params, at: int) -> AttemptResult | None:
    """Returns the result in row `at`; None if the row has no attempt."""
    outcome, started_at = params["outcome"][at], params["started_at"][at]
    if outcome is None:
        return None
    reason = _REASONS[params["reason"][at]]
    return AttemptResult(Outcome(outcome), started_at, params["latency_ms"][at], reason, params["response_status"][at])


def refuse_if_any(refused: Collection[UUID], params: Params) -> None:
    """Raises what Postgres raises for an answer that it can't store, if there is one in the batch."""
    for event_id, outcome in zip(params["event_id"], params["outcome"], strict=True):
        if outcome is not None and event_id in refused:
            raise errors.UntranslatableCharacter("the database refuses this value")
