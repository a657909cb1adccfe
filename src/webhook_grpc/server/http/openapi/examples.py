"""Examples of requests and answers. A test holds each against its schema, and publishes what can be published."""

from __future__ import annotations

from typing import Any, Final

Examples = dict[str, dict[str, Any]]

_EVENT_ID: Final = "evt_01jzc2k4m8v5t7w9x1y3z5a7b9"
_TIME: Final = "2026-01-31T12:00:00Z"
_WEBHOOK: Final[dict[str, Any]] = {
    "webhook_id": 1,
    "customer_id": 1,
    "name": "任务完成通知",
    "url": "https://example.com/webhook",
    "events": ["job.completed", "job.failed"],
    "status": "active",
    "secret_hint": "_key",
    "max_in_flight": 0,
    "rate_limit_per_second": 0,
    "headers": {},
    "labels": {},
    "create_time": _TIME,
    "update_time": _TIME,
    "etag": "1",
}
_EVENT: Final[dict[str, Any]] = {
    "customer_id": 1,
    "event_type": "job.completed",
    "data": {"job_id": "42", "result_url": "https://example.com/jobs/42"},
}

REQUESTS: Final[dict[str, Examples]] = {
    "CreateWebhook": {
        "own secret": {
            "value": {
                "name": "任务完成通知",
                "url": "https://example.com/webhook",
                "secret": "your_secret_key",
                "events": ["job.completed", "job.failed"],
            }
        },
        "everything": {
            "value": {
                "customer_id": 1,
                "name": "orders",
                "url": "https://example.com/hooks/orders",
                "events": ["order.*"],
                "timeout": "5s",
                "retry_policy": {"delays": ["5s", "60s", "600s"]},
                "max_in_flight": 5,
                "rate_limit_per_second": 20,
                "headers": {"X-Api-Version": "2"},
                "labels": {"team": "shop"},
            },
            "summary": "A secret that the service makes, and a schedule of its own",
        },
    },
    "UpdateWebhook": {"new address": {"value": {"customer_id": 1, "url": "https://example.com/v2/webhook"}}},
    "PublishEvent": {"event": {"value": {"event": _EVENT, "request_id": "job-42-completed"}}},
    "BatchPublishEvents": {
        "two": {"value": {"requests": [{"event": _EVENT}, {"event": {**_EVENT, "event_type": "job.failed"}}]}}
    },
    "PauseWebhook": {"one": {"value": {"customer_id": 1}}},
    "CreateReplay": {
        "what failed today": {
            "value": {
                "replay": {"customer_id": 1, "statuses": ["failed"], "start_time": "2026-01-31T00:00:00Z"},
                "request_id": "after-the-outage",
            }
        }
    },
}
ANSWERS: Final[dict[str, Examples]] = {
    "CreateWebhook": {"created": {"value": _WEBHOOK}},
    "GetWebhook": {"one": {"value": _WEBHOOK}},
    "PublishEvent": {
        "published": {
            "value": {"event_id": _EVENT_ID, "delivery_count": 1, "duplicate": False, "create_time": _TIME},
        }
    },
}
