"""A row for each webhook, the one with the most trouble first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from webhook_grpc_cli.output.kind import ANY, Cell, Column, Kind
from webhook_grpc_cli.output.look import Look, span_text
from webhook_grpc_cli.output.things import answer_text, breaker, latency, oldest_due, outcome_mark, seconds_of, success
from webhook_grpc_cli.output.things import time_of as _time_of
from webhook_grpc_cli.values import field_at

from .tally import Rate

_TICKS: Final = "▁▂▃▄▅▆▇█"
RATE_WHOLE: Final = 10.0  # a smaller one is shown with a tenth
WIDTH_WHOLE: Final = 80  # a narrower terminal lacks the last two columns


def rows(
    webhooks: Iterable[Mapping[str, Any]], rates: Mapping[int, Rate], now: datetime, limit: int
) -> list[dict[str, Any]]:
    """Returns at most `limit` rows: breaker open, oldest due, failures of the round and of the hour, attempts."""
    made = [_row(webhook, rates.get(webhook["webhook_id"], Rate()), now) for webhook in webhooks]
    return sorted(made, key=_trouble)[:limit]


def _row(webhook: Mapping[str, Any], rate: Rate, now: datetime) -> dict[str, Any]:
    return {
        "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **{name: webhook[name] for name in ("webhook_id", "customer_id", "name", "status")},
        "attempts_per_second": round(rate.per_second, 3),
        "failed_count": rate.failed_count,
        "stats": webhook["stats"],
        **({"last_problem": rate.last_problem} if rate.last_problem else {}),
    }


def _trouble(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what rows are sorted by; among equals the busiest, then the newest webhook comes first."""
    stats = row["stats"]
    failed = stats.get("attempt_count", 0) * (1 - stats.get("success_rate", 0.0))
    return (
        stats.get("breaker_state") not in {"open", "half_open"},
        -(seconds_of(stats, "oldest_due_age") or 0.0),
        -row["failed_count"],
        -round(failed),
        -row["attempts_per_second"],
        -row["webhook_id"],
    )


def is_trouble(row: Mapping[str, Any]) -> bool:
    """Returns whether a webhook's breaker is not closed, something of it is due, or an attempt of it failed."""
    *trouble, _, _ = _trouble(row)
    return trouble != [True, 0.0, 0, 0]


def heading_text(row: Mapping[str, Any]) -> str:
    """Returns what a webhook is called: `billing-eu #12`."""
    return f"{row['name']} #{row['webhook_id']}"


def _state(row: Mapping[str, Any], look: Look) -> Cell:
    shown, probe = breaker(row, look), _time_of(row, "stats.breaker_probe_time")
    state = field_at(row, "stats.breaker_state")
    if row["status"] != "active" or state not in {"open", "half_open"}:
        return shown
    when = f", {look.relative(probe)}" if state == "open" and probe and probe > look.now else ""
    return Cell(f"breaker {str(state).replace('_', ' ')}{when}", shown.style)


def _problem(row: Mapping[str, Any], look: Look) -> Cell:
    problem, at = row.get("last_problem"), _time_of(row, "last_problem.time")
    if not problem or at is None:
        return Cell("")
    mark, style = outcome_mark(str(problem["outcome"]))
    return Cell(f"{mark} {answer_text(problem)}, {span_text(max(0.0, (look.now - at).total_seconds()))} ago", style)


def _figure(path: str, form: str) -> Callable[[Mapping[str, Any], Look], str]:
    def show(row: Mapping[str, Any], _: Look) -> str:
        value = field_at(row, path)
        return "" if value is None else f"{value:{form}}"

    return show


_ALWAYS: Final = (
    Column("Webhook", "webhook_id", lambda row, _: heading_text(row)),
    Column("State", "status", _state),
    Column("Attempts/s", "attempts_per_second", _figure("attempts_per_second", ",.1f"), is_number=True),
    Column("Success", "stats.success_rate", success, is_number=True),
    Column("p95", "stats.latency_p95", latency("stats.latency_p95"), is_number=True),
    Column("Pending", "stats.pending_count", _figure("stats.pending_count", ",d"), is_number=True),
)
_WHERE_THERE_IS_ROOM: Final = (
    Column("Oldest due", "stats.oldest_due_age", oldest_due),
    Column("Last problem", "last_problem.response_status", _problem),
)
_TIME: Final = Column("Time", "time")
_VALUES: Final = ("time", "webhook_id", "customer_id", "name", "status", "attempts_per_second", "failed_count")
_NAMES: Final = {**dict.fromkeys(_VALUES, ""), "stats": "GetWebhookStatsResponse", "last_problem": ANY}


def kind(look: Look, *, is_table: bool) -> Kind:
    """Returns what a block of rows shows: on a terminal what fits, in a pipe all, with the time of the round."""
    if not is_table:
        return Kind("webhook_id", (_TIME, *_ALWAYS, *_WHERE_THERE_IS_ROOM), more=_NAMES)
    return Kind("webhook_id", (*_ALWAYS, *(_WHERE_THERE_IS_ROOM if look.width >= WIDTH_WHOLE else ())), more=_NAMES)


def heading(place: str, totals: Sequence[float], behind_seconds: float, state: str, look: Look) -> str:
    """Returns the first line: where, attempts per second now and before, how far behind the stream is."""
    chart = sparkline(totals) if look.has_unicode else ""
    rate = totals[-1] if totals else 0.0
    shown = f"{rate:,.1f}/s" if rate < RATE_WHOLE else f"{rate:,.0f}/s"
    words = [f"webhook-grpc top · {place}", shown, chart, f"{behind_seconds:.1f} s behind", f"● {state}"]
    return look.mark("   ".join(filter(None, words)))[: look.width]


def sparkline(values: Sequence[float]) -> str:
    """Returns a tick for each value, the largest as high as a line; none if there is nothing but zeros."""
    highest = max(values, default=0.0)
    if not highest:
        return ""
    return "".join(_TICKS[round(value / highest * (len(_TICKS) - 1))] for value in values)
