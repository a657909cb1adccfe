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
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
TOOLS = ROOT / ".venv" / "generate"
PYTHON_TOOLS = ("grpcio-tools==1.74.0", "protobuf==6.33.6", "mypy-protobuf==5.1.0", "setuptools==80.9.0")
GO_TOOLS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.1",
)
NPM_TOOLS = ("@bufbuild/protoc-gen-es@2.17.0", "openapi-typescript@7.13.0", "typescript@5.9.3")
NPM_RUNTIME = ("@connectrpc/connect@2.3.0", "@connectrpc/connect-node@2.3.0", "@types/node@20.19.0")  # of the test
NPM_SECONDS_MAX = 180.0
NPM_BIN = TOOLS / "npm" / "node_modules" / ".bin"
OPENAPI = (
    "from webhook_grpc.server.http.openapi.document import document; print(document((), is_open=False).body.decode())"
)


def main() -> None:
    """Generates everything; the parts for Go and TypeScript only where Go and npm are installed."""
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
    if _has_npm_tools():
        _generate_typescript(out / "ts")
    else:
        print("npm is not installed, or has no access to a registry: generated/ts was left as it is")


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


def _has_npm_tools() -> bool:
    if not shutil.which("npm"):
        return False
    stamp, wanted = TOOLS / "npm-installed", (*NPM_TOOLS, *NPM_RUNTIME)
    if not (stamp.exists() and stamp.read_text() == repr(wanted)):
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(TOOLS / "npm")]
        try:
            subprocess.run([*install, *wanted], check=True, timeout=NPM_SECONDS_MAX)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
        stamp.write_text(repr(wanted))
    return True


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


def _generate_typescript(out: Path) -> None:
    """Writes stubs, and the types of the HTTP door from its own description of itself."""
    for package in ("webhook", "google"):
        _clear(out / package)
    common = metadata.distribution("googleapis-common-protos").locate_file("")  # for the details of errors
    names = ("api/annotations", "api/http", "api/field_behavior", "rpc/error_details")
    google = [f"google/{name}.proto" for name in names]
    _protoc(f"-I{common}", f"--es_out={out}", "--es_opt=target=js+dts,import_extension=js", *_files(), *google)
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "openapi.json"
        described.write_bytes(subprocess.check_output([sys.executable, "-c", OPENAPI]))
        _run(NPM_BIN / "openapi-typescript", described, "--output", out / "openapi.d.ts")


def _files() -> list[str]:
    return sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "webhook").rglob("*.proto"))


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def _protoc(*arguments: str) -> None:
    node = Path(shutil.which("node") or "/usr/bin/node").parent
    path = f"{TOOLS / 'bin'}:{NPM_BIN}:{node}:/usr/bin:/bin"
    _run(TOOLS / "bin" / "python", "-m", "grpc_tools.protoc", f"-I{PROTOS}", *arguments, environment={"PATH": path})


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    completed = subprocess.run([str(part) for part in command], env={**os.environ, **(environment or {})}, check=False)
    if completed.returncode:
        sys.exit(f"generate: {' '.join(map(str, command[:4]))} … failed")


if __name__ == "__main__":
    main()
