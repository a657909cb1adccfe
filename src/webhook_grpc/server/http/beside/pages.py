"""The page for people: its files, which the package carries, and the policy under which a browser runs them."""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

# Beside the root; page/data/route.js reads them.
PAGE_PATHS: Final = (
    *(f"/{name}" for name in ("webhooks", "deliveries", "attempts", "events", "replays", "event-types", "audit")),
    *(f"/{name}/{{id}}" for name in ("webhooks", "deliveries", "events", "replays", "event-types")),
    "/webhooks/{id}/edit",
)
FOLDER: Final = Path(__file__).parents[1] / "page"

_TYPES: Final[Mapping[str, str]] = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
}
_EMBEDDED: Final = ("live/webhook-deliveries.js", "app.js")
_VERSION_DIGITS: Final = 12
_FOREVER: Final = "public, max-age=31536000, immutable"
# Nothing but the page's own files and calls; no inline script, no frame, no text that becomes markup.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class _File:
    content_type: str
    plain: bytes

    @functools.cached_property
    def packed(self) -> bytes:
        """Returns it packed. That takes a third of a millisecond, and many processes are never asked for the page."""
        return gzip.compress(self.plain, mtime=0)


class Pages:
    """Answers with the files of the page; reads them once, and packs each when it is first asked for."""

    def __init__(self) -> None:
        texts = {
            str(path.relative_to(FOLDER)): path.read_bytes()
            for path in sorted(FOLDER.rglob("*.*"))
            if path.suffix in _TYPES
        }
        self.version = hashlib.sha256(b"".join(texts.values())).hexdigest()[:_VERSION_DIGITS]
        document = texts.pop("index.html").replace(b"VERSION", self.version.encode())
        self._document = _file("index.html", document)
        self._files = {name: _file(name, text) for name, text in texts.items()}
        self._embedded = {
            path.rpartition("/")[2]: _file(path, f'export * from "./{self.version}/{path}";\n'.encode())
            for path in _EMBEDDED
        }

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the routes of the files. Their address changes with their contents, so browsers keep them."""
        return (
            web.get(f"/ui/{self.version}/{{name:[a-z/.-]+}}", self._get),
            web.get(f"/ui/{{name:{'|'.join(map(re.escape, self._embedded))}}}", self._get_embedded),
        )

    def document(self, request: web.Request) -> web.Response:
        """Returns the page itself."""
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        return _response(self._document, request, headers)

    async def _get_embedded(self, request: web.Request) -> web.Response:
        """Answers with a module that pages of others load: its address does not change."""
        return _response(self._embedded[request.match_info["name"]], request, {"Cache-Control": "no-cache"})

    async def _get(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        return _response(file, request, {"Cache-Control": _FOREVER})


def _file(name: str, text: bytes) -> _File:
    return _File(_TYPES[Path(name).suffix], text)


def _response(file: _File, request: web.Request, headers: Mapping[str, str]) -> web.Response:
    is_packed = "gzip" in request.headers.get("Accept-Encoding", "")
    return web.Response(
        body=file.packed if is_packed else file.plain,
        content_type=file.content_type,
        charset="utf-8",
        headers={**_HEADERS, **headers, **({"Content-Encoding": "gzip"} if is_packed else {})},
    )
