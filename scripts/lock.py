"""Writes deploy/image/: the exact versions that the image has, with hashes. Run by `make lock`, with pip's index.

What is in there stays as long as the pyproject allows it; `make lock ARGS=--upgrade` takes the newest of everything.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from scripts import dist, install

IMAGE: Final = dist.ROOT / "deploy" / "image"
SERVICE: Final = IMAGE / "requirements.txt"
BUILD: Final = IMAGE / "build.txt"
# For any Python and system that the service runs on: one may install the same without a container.
OPTIONS: Final = (
    "--quiet", "--universal", "--python-version=3.11", "--only-binary=:all:", "--generate-hashes", "--no-annotate",
    "--custom-compile-command=make lock",
)  # fmt: skip


def main() -> None:
    """Writes both files."""
    IMAGE.mkdir(parents=True, exist_ok=True)
    _compile(dist.ROOT / "pyproject.toml", "--extra=otel", f"--output-file={SERVICE}")
    with tempfile.TemporaryDirectory() as folder:
        backend = Path(folder) / "build.in"
        backend.write_text(dist.BACKEND)
        _compile(backend, f"--output-file={BUILD}")
    for file in (SERVICE, BUILD):
        count = sum("==" in line for line in file.read_text().splitlines())
        print(f"{file.relative_to(dist.ROOT)}: {count} packages")


def _compile(source: Path, *options: str) -> None:
    settings = install.settings_for_uv()
    command = (dist.uv(), "pip", "compile", *OPTIONS, *options, *settings.arguments, *sys.argv[1:], source)
    dist.run(*command, **settings.variables)


if __name__ == "__main__":
    main()
