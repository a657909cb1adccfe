"""What the engine knows of one receiver."""

from __future__ import annotations

from dataclasses import dataclass

from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.pace import Pace


@dataclass(frozen=True, slots=True)
class Receiver:
    """A webhook as it is configured now, and the pace at which requests may be sent to it."""

    webhook: Webhook
    pace: Pace
