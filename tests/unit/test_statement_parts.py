"""Parts of statements that repeat what Python says as well, compared with it."""

from __future__ import annotations

from webhook_grpc.store.log.rows import LOG_COLUMNS, LOG_INSERT_COLUMNS, LogRow, log_columns, unlogged_columns


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
    assert ["event_id", "webhook_id", "customer_id", "event_type"] == list(LOG_COLUMNS[:4])
    assert len(unlogged_columns("due_at", "created_at").split(", ")) == len(LOG_COLUMNS) - 4
