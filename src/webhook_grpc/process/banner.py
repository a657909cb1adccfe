"""What `serve` prints when it serves: the address, the database, and commands that work where they are shown."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from importlib.util import find_spec
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
{lines}

Stop it with Ctrl-C.
"""

_GRPCURL: Final = """\
  {call} {target} list webhook.v1.WebhookService
  {call} -d '{{"webhook": {{"customer_id": 1, "name": "first",
    "url": "{url}", "events": ["job.*"]}}}}' \\
    {target} webhook.v1.WebhookService/CreateWebhook
  {call} -d '{{"event": {{"customer_id": 1, "event_type": "job.completed",
    "data": {{"job_id": "job-abc123"}}}}}}' {target} webhook.v1.WebhookService/PublishEvent
  {call} -d '{{"customer_id": 1, "start_time": "2026-01-01T00:00:00Z"}}' \\
    {target} webhook.v1.WebhookService/WatchDeliveries"""

_CLI: Final = """\
  {cli} webhooks create first {url} 'job.*' {options}
  {cli} events publish job.completed '{{"job_id": "job-abc123"}}' --wait {options}
  {cli} watch --since 1d {options}"""


_NO_TOKENS: Final = "No tokens are configured: whoever reaches this address may do everything."
_EXPORT_FIRST: Final = (
    "First `export {variable}=wk_…`, with a token that `webhook-grpc token` has made, for all customers or 1."
)


class Ports(NamedTuple):
    """Where a process serves. No `http`: it serves none."""

    grpc: int
    http: int | None


class Programs(NamedTuple):
    """What to type for the programs that call the service. `cli` is set only where grpcurl is missing."""

    grpcurl: str
    cli: str | None = None


def banner(settings: Settings, ports: Ports, database: str, programs: Programs, processes: int = 1) -> str:
    """Returns the text. `database` says in words where the data is."""
    host = settings.grpc_address.rpartition(":")[0]
    http_host = settings.http_address.rpartition(":")[0]
    target = f"{_dialled(host)}:{ports.grpc}"
    scheme = "https" if settings.has_tls else "http"
    http = f"{scheme}://{_dialled(http_host)}:{ports.http}" if ports.http is not None else "none"
    notes = [f"Replace {URL} by the address of a receiver of yours."]
    if ports.http is not None:
        notes.insert(0, f"A browser at {http}/ shows live what happens.")
    if processes > 1:
        notes.append(f"{processes} processes share these addresses.")
    of_calls, lines = _with_grpcurl(settings, programs.grpcurl, target)
    if programs.cli is not None:
        of_calls, lines = _with_cli(settings, programs.cli, target)
    return _TEXT.format(
        version=__version__,
        address=f"{host}:{ports.grpc}",
        http=http,
        database=database,
        notes="".join(f"{note}\n" for note in (*notes, *of_calls)),
        lines=lines,
    )


def _with_grpcurl(settings: Settings, grpcurl: str, target: str) -> tuple[list[str], str]:
    """Returns what is to be known before, and the lines."""
    call, notes = grpcurl if settings.has_tls else f"{grpcurl} -plaintext", list[str]()
    if settings.has_tls:
        notes.append("TLS: use a name that the certificate has; -cacert FILE names an authority of your own.")
    if settings.grpc_client_ca_file is not None:
        notes.append("mTLS: -cert FILE and -key FILE name the certificate of the client.")
    if settings.anonymous_allowed:
        notes.append(_NO_TOKENS)
    else:
        call += ' -H "authorization: Bearer $TOKEN"'
        notes.append(_EXPORT_FIRST.format(variable="TOKEN"))
    if not settings.reflection:
        call += " -protoset generated/descriptors/webhook_v1.binpb"
        notes.append("Reflection is off, so run them in the clone, where the API's description is.")
    return notes, _GRPCURL.format(call=call, target=target, url=URL)


def _with_cli(settings: Settings, cli: str, target: str) -> tuple[list[str], str]:
    """Returns the same for the command line."""
    notes, options = list[str](), f"-c 1 -a {target}"
    if settings.has_tls:
        options += " --tls"
        notes.append("TLS: use a name that the certificate has; --ca FILE names an authority of your own.")
    if settings.grpc_client_ca_file is not None:
        notes.append("mTLS: --cert FILE and --key FILE name the certificate of the client.")
    notes.append(_NO_TOKENS if settings.anonymous_allowed else _EXPORT_FIRST.format(variable="WHK_TOKEN"))
    return notes, _CLI.format(cli=cli, url=URL, options=options)


def _dialled(host: str) -> str:
    return "127.0.0.1" if host in EVERY_ADDRESS else host


def programs_beside(python: Path) -> Programs:
    """Returns what to type in this folder: grpcurl beside this Python or on the PATH, else the command line."""
    grpcurl = _beside(python, "grpcurl")
    if grpcurl is None and shutil.which("grpcurl") is None and find_spec("webhook_grpc_cli") and find_spec("rich"):
        return Programs("grpcurl", _beside(python, "webhook-grpc"))
    return Programs(grpcurl or "grpcurl")


def _beside(python: Path, name: str) -> str | None:
    program = python.with_name(name)
    if not program.exists():
        return None
    with contextlib.suppress(ValueError, OSError):  # it lies elsewhere, or the folder was removed
        program = program.relative_to(Path.cwd())
    return shlex.quote(str(program))
