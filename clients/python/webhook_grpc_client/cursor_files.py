"""A file that keeps a watcher's cursor, so that the next run goes on where this one stopped."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final

SAVE_SECONDS: Final = 1.0  # between two saves: what a crash lets a watcher see again


class CursorFileBroken(ValueError):
    """The file holds no cursor. To begin again without one would hide what is missed, so a person decides."""


class CursorFile:
    """Reads the cursor, and saves it at most once a second: never ahead of what is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""
        self._saved_at = float("-inf")

    def load(self) -> bytes:
        """Returns the cursor, empty if there is no file yet. Raises CursorFileBroken or OSError."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        try:
            self._saved = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            self._saved = b""
        if not self._saved:
            raise CursorFileBroken(f"{self._path} holds no cursor; delete it to begin with what happens from now on")
        return self._saved

    def is_due(self, cursor: bytes, now: float, *, is_last: bool = False) -> bool:
        """Returns whether to save a cursor: it has moved, and the last save is long enough ago or this is the last."""
        has_moved = cursor not in (b"", self._saved)
        return has_moved and (is_last or now - self._saved_at >= SAVE_SECONDS)

    def save(self, cursor: bytes, now: float) -> None:
        """Saves a cursor. `now` is in monotonic seconds. The file is whole even after a crash. Raises OSError."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        with temporary.open("wb") as file:
            file.write(base64.b64encode(cursor) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._saved, self._saved_at = cursor, now
