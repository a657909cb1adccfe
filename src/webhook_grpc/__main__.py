"""`webhook-grpc`: the service's own commands, and beside them those of the command line, where that is installed.

Which of the two a line is for is decided by its first word, so neither loads the other: the service starts without the
command line, and a person waits for no part of the service.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

OWN: Final = frozenset({"serve", "migrate", "token", "tokens", "keys", "secret-key", "settings", "--version"})


def main() -> None:
    """Runs the line, and exits."""
    is_own = sys.argv[1:2] and sys.argv[1] in OWN
    if is_own or any(find_spec(name) is None for name in ("webhook_grpc_cli", "rich")):
        from .cli import main as run
    else:
        from webhook_grpc_cli.program import main as run
    run(prog_name="webhook-grpc")


if __name__ == "__main__":
    main()
