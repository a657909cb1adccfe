"""Parts of statements that repeat what Python says as well, compared with it."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from datetime import timedelta
from typing import cast

from annotated_types import Le

from tests.support.statements import statements
from webhook_grpc import store
from webhook_grpc.domain.clock import BELIEVED_AHEAD
from webhook_grpc.domain.ids import ID_TIME_SLACK, SHARD_COUNT
from webhook_grpc.settings import Settings
from webhook_grpc.store import literals
from webhook_grpc.store.log.rows import LOG_COLUMNS, LOG_INSERT_COLUMNS, LogRow, log_columns, unlogged_columns
from webhook_grpc.store.registry.webhooks import LOOK_BACK_SECONDS


def test_a_row_of_the_log_has_the_columns_that_are_selected_in_their_order() -> None:
    assert LogRow._fields == LOG_COLUMNS
    assert log_columns("a").split(", ") == [f"a.{column}" for column in LogRow._fields]
    without_large = log_columns("a", with_large=False).split(", ")
    assert [column for column in without_large if column.startswith("a.")] == [
        f"a.{column}" for column in LogRow._fields if column not in {"response_body", "own_headers", "response_headers"}
    ]
    assert len(without_large) == len(LogRow._fields)


def test_a_row_is_written_with_every_column_that_is_read() -> None:
    written = [column.strip() for column in LOG_INSERT_COLUMNS.split(",")]
    assert len(set(written)) == len(written)
    assert set(written) == {"shard", "seq", *LOG_COLUMNS}


def test_a_delivery_that_is_not_in_the_log_has_a_value_for_every_column() -> None:
    assert list(LOG_COLUMNS[:4]) == ["event_id", "webhook_id", "customer_id", "event_type"]
    assert len(unlogged_columns("due_at", "created_at").split(", ")) == len(LOG_COLUMNS) - 4


def test_numbers_and_times_in_statements_are_those_of_the_domain() -> None:
    assert int(literals.SHARD_COUNT) == SHARD_COUNT
    assert seconds_of(literals.CLOCK_SLACK) == ID_TIME_SLACK.total_seconds()
    assert seconds_of(literals.BELIEVED_AHEAD) == BELIEVED_AHEAD.total_seconds()


def test_changes_of_webhooks_are_seen_for_longer_than_a_follower_may_pause() -> None:
    """A change is visible when its statement commits, and its time is when that began."""
    assert seconds_of(literals.CHANGED_LATELY) >= LOOK_BACK_SECONDS + 5


def test_no_lease_may_end_later_than_twice_the_longest_that_is_allowed() -> None:
    [bound] = [
        constraint for constraint in Settings.model_fields["lease_seconds"].metadata if isinstance(constraint, Le)
    ]
    assert seconds_of(literals.LEASE_MAX_TWICE) == 2 * cast("float", bound.le)


def test_one_name_is_one_statement_wherever_it_stands() -> None:
    texts: dict[str, set[str]] = defaultdict(set)
    for path, statement in statements().items():
        texts[path.rpartition(".")[2]].add(statement)
    assert {name for name, found in texts.items() if len(found) > 1} == set()


def test_one_name_is_one_class_of_the_store() -> None:
    modules: dict[str, set[str]] = defaultdict(set)
    for module_info in pkgutil.walk_packages(store.__path__, f"{store.__name__}."):
        for name, value in vars(importlib.import_module(module_info.name)).items():
            if isinstance(value, type) and value.__module__.startswith(store.__name__):
                modules[name].add(value.__module__)
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


def seconds_of(interval: str) -> float:
    """The length of an interval that is written with one unit."""
    number, unit = interval.removeprefix("interval '").removesuffix("'").split()
    return timedelta(**{f"{unit.removesuffix('s')}s": float(number)}).total_seconds()
