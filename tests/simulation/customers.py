"""The customers of a run, their webhooks, and the receivers behind them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from webhook_grpc.domain.model import Webhook, WebhookStatus
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer

from .course import Course
from .database.stored import EPOCH
from .process import KEY
from .receivers import Receiver

_SECRET: Final = "whsec_" + "c2VjcmV0" * 4


def make_webhooks(course: Course) -> None:
    """One to three customers with one to four webhooks each; their hosts are shared."""
    choose, webhook_id = course.random.choice, 0
    for customer_id in range(1, course.random.randint(1, 3) + 1):
        for _ in range(course.random.randint(1, 4)):
            webhook_id += course.random.randint(1, 40)
            behaviour = choose(course.profile.behaviours)
            start = course.loop.now + course.random.uniform(0, course.profile.activity_seconds)
            course.receivers[webhook_id] = Receiver(
                behaviour,
                (start, start + course.random.uniform(5, course.profile.activity_seconds)),
            )
            wants_rate = behaviour == "limited" or (not course.profile.prompt and course.random.random() < 0.3)
            sealed = Sealer([KEY]).seal(_SECRET, customer_id, webhook_id, bytes(ENTROPY_BYTES))
            webhook = Webhook(
                webhook_id, customer_id, "", f"https://host{webhook_id % 3}.example.com/{webhook_id}", sealed, "",
                ("*",), WebhookStatus.ACTIVE, "", choose((None, None, (1.0, 3.0, 9.0, 9.0, 9.0), (2.0,))),
                choose((None, 2.0)), choose((None, 1, 2, 5)), choose((1, 2, 5)) if wants_rate else None,
                {}, {}, "", 1, EPOCH, EPOCH,
            )  # fmt: skip
            if course.profile.poison:
                webhook = replace(webhook, retry_delays_seconds=(1.0, 3.0, 9.0, 9.0, 9.0))
            course.stored.model.create_webhook(webhook)
            course.history[webhook_id].append((0.0, webhook))
