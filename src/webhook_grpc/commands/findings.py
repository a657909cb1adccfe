"""What one check of `webhook-grpc doctor --server` says."""

from __future__ import annotations

from typing import Literal

from webhook_grpc.domain.record import record


@record
class Finding:
    """What one check has found; `remedy` is what to do, empty if `detail` says that or nothing is to be done.

    Shows no value of a secret.
    """

    check: str
    state: Literal["ok", "warning", "problem", "skipped"]
    detail: str
    remedy: str = ""
