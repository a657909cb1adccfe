"""The configuration file: profiles that say where the service is, and who calls."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from .failures import UsageFailure

TEXTS: Final = ("address", "ca", "cert", "key", "server_name", "token", "token_file", "confirm", "page")
KNOWN: Final = (*TEXTS, "tls", "customer_id", "token_command")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
Profile = dict[str, Any]


def config_path(environment: Mapping[str, str]) -> Path:
    """Returns where the file is, whether it is there or not."""
    folder = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME") or Path.home()) / ".config"
    return Path(folder) / "webhook-grpc" / "config.toml"


class Profiles:
    """The profiles of one file, as they were read. Changes are written by `save`."""

    def __init__(self, path: Path, default: str = "", by_name: Mapping[str, Profile] | None = None) -> None:
        self.path = path
        self.default = default
        self.by_name = dict(by_name or {})

    @classmethod
    def read(cls, path: Path) -> Profiles:
        """Reads the file; there are no profiles if there is none. Raises UsageFailure for one that is wrong or open."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = tomllib.load(file)
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError) as error:
            raise UsageFailure(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        profiles = cls(path, str(content.get("default", "")), _checked(path, content.get("profiles", {})))
        if mode & _OTHERS and any("token" in profile for profile in profiles.by_name.values()):
            raise UsageFailure(f"{path} holds a token, and others may read it", remedy=f"chmod 600 {path}")
        return profiles

    def get(self, name: str) -> Profile:
        """Returns a profile by its name. Raises UsageFailure."""
        if name not in self.by_name:
            raise UsageFailure(f"there is no profile `{name}` in {self.path}", remedy="webhook-grpc profiles list")
        return self.by_name[name]

    def save(self) -> None:
        """Writes the file for its owner alone; it is whole even after a crash. Raises OSError.

        Raises UsageFailure for what could not be read again, and leaves the file as it is.
        """
        _checked(self.path, self.by_name)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._toml())
            file.flush()
            os.fsync(descriptor)
        temporary.replace(self.path)

    def _toml(self) -> str:
        lines = [f"default = {_toml_value(self.default)}"] if self.default else []
        for name, profile in self.by_name.items():
            lines += ["", f"[profiles.{_toml_value(name)}]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in profile.items()]
        return "\n".join(lines).lstrip("\n") + "\n"


def _checked(path: Path, profiles: object) -> dict[str, Profile]:
    if not isinstance(profiles, dict):
        raise UsageFailure(f"{path}: `profiles` is no table")
    for name, profile in cast("dict[str, object]", profiles).items():
        if not isinstance(profile, dict):
            raise UsageFailure(f"{path}: profile {name} is no table")
        for key, value in cast("dict[str, object]", profile).items():
            if problem := _problem(key, value):
                raise UsageFailure(f"{path}: profile {name}: {key} {problem}")
    return cast("dict[str, Profile]", profiles)


def _problem(key: str, value: object) -> str:
    if key not in KNOWN:
        return f"is none of {', '.join(KNOWN)}"
    if key in TEXTS:
        return "" if isinstance(value, str) else "must be text"
    if key == "tls":
        return "" if isinstance(value, bool) else "must be true or false"
    if key == "customer_id":
        return "" if isinstance(value, int) and not isinstance(value, bool) and value > 0 else "must be a number"
    words = cast("list[object]", value) if isinstance(value, list) else []
    return "" if words and all(isinstance(word, str) for word in words) else "must be a list of words"


def _toml_value(value: object) -> str:
    """Returns text, numbers, switches and lists of text in TOML, whose basic strings are JSON's without surrogates."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
