"""Memory that is free again is given back when the process has grown, and only then."""

from __future__ import annotations

import ctypes
import sys

import pytest

from webhook_grpc.process.machine import memory
from webhook_grpc.process.machine.memory import GROWN_BYTES, MemoryReturn


async def test_free_memory_is_given_back_each_time_the_process_has_grown() -> None:
    sizes, given_back = list[int](), list[int]()
    base, most = 100_000_000, GROWN_BYTES - 1
    returning = MemoryReturn(lambda: sizes.pop(0), lambda: given_back.append(len(sizes)))

    for seen in ([base], [base + most], [base - 1], [base + most, base + 5], [base + GROWN_BYTES]):
        sizes[:] = seen
        await returning.look()
    assert len(given_back) == 1, "by more than since it was smallest"

    sizes[:] = [base + 5 + GROWN_BYTES, base]
    await returning.look()
    assert len(given_back) == 2


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
async def test_what_lies_between_things_that_live_is_given_back() -> None:
    """Small pieces, every hundredth of which lives on: nothing at the end of the heap is free."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.malloc_trim(0)  # what the tests before have left: these pieces would fill it, and nothing would grow
    returning = MemoryReturn()
    await returning.look()
    pieces = [libc.malloc(1000) for _ in range(GROWN_BYTES // 1000 * 2)]
    for piece in pieces:
        ctypes.memset(piece, 1, 1000)
    for number, piece in enumerate(pieces):
        if number % 100:
            libc.free(piece)
    grown = memory.resident_bytes()

    await returning.look()

    assert memory.resident_bytes() < grown - GROWN_BYTES
    for piece in pieces[::100]:
        libc.free(piece)
