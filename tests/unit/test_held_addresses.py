"""An address that several processes of one service share, and nobody else gets."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from webhook_grpc.parent.addresses import AddressTaken, HeldAddress
from webhook_grpc.parent.cores import usable_cores


def listening(port: int, *, shared: bool) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), reuse_port=shared)


def test_children_may_listen_on_it_and_others_may_not() -> None:
    with contextlib.closing(HeldAddress("127.0.0.1:0", "WEBHOOK_GRPC_ADDRESS")) as held:
        port = int(held.address.rpartition(":")[2])
        assert port
        with listening(port, shared=True), listening(port, shared=True):
            with pytest.raises(AddressTaken, match=r"cannot listen on 127.0.0.1:\d+: .*; set WEBHOOK_HTTP_ADDRESS"):
                HeldAddress(held.address, "WEBHOOK_HTTP_ADDRESS")
            with pytest.raises(OSError, match="in use"):
                listening(port, shared=False)


def test_it_stays_taken_while_no_child_listens() -> None:
    with contextlib.closing(HeldAddress("127.0.0.1:0", "X")) as held:
        with pytest.raises(AddressTaken):
            HeldAddress(held.address, "X")
        with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
            caller.connect(("127.0.0.1", int(held.address.rpartition(":")[2])))
    HeldAddress(held.address, "X").close()


def test_an_address_that_another_service_shares_with_its_own_children_is_taken() -> None:
    with listening(0, shared=True) as other, pytest.raises(AddressTaken):
        HeldAddress(f"127.0.0.1:{other.getsockname()[1]}", "X")


def test_a_port_with_connections_of_before_can_be_taken() -> None:
    """Those that this end closed first are in TIME_WAIT for a minute."""
    server = listening(0, shared=False)
    port = server.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as caller:
        accepted, _ = server.accept()
        accepted.close()
        assert caller.recv(1) == b""
    server.close()
    HeldAddress(f"127.0.0.1:{port}", "X").close()


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no.such.host.invalid:0"])
def test_an_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(AddressTaken, match="not one of this machine's"):
        HeldAddress(address, "X")


@pytest.mark.parametrize(("quota", "most"), [("150000 100000", 2), ("10000 100000", 1), ("max 100000", 4096)])
def test_as_many_cores_are_usable_as_the_container_has(tmp_path: Path, quota: str, most: int) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(quota + "\n")
    assert 1 <= usable_cores(path) <= most
    assert usable_cores(tmp_path / "none") >= usable_cores(path)
