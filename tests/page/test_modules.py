"""The modules of the page that need no document, in Node; and rules that hold for all files of the page."""

from __future__ import annotations

import asyncio
import gzip
import re
from pathlib import Path

import pytest

from tests.support import slowness
from tests.support.distribution import need
from webhook_grpc.server.http.pages import FOLDER

MODULES = sorted(FOLDER.glob("*.js"))
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_nothing_makes_markup_or_code_of_text(path: Path) -> None:
    text = path.read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert word not in text
    assert not re.search(r"""\bstyle=|\bon[a-z]+=["']""", text)


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    files = [path.read_bytes() for path in FOLDER.iterdir()]
    assert sum(map(len, files)) <= 180 * KIB
    assert sum(len(gzip.compress(text)) for text in files) <= 50 * KIB
    assert len(files) <= 24
    for path in FOLDER.iterdir():
        addresses = re.findall(r"https?://[^\s\"'`)]+", path.read_text())
        assert set(addresses) <= {"http://page.invalid", "http://www.w3.org/2000/svg"}, path
