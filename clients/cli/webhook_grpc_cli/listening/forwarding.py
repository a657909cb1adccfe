"""Passes requests on to a program under development, and its answer back, as they are."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from webhook_grpc_cli.failures import UsageFailure

from .receiver import Answer, Arrival

SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 16 * 1024
_NOT_PASSED_ON: Final = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "expect"})


class Forwarder:
    """Posts to one URL; each request has a connection of its own."""

    def __init__(self, url: str) -> None:
        """Raises UsageFailure for what is no http or https URL."""
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise UsageFailure(f"{url}: {error}") from error
        if parts.scheme not in ("http", "https") or not self._host:
            raise UsageFailure(f"{url} is no URL such as http://localhost:3000/hook")
        self._is_secure = parts.scheme == "https"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._name = parts.netloc.rpartition("@")[2]

    def __call__(self, arrival: Arrival) -> Answer:
        """Returns the program's answer, or a 502 or 504 if there is none."""
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=SECONDS_MAX)
        try:
            connection.request("POST", self._target, arrival.body, _passed_on(arrival.headers))
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read(ANSWER_BYTES_MAX))
        except ConnectionRefusedError:
            return _none(502, f"nothing listens on {self._name}")
        except TimeoutError:
            return _none(504, f"{self._name} has not answered within {SECONDS_MAX:.0f} s")
        except (OSError, http.client.HTTPException) as error:
            return _none(502, f"{self._name}: {type(error).__name__}")
        finally:
            connection.close()


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _NOT_PASSED_ON}


def _none(status: int, problem: str) -> Answer:
    return Answer(status, [("Content-Type", "text/plain; charset=utf-8")], f"{problem}\n".encode(), problem)
