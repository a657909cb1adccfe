"""Where the service is and who calls: by a flag, else the environment, else the profile, else the default."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .failures import UsageFailure
from .profiles import Profile, Profiles, config_path

if TYPE_CHECKING:
    from webhook_grpc_client import TLS

ADDRESS: Final = "127.0.0.1:50051"
_HOST_AND_PORT: Final = re.compile(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.%\w]+\]):[0-9]{1,5}")
SCHEMES: Final = ("unix:", "dns:", "ipv4:", "ipv6:")
PAGE_PORT: Final = 8080  # of WEBHOOK_HTTP_ADDRESS, where it is not set
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
TOKEN_COMMAND_SECONDS_MAX: Final = 60.0  # it may prompt for a passphrase
# The variables that stand for flags. Those that start with WEBHOOK_ are the server's, which warns of unknown ones.
VARIABLES: Final[Mapping[str, str]] = {
    "address": "WHK_ADDRESS",
    "customer_id": "WHK_CUSTOMER_ID",
    "output": "WHK_OUTPUT",
    "ca": "WHK_CA",
    "token_file": "WHK_TOKEN_FILE",
    "token": "WHK_TOKEN",
    "page": "WHK_PAGE",
}


@dataclass(frozen=True, slots=True)
class Value:
    """One setting, and where it comes from."""

    value: Any
    source: str


class Place:
    """All that says where calls go. Reads the configuration file when something is first looked up in it."""

    def __init__(self, given: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._given = given
        self._environment = environment
        self._profiles: Profiles | None = None

    @property
    def profiles(self) -> Profiles:
        """Returns the configuration file. Raises UsageFailure."""
        if self._profiles is None:
            self._profiles = Profiles.read(config_path(self._environment))
        return self._profiles

    @property
    def profile_name(self) -> str:
        """Returns the name of the profile in use, empty for none."""
        return self._given.get("profile") or self._environment.get("WHK_PROFILE") or self.profiles.default

    @property
    def profile(self) -> Profile:
        """Returns the profile in use. Raises UsageFailure for one that is not there."""
        return self.profiles.get(self.profile_name) if self.profile_name else {}

    def look_up(self, name: str, default: Any = None) -> Value:
        """Returns a setting and its source."""
        if name in self._given:
            return Value(self._given[name], f"--{name.replace('_', '-')}")
        variable = VARIABLES.get(name)
        if variable and (text := self._environment.get(variable)):
            return Value(text, variable)
        if name in self.profile:
            return Value(self.profile[name], f"profile {self.profile_name}")
        return Value(default, "default")

    @property
    def address(self) -> str:
        """Returns `host:port`, or an address with one of gRPC's schemes. Raises UsageFailure."""
        found = self.look_up("address", ADDRESS)
        text = str(found.value)
        if not (_HOST_AND_PORT.fullmatch(text) or text.startswith(SCHEMES)):
            raise UsageFailure(f"{found.source}: `{text}` is no HOST:PORT", remedy=f"--address {ADDRESS}")
        return text

    @property
    def customer_id(self) -> int:
        """Returns the customer whose things are meant, 0 for none. Raises UsageFailure."""
        found = self.look_up("customer_id", 0)
        text = str(found.value)
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise UsageFailure(f"{found.source}: a customer is a whole number, not `{text}`")
        return int(text)

    @property
    def page(self) -> str:
        """Returns where the page for browsers is, without a slash at the end. Raises UsageFailure if nobody says so.

        The service's own address is that of gRPC; on this machine the page has its usual port.
        """
        if text := str(self.look_up("page", "").value).rstrip("/"):
            return text
        host = self.address.rpartition(":")[0]
        if host.strip("[]") in _LOOPBACK:
            return f"http://{host}:{PAGE_PORT}"
        raise UsageFailure(
            f"where is the page of {self.address}?", remedy="--page https://HOST, or profiles add --page"
        )

    @property
    def token_source(self) -> str:
        """Returns where the token comes from, never the token; empty if there is none."""
        for name in ("token_file", "token"):
            found = self.look_up(name)
            if found.value and not found.source.startswith("profile"):
                return found.source
        for name in ("token_command", "token_file", "token"):
            if self.profile.get(name):
                return f"profile {self.profile_name}, {name}"
        return ""

    def token(self) -> tuple[str | None, Path | None]:
        """Returns the token as text or as a file that holds it. Raises UsageFailure if a command yields none."""
        if "token_file" in self._given:
            return None, Path(self._given["token_file"])
        if text := self._environment.get("WHK_TOKEN"):
            return text.strip(), None
        if path := self._environment.get("WHK_TOKEN_FILE"):
            return None, Path(path)
        profile = self.profile
        if command := profile.get("token_command"):
            return _output_of(command), None
        if path := profile.get("token_file"):
            return None, Path(path).expanduser()
        return profile.get("token"), None

    def tls(self) -> TLS | bool | None:
        """Returns what the client takes: None is on but for loopback. Raises UsageFailure for files without TLS."""
        from webhook_grpc_client import TLS

        ca, cert, key = (self._file(name) for name in ("ca", "cert", "key"))
        name = str(self.look_up("server_name", "").value)
        on = self.look_up("tls").value
        if not (ca or cert or key or name):
            return on
        if on is False:
            raise UsageFailure("--no-tls, and files for TLS: one of them is wrong")
        if bool(cert) != bool(key):
            raise UsageFailure("--cert needs --key, and --key needs --cert")
        return TLS(ca, cert, key, name)

    def _file(self, name: str) -> Path | None:
        path = self.look_up(name).value
        return Path(path).expanduser() if path else None


def _output_of(command: list[str]) -> str:
    """Returns the first line that a command prints, which is not shown to anybody."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own configuration names it
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=TOKEN_COMMAND_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise UsageFailure(f"token_command `{command[0]}` failed ({type(error).__name__})") from None
    return done.stdout.partition("\n")[0].strip()
