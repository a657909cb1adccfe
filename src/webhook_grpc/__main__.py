"""`webhook-grpc`: the service's own commands, and beside them those of the command line, where that is installed.

Which of the two a line is for is decided by its first word, so neither loads the other: the service starts without the
command line, and a person waits for no part of the service.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from typing import Any, Final, cast

from .process.machine.garbage import pause_collection

OWN: Final = frozenset({"serve", "migrate", "token", "tokens", "keys", "secret-key", "settings", "--version"})


def main() -> None:
    """Runs the line, and exits."""
    is_own = sys.argv[1:2] and sys.argv[1] in OWN
    if sys.argv[1:2] == ["serve"]:
        pause_collection()  # most of a start is imports, which leave nothing to collect
    if is_own:
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else all that is installed is read to find some
    if is_own or any(find_spec(name) is None for name in ("webhook_grpc_cli", "rich")):
        _import_structlog_alone()
        from .cli import main as run
    else:
        from webhook_grpc_cli.program import main as run
    run(prog_name="webhook-grpc")


def _import_structlog_alone() -> None:
    """Imports structlog as if rich was not installed: rich is a twelfth of a start, and prints nothing for us."""
    if "rich" not in sys.modules:
        sys.modules["rich"] = cast("Any", None)  # so that an import of it fails
        importlib.import_module("structlog")
        del sys.modules["rich"]


if __name__ == "__main__":
    main()
