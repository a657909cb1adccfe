"""`make docs`, with its own configuration and strictness, fails at what leads nowhere, and names it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scripts import docs

from tests.support import slowness

# The project's configuration, for two pages.
CONFIGURATION = """
from pathlib import Path
exec(compile(Path({0!r}).read_text(), {0!r}, "exec"))
_LISTS = {{"Start": ["listed"]}}
"""
PAGES = {
    "docs/README.md": "# Index\n\n[a page](listed.md), [its part](listed.md#a-part), [a file](../Makefile)\n",
    "docs/unlisted.md": "# In no list\n",
    "Makefile": "",
}
WRONG = {
    "[gone](gone.md)": "gone.md",
    "[gone](listed.md#another-part)": "another-part",
    "[gone](../Gonefile)": "../Gonefile",
}


@pytest.mark.slow(3)
def test_a_link_an_anchor_a_file_and_a_page_without_a_place_are_each_named_and_the_site_fails(tmp_path: Path) -> None:
    if not (docs.TOOLS / "bin" / "python").exists():
        pytest.skip("needs the generator of the site: make docs, which .ci/run does before")
    root, configuration = tmp_path / "root", tmp_path / "configuration"
    configuration.mkdir()
    (configuration / "conf.py").write_text(CONFIGURATION.format(str(docs.ROOT / "scripts" / "site" / "conf.py")))
    for name, text in {**PAGES, "docs/listed.md": "\n\n".join(["# Listed\n\n## A part", *WRONG])}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    done = subprocess.run(
        docs.command(root, configuration, tmp_path / "site"),
        capture_output=True,
        text=True,
        check=False,
        timeout=slowness.scaled(60),
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "WARNING" in line]
    for words in (*WRONG.values(), "unlisted.md"):
        assert [line for line in said if words in line], (words, said)
    assert len(said) == len(WRONG) + 1, "what is right is not complained of"
