"""What `serve` prints when it serves: the address, the database, and commands that work where they are shown."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Final, NamedTuple

from webhook_grpc import __version__
from webhook_grpc.settings import Settings

URL: Final = "https://receiver.example/hook"  # a name that will never exist (RFC 2606): it has to be replaced
EVERY_ADDRESS: Final = ("0.0.0.0", "[::]")  # noqa: S104 - what a server may listen on, and nobody can dial

_TEXT: Final = """\
webhook-grpc {version} serves gRPC on {address}
HTTP: {http}
database: {database}

Try it from another terminal; the README has a longer walk, with a receiver to try it on.
{notes}
  {call} {target} list webhook.v1.WebhookService
  {call} -d '{{"webhook": {{"customer_id": 1, "name": "first",
    "url": "{url}", "events": ["job.*"]}}}}' \\
    {target} webhook.v1.WebhookService/CreateWebhook
  {call} -d '{{"event": {{"customer_id": 1, "event_type": "job.completed",
    "data": {{"job_id": "job-abc123"}}}}}}' {target} webhook.v1.WebhookService/PublishEvent
  {call} -d '{{"customer_id": 1, "start_time": "2026-01-01T00:00:00Z"}}' {target} \
    webhook.v1.WebhookService/WatchDeliveries

Stop it with Ctrl-C.
"""


class Ports(NamedTuple):
    """Where a process serves. No `http`: it serves none."""

    grpc: int
    http: int | None


def banner(settings: Settings, ports: Ports, database: str, grpcurl: str, processes: int = 1) -> str:
    """Returns the text. `grpcurl` is what to type for it; `database` says in words where the data is."""
    host = settings.grpc_address.rpartition(":")[0]
    http_host = settings.http_address.rpartition(":")[0]
    call = grpcurl if settings.has_tls else f"{grpcurl} -plaintext"
    notes = [f"Replace {URL} by the address of a receiver of yours."]
    if processes > 1:
        notes.append(f"{processes} processes share these addresses.")
    if settings.has_tls:
        notes.append("TLS: use a name that the certificate has; -cacert FILE names an authority of your own.")
    if settings.grpc_client_ca_file is not None:
        notes.append("mTLS: -cert FILE and -key FILE name the certificate of the client.")
    if settings.anonymous_allowed:
        notes.append("No tokens are configured: whoever reaches this address may do everything.")
    else:
        call += ' -H "authorization: Bearer $TOKEN"'
        notes.append(
            "First `export TOKEN=wk_…`, with a token that `webhook-grpc token` has made, for all customers or 1."
        )
    if not settings.reflection:
        call += " -protoset generated/descriptors/webhook_v1.binpb"
        notes.append("Reflection is off, so run them in the clone, where the API's description is.")
    target = f"{_dialled(host)}:{ports.grpc}"
    scheme = "https" if settings.has_tls else "http"
    http = f"{scheme}://{_dialled(http_host)}:{ports.http}" if ports.http is not None else "none"
    return _TEXT.format(
        version=__version__,
        address=f"{host}:{ports.grpc}",
        http=http,
        database=database,
        notes="".join(f"{note}\n" for note in notes),
        call=call,
        target=target,
        url=URL,
    )


def _dialled(host: str) -> str:
    return "127.0.0.1" if host in EVERY_ADDRESS else host


def grpcurl_path(python: Path) -> str:
    """Returns what to type for grpcurl in this folder: the one beside this Python if it is there, or its name."""
    program = python.with_name("grpcurl")
    if not program.exists():
        return "grpcurl"
    with contextlib.suppress(ValueError, OSError):  # it lies elsewhere, or the folder was removed
        program = program.relative_to(Path.cwd())
    return shlex.quote(str(program))
