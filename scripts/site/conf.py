"""What Sphinx makes of the documents: `make docs`. A page that stands in no list is an error: each has a place."""

from __future__ import annotations

from typing import Any, Final

from pygments.lexers.special import TextLexer

_LISTS: Final[dict[str, list[str]]] = {
    "For callers and receivers": ["receiving", "tasks", "clients", "http", "sql", "cli", "page", "delivery", "errors"],
    "For operators": [
        "operations", "proxies", "backup", "growth", "settings", "runbook", "metrics", "security", "reliability",
        "performance", "/deploy/helm/webhook-grpc/README",
    ],
    "For those who change it": [
        "architecture", "/CONTRIBUTING", "/tests/README", "/CHANGELOG", "/SECURITY", "decisions/*",
    ],
    "Start": ["/README", "/README.zh-CN", "zh-CN/specification"],
}  # fmt: skip

project = "webhook-grpc"
extensions = ["myst_parser"]
root_doc = "docs/README"
include_patterns = ["*.md", "docs/*.md", "docs/*/*.md", "tests/README.md", "deploy/helm/*/README.md"]
myst_heading_anchors = 4  # as GitHub names them
html_theme = "furo"
html_title = "webhook-grpc"
html_copy_source = False
html_show_copyright = False


def setup(app: Any) -> None:
    """Adds what Markdown on GitHub has by itself: the list of pages, and diagrams, which are shown as their text."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", _add_lists)


def _add_lists(_: Any, name: str, content: list[str]) -> None:
    if name == root_doc:
        content[0] += "".join(
            "\n```{toctree}\n:hidden:\n:glob:\n:caption: " + caption + "\n\n" + "\n".join(pages) + "\n```\n"
            for caption, pages in _LISTS.items()
        )
