"""How a clone is installed: uv does as pip is configured to do, and pip takes over where it can't."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import install

ROOT = Path(__file__).resolve().parents[2]


LISTED = r"""
:env:.index-url='https://user:secret@mirror.example/simple'
:env:.no-cache-dir='1'
global.cert='/etc/ssl/company.pem'
global.disable-pip-version-check='true'
global.index-url='https://elsewhere.example/simple'
install.find-links='/srv/wheels /srv/more'
install.trusted-host='mirror.example'
global.extra-index-url='\nhttps://a.example/simple\nhttps://b.example/simple'
"""


def test_what_pip_is_configured_to_do_holds_for_uv() -> None:
    translated = install.for_uv(install.settings_of(LISTED.strip()), {"SSL_CERT_FILE": "/uv/own.pem"})
    assert translated.variables == {
        "UV_DEFAULT_INDEX": "https://user:secret@mirror.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
    }
    words = "--no-cache --find-links /srv/wheels --find-links /srv/more --allow-insecure-host mirror.example"
    assert sorted(translated.arguments) == sorted(words.split())
    assert "secret" not in " ".join(translated.arguments), "everybody sees the arguments of a process"
    assert not translated.unknown


def test_what_this_pip_lists_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/it's")
    listed = subprocess.run([*install.PIP, "config", "list"], capture_output=True, text=True, check=True).stdout
    assert install.settings_of(listed)["index-url"] == ["https://mirror.example/it's"]


class Commands:
    """Runs nothing; some of what is run fails."""

    def __init__(self, failing: str) -> None:
        self.failing = failing
        self.run: list[str] = []

    def __call__(self, *command: str | Path, **_: str) -> int:
        words = [Path(command[0]).name, *map(str, command[1:])]
        self.run.append("uv" if words[0] == "uv" else "pip install uv" if install.UV in words else "pip install .")
        return int(self.run[-1] == self.failing)


@pytest.mark.parametrize(
    ("failing", "setting", "commands", "word"),
    [
        ("", "", ["pip install uv", "uv"], None),
        ("pip install uv", "", ["pip install uv", "pip install ."], "uv can't be had here; pip installs"),
        ("uv", "", ["pip install uv", "uv", "pip install ."], "uv has failed; pip installs"),
        ("", "client-cert", ["pip install ."], "uv has no counterpart of pip's setting client-cert; pip installs"),
    ],
)
def test_pip_takes_over_with_a_word_where_uv_cannot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    failing: str, setting: str, commands: list[str], word: str | None,
) -> None:  # fmt: skip
    run = Commands(failing)
    monkeypatch.setattr(install, "_run", run)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # beside which there is no uv
    monkeypatch.setattr(sys, "argv", ["install.py", "embedded,demo"])
    monkeypatch.setattr(install, "_listed", lambda: f"global.{setting}='/etc/ssl/me.pem'\n" if setting else "")
    with contextlib.suppress(SystemExit):
        install.main()
    assert run.run == commands
    said = capsys.readouterr().out
    assert said.startswith("installing .[embedded,demo], this clone with what it needs, into ")
    assert word is None or word in said


def test_no_text_names_a_package_of_a_registry_that_is_not_ours() -> None:
    """Whoever registers the name would be installed: a path is named, or nothing."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours = re.compile(r"""(pip|uv|pipx)\s+(pip\s+)?(install|wheel|run|tool)\b[^\n`]*[\s'"]webhook-grpc""")
    naming = re.compile(r"""["']webhook-grpc(-stubs|\[)""")
    found = [
        f"{name}: {line}"
        for name in tracked.splitlines()
        if (ROOT / name).suffix in {".py", ".md", ".toml", ".yaml", ""} and name != "tests/unit/test_install.py"
        for line in (ROOT / name).read_text(errors="replace").splitlines()
        if ours.search(line) or (naming.search(line) and not line.startswith("name = "))
    ]
    assert not found


def test_both_packages_carry_the_same_licence() -> None:
    assert (ROOT / "LICENSE").read_text() == (ROOT / "generated" / "python" / "LICENSE").read_text()
