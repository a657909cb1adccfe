"""Installs this clone with some of its extras into the environment whose Python runs this: `install.py embedded,demo`.

With uv, which fetches many packages at once; pip fetches uv first. What pip is configured to do holds for uv as well:
indexes, certificates, proxies (uv reads no pip.conf). Where uv can't be had, can't do the same or fails, pip
installs. Both show their progress.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")
UV: Final = "uv>=0.5"

# What uv calls the settings of pip that matter to it: an argument for each value, or a variable for all of them.
# Addresses may hold passwords, so they go by variables: everybody sees the arguments of a process.
ARGUMENTS: Final = {
    "find-links": "--find-links", "trusted-host": "--allow-insecure-host", "constraint": "--constraint",
}  # fmt: skip
VARIABLES: Final = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT", "default-timeout": "UV_HTTP_TIMEOUT", "proxy": "ALL_PROXY",
}  # fmt: skip
SWITCHES: Final = {"no-index": "--no-index", "no-cache-dir": "--no-cache", "pre": "--prerelease=allow"}
HARMLESS: Final = {
    "disable-pip-version-check", "retries", "progress-bar", "quiet", "verbose", "no-input", "no-color", "cache-dir",
    "root-user-action", "require-virtualenv", "break-system-packages", "no-warn-script-location", "exists-action",
}  # fmt: skip


@dataclass
class ForUv:
    """What pip is configured to do, in uv's words."""

    arguments: list[str] = field(default_factory=list[str])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    unknown: list[str] = field(default_factory=list[str])  # what has no word there


def main() -> None:
    """Installs; ends with the installer's exit status."""
    target = f".[{sys.argv[1]}]"
    print(f"installing {target}, this clone with what it needs, into {_relative(Path(sys.prefix))}", flush=True)
    problem = _install_with_uv(target)
    if problem is None:
        return
    print(f"{problem}; pip installs, one package after the other, which takes longer", flush=True)
    sys.exit(_run(*PIP, "install", "--editable", target))


def _install_with_uv(target: str) -> str | None:
    """Returns None when all is installed, or why it is not."""
    settings = settings_for_uv()
    if settings.unknown:
        return f"uv has no counterpart of pip's setting {', '.join(settings.unknown)}"
    if uv() is None and _run(*PIP, "install", UV):
        return "uv can't be had here"
    command = (uv() or "uv", "pip", "install", "--python", sys.executable, *settings.arguments, "--editable", target)
    return "uv has failed" if _run(*command, **settings.variables) else None


def uv() -> Path | None:
    """The uv of this environment, if there is one."""
    program = Path(sys.executable).with_name("uv")
    return program if program.exists() else None


def settings_for_uv() -> ForUv:
    """What pip is configured to do on this machine, in uv's words."""
    return for_uv(settings_of(_listed()), os.environ)


def _listed() -> str:
    return subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout


def settings_of(listed: str) -> dict[str, list[str]]:
    """The values that `pip config list` prints, by their names. The later section wins, as in pip."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in listed.splitlines():
        place, _, value = line.partition("=")
        section, _, name = place.rpartition(".")
        found.setdefault(section, {})[name] = str(ast.literal_eval(value)).split()
    return {**found.get("global", {}), **found.get("install", {}), **found.get(":env:", {})}


def for_uv(settings: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> ForUv:
    """Translates. Variables that are set for uv itself stay as they are."""
    translated = ForUv()
    for name, values in settings.items():
        if name in ARGUMENTS:
            translated.arguments += [word for value in values for word in (ARGUMENTS[name], value)]
        elif name in VARIABLES:
            if VARIABLES[name] not in environment:
                translated.variables[VARIABLES[name]] = " ".join(values)
        elif name in SWITCHES:
            translated.arguments += [SWITCHES[name]] if _is_on(values) else []
        elif name not in HARMLESS:
            translated.unknown.append(name)
    return translated


def _is_on(values: Sequence[str]) -> bool:
    return " ".join(values).lower() in {"1", "true", "yes", "on"}


def _relative(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _run(*command: str | Path, **environment: str) -> int:
    try:
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode
    except OSError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    main()
