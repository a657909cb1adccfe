"""Requests over HTTP that follow no redirect: urllib sends an admin's token along, wherever the answer leads."""

from __future__ import annotations

import urllib.request
from typing import Any, Final


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Returns no request, so that the answer is an HTTPError."""


OPENER: Final = urllib.request.build_opener(_NoRedirects)
