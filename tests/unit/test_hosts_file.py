"""The hosts file is read as others read it, and again when it has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from webhook_grpc.engine.http.hosts_file import BYTES_MAX, HostsFile

TEXT = """
# 10.0.0.9 commented.example.com
127.0.0.1\tlocalhost
10.1.2.3  Hooks.Example.COM alias.example.com # 10.9.9.9
10.1.2.4  hooks.example.com
fd00::7   hooks.example.com
nonsense  other.example.com
10.1.2.5
"""


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("hooks.example.com", ["10.1.2.3", "10.1.2.4", "fd00::7"]),
        ("HOOKS.example.com.", ["10.1.2.3", "10.1.2.4", "fd00::7"]),
        ("alias.example.com", ["10.1.2.3"]),
        ("commented.example.com", []),
        ("other.example.com", []),
        ("example.com", []),
    ],
)
def test_a_name_has_the_addresses_of_its_lines(tmp_path: Path, name: str, addresses: list[str]) -> None:
    path = tmp_path / "hosts"
    path.write_text(TEXT)
    assert list(HostsFile(path).addresses_of(name)) == addresses


def test_what_has_changed_is_read_again(tmp_path: Path) -> None:
    path, other = tmp_path / "hosts", tmp_path / "hosts.new"
    hosts = HostsFile(path)
    assert not hosts.addresses_of("a.example.com")  # there is no file
    path.write_text("10.0.0.1 a.example.com\n")
    assert hosts.addresses_of("a.example.com") == ["10.0.0.1"]
    other.write_text("10.0.0.2 a.example.com\n")
    other.replace(path)  # as Kubernetes does
    assert hosts.addresses_of("a.example.com") == ["10.0.0.2"]
    path.unlink()
    assert not hosts.addresses_of("a.example.com")


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a.example.com\n")
    hosts = HostsFile(path)
    hosts.addresses_of("a.example.com")

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Path, "open", fail)
    assert hosts.addresses_of("a.example.com") == ["10.0.0.1"]


def test_a_file_that_can_not_be_read_is_said_once(tmp_path: Path) -> None:
    hosts = HostsFile(tmp_path)  # a directory
    with structlog.testing.capture_logs() as logs:
        assert not [hosts.addresses_of("a.example.com"), hosts.addresses_of("b.example.com")][0]
    assert [(line["event"], line["error"]) for line in logs] == [("the hosts file cannot be read", "IsADirectoryError")]


def test_no_more_is_read_than_a_hosts_file_has(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("#" * BYTES_MAX + "\n10.0.0.1 a.example.com\n")
    assert not HostsFile(path).addresses_of("a.example.com")
