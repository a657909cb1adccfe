"""What the HTTP doors need of the metrics: a text, and what it is."""

from __future__ import annotations

from typing import Protocol


class Exposition(Protocol):
    """What shows the figures of the process."""

    @property
    def content_type(self) -> str:
        """Returns the value for the header `Content-Type`."""
        ...

    async def text(self) -> bytes:
        """Returns all figures. Bounded work; waits for nothing but other processes of the same parent.

        Raises TimeoutError.
        """
        ...
