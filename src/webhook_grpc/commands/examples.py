"""What the help of the service's own commands ends with."""

from __future__ import annotations

from typing import Final

HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}


def examples(*lines: str) -> str:
    """Returns the end of a command's help: whole lines, which a test reads as the command does."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
