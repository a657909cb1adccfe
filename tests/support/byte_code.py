"""The byte code of tests, made once for all processes of a run.

In a new clone nothing is compiled. The processes of `-n auto` begin at the same moment and import the same modules in
the same order, so each would compile all tests, and rewrite their assertions: 5 CPU seconds in each of them.
"""

from __future__ import annotations

import ast
import compileall
import marshal
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Final

from _pytest.assertion import rewrite

from tests.support import slowness

_ROOT: Final = Path(__file__).parents[2]
_UNCHECKED: Final = bytes(4)  # flags: the time and the size of the source say whether the byte code is that of it


def make(paths: Iterable[Path]) -> None:
    """Compiles what is not compiled yet of modules and folders of tests, on all cores; returns when that is done."""
    if sys.dont_write_bytecode:
        return
    modules = {module for path in paths for module in (path.rglob("*.py") if path.is_dir() else [path])}
    missing = sorted(module for module in modules if not is_made(module))
    parts = [missing[number :: slowness.cores()] for number in range(slowness.cores())]
    command = (sys.executable, "-m", "tests.support.byte_code")
    compilers = [subprocess.Popen([*command, *map(str, part)], cwd=_ROOT) for part in parts if part]
    assert [compiler.wait() for compiler in compilers] == [0] * len(compilers)


def is_made(module: Path) -> bool:
    """Returns whether the byte code of a module is that of its source."""
    head = _head(module)
    try:
        with _place(module).open("rb") as file:
            return file.read(len(head)) == head
    except FileNotFoundError:
        return False


def _head(module: Path) -> bytes:
    """What byte code begins with, of any module and of this one."""
    source = module.stat()
    return (
        MAGIC_NUMBER + _UNCHECKED + struct.pack("<LL", int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    )


def _place(module: Path) -> Path:
    """Where it is looked for: pytest has another place for modules whose assertions it rewrites."""
    plain = Path(cache_from_source(str(module)))
    return plain.with_name(module.stem + rewrite.PYC_TAIL) if _is_rewritten(module) else plain


def _is_rewritten(module: Path) -> bool:
    return module.name.startswith("test_") or module.name == "conftest.py"


def _compile(module: Path) -> None:
    """Compiles a module as pytest does. Of a module that can't be compiled pytest says why."""
    if not _is_rewritten(module):
        compileall.compile_file(module, quiet=2)
        return
    head, source = _head(module), module.read_bytes()
    try:
        tree = ast.parse(source, filename=str(module))
        rewrite.rewrite_asserts(tree, source, str(module))
        code = compile(tree, str(module), "exec", dont_inherit=True)
    except SyntaxError:
        return
    place = _place(module)
    place.parent.mkdir(exist_ok=True)
    whole = place.with_name(f"{place.name}.{os.getpid()}")  # another run may read what is at its place
    whole.write_bytes(head + marshal.dumps(code))
    whole.replace(place)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _compile(Path(argument))
