"""Writes generated/ from protos/. Run by `make generate`; `make check` runs it into a copy and compares.

The generators live in an environment of their own, in exact versions: the gRPC generator is older than the runtime on
purpose, because stubs demand a runtime at least as new as their generator.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
TOOLS = ROOT / ".venv" / "generate"
PYTHON_TOOLS = ("grpcio-tools==1.74.0", "protobuf==6.33.6", "mypy-protobuf==5.1.0", "setuptools==80.9.0")
GO_TOOLS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1",
)


def main() -> None:
    """Generates everything; the Go part only where Go is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "generated")
    out: Path = parser.parse_args().out
    _install_python_tools()
    _generate_python(out / "python")
    _generate_descriptors(out / "descriptors")
    if shutil.which("go"):
        _install_go_tools()
        _generate_go(out / "go")
    else:
        print("Go is not installed: generated/go was left as it is")


def _install_python_tools() -> None:
    stamp = TOOLS / "installed"
    if stamp.exists() and stamp.read_text() == repr(PYTHON_TOOLS):
        return
    venv.create(TOOLS, with_pip=True, clear=True)
    _run(TOOLS / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_TOOLS)
    stamp.write_text(repr(PYTHON_TOOLS))


def _install_go_tools() -> None:
    stamp = TOOLS / "go-installed"
    if stamp.exists() and stamp.read_text() == repr(GO_TOOLS):
        return
    for tool in GO_TOOLS:
        _run("go", "install", tool, environment={"GOBIN": str(TOOLS / "bin")})
    stamp.write_text(repr(GO_TOOLS))


def _generate_python(out: Path) -> None:
    _clear(out / "webhook")
    messages = (f"--python_out={out}", f"--mypy_out=quiet:{out}")
    _protoc(*messages, *_files())
    _protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", "webhook/v1/service.proto")
    (out / "webhook" / "v1" / "py.typed").touch()
    _generate_comments(out / "webhook" / "v1" / "comments.json")


def _generate_comments(target: Path) -> None:
    """Writes the comments of the protos by full name: Python's own descriptors carry none."""
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder) / "descriptors.binpb"
        _protoc(f"--descriptor_set_out={descriptors}", "--include_source_info", *_files())
        script = Path(__file__).with_name("comments.py")
        _run(TOOLS / "bin" / "python", script, descriptors, target)


def _generate_descriptors(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    target = out / "webhook_v1.binpb"
    _protoc(f"--descriptor_set_out={target}", "--include_imports", "webhook/v1/service.proto")


def _generate_go(out: Path) -> None:
    _clear(out / "webhook")
    _protoc(
        f"--go_out={out}",
        "--go_opt=paths=source_relative",
        f"--go-grpc_out={out}",
        "--go-grpc_opt=paths=source_relative",
        *_files(),
    )


def _files() -> list[str]:
    return sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "webhook").rglob("*.proto"))


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def _protoc(*arguments: str) -> None:
    path = f"{TOOLS / 'bin'}:/usr/bin:/bin"
    _run(TOOLS / "bin" / "python", "-m", "grpc_tools.protoc", f"-I{PROTOS}", *arguments, environment={"PATH": path})


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    completed = subprocess.run([str(part) for part in command], env={**os.environ, **(environment or {})}, check=False)
    if completed.returncode:
        sys.exit(f"generate: {' '.join(map(str, command[:4]))} … failed")


if __name__ == "__main__":
    main()
