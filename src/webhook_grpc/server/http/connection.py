"""A connection: what is no request that the server can read is refused with a problem document too."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

import structlog
from aiohttp import web

from webhook_grpc.api.codes import Code

from .problem import Problem

HEAD_BYTES_MAX: Final = 8190  # of the request line, and of one header

log = structlog.get_logger("webhook_grpc.http")


class Connection(web.RequestHandler):
    """A connection of aiohttp's server."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Returns the answer to what the parser can't read (400), and to a bug of a handler (500).

        The caller's bytes come back in neither.
        """
        request_id = uuid4().hex
        if status < 500:
            log.info("request refused", status=status, request_id=request_id, problem=type(exc).__name__)
        else:
            log.error("unhandled", path=request.path, request_id=request_id, exc_info=exc)
        if request.writer.output_size > 0:  # an answer has begun: a second one would be taken for its end
            raise ConnectionError(message)
        response = _problem(status, request_id).response(request_id)
        response.force_close()
        return response


def _problem(status: int, request_id: str) -> Problem:
    if status >= 500:
        detail = f"internal error; give this request id to the operator: {request_id}"
        return Problem(500, detail, Code.INTERNAL, "INTERNAL")
    detail = f"this is not HTTP, or its first line or one of its headers has more than {HEAD_BYTES_MAX} bytes"
    return Problem.of_http("REQUEST_MALFORMED", detail)
