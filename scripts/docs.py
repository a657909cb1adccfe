"""Makes a site of the documents, in build/site. Run by `make docs`.

Each warning is an error: a link to a page, a heading or a file that is not there, a page that no list leads to. Links
to other hosts are not followed. The generator lives in an environment of its own, .venv/docs: what the dependency group
`docs` of pyproject.toml names.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ROOT / ".venv" / "docs"
SITE: Final = ROOT / "build" / "site"
_INSTALLED: Final = TOOLS / "installed.txt"
_TO_THE_FIRST_PAGE: Final = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/README.html">\n'


def main() -> None:
    """Installs the generator if it is not there, and makes the site; ends with status 1 if a link is dead."""
    _install(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["docs"])
    if _run(*command(ROOT, ROOT / "scripts" / "site", SITE)):
        sys.exit("docs: see above; the site is not whole")
    (SITE / "index.html").write_text(_TO_THE_FIRST_PAGE)
    print(f"docs: {(SITE / 'index.html').relative_to(ROOT)}")


def command(root: Path, configuration: Path, site: Path) -> list[str | Path]:
    """Returns what makes a site of the documents below a folder: says all that is not whole, and fails then."""
    # All are read: pages that have not changed would not be judged again, and a second run would find nothing.
    strict = ("--fresh-env", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet")
    places = ("--conf-dir", configuration, "--doctree-dir", site.with_name("doctrees"))
    return [TOOLS / "bin" / "python", "-m", "sphinx", "--builder", "html", *strict, *places, root, site]


def _install(requirements: list[str]) -> None:
    wanted = "\n".join(requirements)
    if _INSTALLED.exists() and _INSTALLED.read_text() == wanted:
        return
    venv.create(TOOLS, with_pip=True, clear=True)
    if _run(TOOLS / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *requirements):
        sys.exit("docs: the generator could not be installed")
    _INSTALLED.write_text(wanted)


def _run(*command: str | Path) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    main()
