"""Says when Python collects garbage that refers to itself. Other garbage is freed at once, by reference counts.

With Python's defaults a full collection begins every 3,000 calls or so and walks through all objects, 100,000 of which
belong to modules: 45 ms of CPU time, in which nobody else gets a turn. See docs/decisions/0043-garbage.md.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

# So many objects more than at the last collection start one of the youngest. Calls in progress are no garbage, and a
# hundred of them have some thousand objects. A published event leaves about two objects of garbage.
_OBJECTS_MAX: Final = 10_000
# Collections of the youngest before one of the middle, which walks through all that is left of them. 100,000 objects
# of a backlog, by Python's default of 10, held the loop for 13 ms; 30,000 do for 4. Each is walked through as often.
_YOUNG_MAX: Final = 3
# Collections of the middle before one of all. What a crowd of watchers reads is a million objects, and no garbage: to
# walk through them held the loop for 0.9 s. Garbage dies young, and is found by the others.
_MIDDLE_MAX: Final = 333

_loading_count = 0  # of what is loaded at the moment; only `spared` writes it, in the loop's thread


def pause_collection() -> None:
    """Collects nothing until the process has started: what is made by then stays. May be called again."""
    gc.disable()


def resume_collection() -> None:
    """Collects from now on, but never walks through what exists by now."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_MAX, _YOUNG_MAX, _MIDDLE_MAX)
    gc.enable()


@contextmanager
def spared() -> Generator[None]:
    """Collects nothing while something is loaded later, and then keeps that out of collections, too.

    Does nothing where collections are not ours, as in tests.
    """
    if gc.get_threshold()[0] != _OBJECTS_MAX:  # get_freeze_count() would walk through all of them
        yield
        return
    global _loading_count  # noqa: PLW0603 - collection is of the whole process, and so is this
    gc.disable()
    _loading_count += 1
    try:
        yield
        gc.freeze()  # but not what a load that failed has left
    finally:
        _loading_count -= 1
        if not _loading_count:  # another door may be loaded at the same time
            gc.enable()
