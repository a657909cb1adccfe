"""Requests as the service makes them, for events that are read instead of sent: the same body and headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from webhook.v1 import event_pb2

from webhook_grpc_cli.failures import UsageFailure
from webhook_grpc_cli.verifying.sent import sent_body
from webhook_grpc_cli.verifying.variants import standard_keys

from .receiver import Arrival

_KEY_BYTES: Final = 32


def request_of(event: event_pb2.Event, secret: str, now: float) -> Arrival:
    """Returns the request that carries an event, as its first attempt. No webhook has the number 0."""
    occurred = event.occur_time if event.HasField("occur_time") else event.create_time
    body = sent_body(event.event_type, occurred.seconds, event.data_json)
    signed = b"%s.%d.%s" % (event.event_id.encode(), int(now), body)
    key = next(standard_keys(secret)).value
    headers = {
        "content-type": "application/json",
        "user-agent": "webhook-grpc/1",
        "x-webhook-event": event.event_type,
        "x-webhook-delivery": f"dlv_{event.event_id.removeprefix('evt_')}_0",
        "x-webhook-attempt": "1",
        "x-webhook-signature": f"sha256={hmac.digest(secret.encode(), body, hashlib.sha256).hex()}",
        "webhook-id": event.event_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}",
    }
    return Arrival(now, headers, body)


def kept_secret(environment: Mapping[str, str]) -> str:
    """Returns a secret of this machine, which stays the same from run to run; makes it if there is none.

    It stands in $XDG_STATE_HOME/webhook-grpc/listen-secret, for its owner alone. Raises UsageFailure.
    """
    folder = Path(environment.get("XDG_STATE_HOME") or Path(environment.get("HOME") or Path.home()) / ".local/state")
    path = folder / "webhook-grpc" / "listen-secret"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make_secret(path)
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFailure(f"{path}: {error}", remedy="give a secret with --secret-file") from error
    check(secret, str(path))
    return secret


def _make_secret(path: Path) -> None:
    """Makes the file with all that it holds, unless another listen was faster."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(f"whsec_{base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}\n")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()


def check(secret: str, source: str) -> None:
    """Raises UsageFailure for a secret that would sign otherwise than the service does."""
    key = next(standard_keys(secret), None) if secret else None
    if key is None or key.mistake:
        raise UsageFailure(f"{source}: {key.mistake if key else 'it holds no secret'}")
