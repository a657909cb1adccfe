"""What the engine knows of one receiver."""

from __future__ import annotations

from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.pace import Pace
from webhook_grpc.domain.record import record


@record
class Receiver:
    """A webhook as it is configured now, and the pace at which requests may be sent to it."""

    webhook: Webhook
    pace: Pace
