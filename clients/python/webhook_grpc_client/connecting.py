"""How to reach the service: channel options that suit it, TLS, and the token of each call."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from .errors import Problem, Unauthorized

# Comes back within a fraction of a second of a server's restart (gRPC's own back-off begins with a second), notices a
# dead connection, and spreads calls over the addresses of a name. The client repeats calls itself. The third one is how
# long a connection may take, TLS included: gRPC takes it for that, and not for a pause between two that are refused.
OPTIONS: Final = (
    ("grpc.primary_user_agent", "webhook-grpc-client/0.1.0"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.enable_retries", 0),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


_CERTIFICATE: Final = b" CERTIFICATE-----"  # of any of the kinds that OpenSSL reads


@dataclass(frozen=True, slots=True)
class TLS:
    """Files in PEM: the authorities to trust (none: the system's), and an own certificate for mutual TLS.

    `server_name` is the name that the service's certificate has, where that is not the host of the address.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises OSError, and ValueError for one without a certificate: gRPC would not name it."""
        contents = [path.read_bytes() if path else None for path in (self.ca_file, self.key_file, self.cert_file)]
        for path, content in ((self.ca_file, contents[0]), (self.cert_file, contents[2])):
            if content is not None and _CERTIFICATE not in content:
                raise ValueError(f"{path} holds no certificate in PEM")
        return grpc.ssl_channel_credentials(*contents)


def options(address: str, tls: TLS | bool | None) -> tuple[tuple[str, str | int], ...]:
    """Returns the options of a channel. A proxy of the environment is for other machines, not for loopback."""
    name = tls.server_name if isinstance(tls, TLS) else ""
    own: list[tuple[str, str | int]] = [("grpc.ssl_target_name_override", name)] if name else []
    if is_loopback(address):
        own.append(("grpc.enable_http_proxy", 0))
    return (*OPTIONS, *own)


def credentials(address: str, tls: TLS | bool | None) -> grpc.ChannelCredentials | None:
    """Returns the credentials of a channel, None for one without TLS: by default that is loopback only."""
    if tls is None:
        tls = not is_loopback(address)
    if isinstance(tls, TLS):
        return tls.credentials()
    return TLS().credentials() if tls else None


def is_loopback(address: str) -> bool:
    """Returns whether an address stays on this machine. A name that only begins like one of loopback does not."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Token:
    """The token of each call: a text, or a file that is read each time, so that a new one is used at once."""

    def __init__(self, text: str | None, file: Path | str | None) -> None:
        """Raises ValueError if both are given."""
        if text is not None and file is not None:
            raise ValueError("either token or token_file, not both")
        self._text = text
        self._file = Path(file) if file is not None else None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call.

        Raises Unauthorized for a file that can't be read, or whose text can be no token.
        """
        try:
            text = self._file.read_text().strip() if self._file is not None else self._text
        except (OSError, ValueError) as error:
            raise _unauthorized(f"the token file: {error}") from error
        if text and not (text.isascii() and text.isprintable()):  # gRPC's error would say nothing, and be tried again
            raise _unauthorized("the token has line breaks, or characters beyond ASCII: no token has")
        return (("authorization", f"Bearer {text}"),) if text else ()


def _unauthorized(message: str) -> Unauthorized:
    return Unauthorized(Problem(grpc.StatusCode.UNAUTHENTICATED, message))
