"""What `serve` prints: commands for where it was started. tests/e2e/test_cli.py runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from webhook_grpc.process.banner import URL, Ports, Programs, banner, programs_beside
from webhook_grpc.settings import Settings, Token


def commands(**settings: Any) -> list[str]:
    """The lines that begin a command, and what is to be done before them."""
    text = banner(Settings.model_construct(**settings), Ports(50051, 8080), "a database", Programs("bin/grpcurl"))
    return [line.strip() for line in text.splitlines() if "grpcurl" in line or "export" in line]


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:0", "127.0.0.1:50051"),
        ("0.0.0.0:0", "127.0.0.1:50051"),
        ("[::]:0", "127.0.0.1:50051"),
        ("[::1]:0", "[::1]:50051"),
        ("hooks.internal:0", "hooks.internal:50051"),
    ],
)
def test_the_target_can_be_dialled(address: str, target: str) -> None:
    listing, *_ = commands(grpc_address=address)
    assert listing == f"bin/grpcurl -plaintext {target} list webhook.v1.WebhookService"


@pytest.mark.parametrize(
    ("address", "port", "shown"),
    [
        ("127.0.0.1:0", 8080, "http://127.0.0.1:8080"),
        ("0.0.0.0:0", 8080, "http://127.0.0.1:8080"),
        ("[::1]:0", 8080, "http://[::1]:8080"),
        ("127.0.0.1:8080", None, "none"),
    ],
)
def test_the_address_of_http_can_be_clicked(address: str, port: int | None, shown: str) -> None:
    text = banner(Settings.model_construct(http_address=address), Ports(50051, port), "a database", Programs("grpcurl"))
    assert f"\nHTTP: {shown}\n" in text, "the last word of its line, as programs read it"
    assert (f"A browser at {shown}/ shows" in text) is (port is not None)


def test_with_tokens_each_command_sends_one() -> None:
    hint, *calls = commands(tokens=(Token(name="x", sha256="0" * 64),))
    assert "export TOKEN=wk_" in hint
    assert len(calls) == 4
    assert all(' -plaintext -H "authorization: Bearer $TOKEN" ' in call for call in calls)


def test_with_tls_no_command_speaks_plain_text() -> None:
    settings = Settings.model_construct(tls_certificate_file=Path("tls.crt"), grpc_client_ca_file=Path("ca.crt"))
    text = banner(settings, Ports(50051, 8080), "a database", Programs("grpcurl"))
    assert "-plaintext" not in text
    assert "HTTP: https://127.0.0.1:8080\n" in text
    assert "-cacert FILE" in text
    assert "-cert FILE and -key FILE" in text


def test_without_reflection_each_command_brings_the_description() -> None:
    calls = commands(reflection=False)
    assert len(calls) == 4
    assert all(" -protoset generated/descriptors/webhook_v1.binpb " in call for call in calls)


def test_each_line_is_as_wide_as_a_terminal() -> None:
    assert max(map(len, banner(Settings(), Ports(50051, 8080), "here", Programs("grpcurl")).splitlines())) <= 100


def test_without_grpcurl_the_lines_are_those_of_the_command_line() -> None:
    programs = Programs("grpcurl", "bin/webhook-grpc")
    text = banner(Settings(), Ports(50051, 8080), "here", programs)
    assert re.findall("^  bin/webhook-grpc (.*)$", text, re.MULTILINE) == [
        f"webhooks create first {URL} 'job.*' -c 1 -a 127.0.0.1:50051",
        """events publish job.completed '{"job_id": "job-abc123"}' --wait -c 1 -a 127.0.0.1:50051""",
        "watch --since 1d -c 1 -a 127.0.0.1:50051",
    ]
    assert "grpcurl" not in text
    with_tls = Settings.model_construct(
        tls_certificate_file=Path("tls.crt"),
        grpc_client_ca_file=Path("ca.crt"),
        tokens=(Token(name="x", sha256="0" * 64),),
    )
    text = banner(with_tls, Ports(50051, 8080), "here", programs)
    assert text.count(" --tls\n") == 3
    assert "--ca FILE" in text
    assert "--cert FILE and --key FILE" in text
    assert "export WHK_TOKEN=wk_" in text


def test_programs_are_named_as_they_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "a clone" / "bin" / "python"
    python.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs_beside(python) == ("grpcurl", None), "as in the image, which has neither"
    python.with_name("webhook-grpc").touch()
    assert programs_beside(python) == ("grpcurl", "'a clone/bin/webhook-grpc'")
    python.with_name("grpcurl").touch()
    assert programs_beside(python) == ("'a clone/bin/grpcurl'", None)
    monkeypatch.chdir(python.parent.parent)
    assert programs_beside(python) == ("bin/grpcurl", None)
    monkeypatch.chdir("/")
    elsewhere = tmp_path / "grpcurl"
    elsewhere.touch(0o755)
    assert programs_beside(tmp_path / "x" / "python") == ("grpcurl", None), "on the PATH"
