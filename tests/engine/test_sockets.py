"""A socket object closes its own descriptor, and never somebody else's that has got its number."""

from __future__ import annotations

import os
import socket

import pytest

from webhook_grpc.engine.http.sockets import OwnedSocket


def make() -> OwnedSocket:
    return OwnedSocket(socket.AF_INET, socket.SOCK_STREAM, 0)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("is_closed", [True, False])
def test_its_own_descriptor_is_closed(*, is_closed: bool) -> None:
    sock = make()
    number = sock.fileno()
    if is_closed:
        sock.close()
    del sock
    assert not is_open(number)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_number_that_was_closed_behind_its_back_is_left_to_its_new_owner(*, is_closed: bool) -> None:
    sock = make()
    number = sock.fileno()
    os.close(number)  # as an event loop does
    other = make()
    assert other.fileno() == number
    if is_closed:
        sock.close()
    del sock
    assert is_open(number)
    other.close()


def test_closing_twice_is_harmless() -> None:
    sock = make()
    sock.close()
    sock.close()
    assert sock.fileno() == -1
