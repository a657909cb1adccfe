"""The modules of the page that need no document, in Node; and rules that hold for all files of the page."""

from __future__ import annotations

import asyncio
import gzip
import re
from pathlib import Path

import pytest

from tests.support import slowness
from tests.support.distribution import need
from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.model import FailureReason
from webhook_grpc.server.http.beside.pages import FOLDER

MODULES = sorted(FOLDER.rglob("*.js"))
KIB = 1024


async def test_the_modules_without_a_document_pass_their_tests_in_node() -> None:
    folder = Path(__file__).parent
    process = await asyncio.create_subprocess_exec(
        *(need("node"), "--test", *map(str, folder.glob("*.mjs"))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with slowness.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert re.search(r"(?m)^# pass [1-9]\d*$", said.decode()) or "pass" in said.decode()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_nothing_makes_markup_or_code_of_text(path: Path) -> None:
    text = path.read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert word not in text
    assert not re.search(r"""\bstyle=|\bon[a-z]+=["']""", text)


def test_what_the_first_view_loads_is_small_and_known_before() -> None:
    document = (FOLDER / "index.html").read_text()
    named = set(re.findall(r"/ui/VERSION/([a-z/.-]+)", document))
    assert loaded_by("app.js") | loaded_by("live/live.js") == {name for name in named if name.endswith(".js")}
    texts = [document.encode(), *((FOLDER / name).read_bytes() for name in named)]
    assert sum(len(gzip.compress(text)) for text in texts) <= 50 * KIB
    assert len(texts) <= 24


def loaded_by(name: str) -> set[str]:
    """Returns the module and what it imports at once, not what it imports later."""
    path = FOLDER / name
    found = {name}
    for other in re.findall(r"""(?m)^(?:import|export)\b[^"]*"(\.[^"]+)";""", path.read_text()):
        found |= loaded_by(str((path.parent / other).resolve().relative_to(FOLDER)))
    return found


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    files = [path for path in FOLDER.rglob("*.*") if path.is_file()]
    # A reader loads the first view, and of the others those that are opened.
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= 160 * KIB
    for path in files:
        addresses = re.findall(r"https?://[^\s\"'`)]+", path.read_text())
        known = ("http://page.invalid", "http://www.w3.org/2000/svg", "https://hooks.example.com")
        assert all(address.startswith(known) for address in addresses), path


def test_every_reason_of_a_failure_has_its_chinese() -> None:
    known = (FOLDER / "data" / "reasons.js").read_text()
    assert [reason for reason in FailureReason if reason and f'"{reason.value}": "' not in known] == []


def test_every_method_that_an_audit_may_name_has_its_chinese() -> None:
    known = (FOLDER / "data" / "audit.js").read_text()
    assert [method.name for method in METHODS if f'  {method.name}: "' not in known] == []
