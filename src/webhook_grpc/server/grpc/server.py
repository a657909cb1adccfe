"""The gRPC server: the methods of the API, health and reflection on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from webhook.v1 import service_pb2

from webhook_grpc.api.call import server_stopping
from webhook_grpc.api.codes import Code
from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.access import ANONYMOUS, Caller
from webhook_grpc.domain.progress import Service
from webhook_grpc.server.auth import CertificateNames
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.certificates import Certificates

from .beginnings import Beginnings
from .call import Call, Handler, Peer, is_call
from .exchange import handler_of
from .health import SERVICE as HEALTH_SERVICE
from .health import Health
from .http2.frames import Reason
from .http2.stream import Stream, StreamEnded
from .listening import Listener, TransportLimits
from .metadata import refusal, trailers
from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Catalogue, Reflection, ReflectionAccess

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"].full_name
# What reflection describes: the services, and the details of errors, so that grpcurl prints them.
DESCRIBED: Final = tuple(
    cast("FileDescriptor", module.DESCRIPTOR) for module in (service_pb2, health_pb2, status_pb2, error_details_pb2)
)


class Server:
    """Serves the API, health and reflection on one port."""

    def __init__(
        self,
        address: str,
        calls: Calls,
        limits: TransportLimits,
        certificates: Certificates | None,
        *,
        reflection: ReflectionAccess,
        is_shared: bool,
    ) -> None:
        """`is_shared`: other processes listen on the address, too. Without certificates it is served in plain text."""
        self._calls = calls
        self._is_shared = is_shared
        self._health = Health(("", *Service))
        beginnings, read_max = Beginnings(), limits.read_seconds_max
        handlers = {f"/{SERVICE}/{method.name}": handler_of(method, calls, read_max) for method in METHODS}
        handlers |= self._health.handlers()
        if reflection is not ReflectionAccess.NOBODY:
            listed = (SERVICE, HEALTH_SERVICE, *REFLECTION_SERVICES)
            caller_of = calls.known_caller if reflection is ReflectionAccess.CALLERS else _anybody
            handlers |= Reflection(Catalogue(listed, DESCRIBED), caller_of).handlers()
        self._handlers = {path.encode("ascii"): beginnings.in_turn(handler) for path, handler in handlers.items()}
        self._unknown: Handler = beginnings.in_turn(_refuse_unknown)
        self._in_progress: dict[asyncio.Task[None], Call] = {}
        self._listener = Listener(address, limits, certificates, self._begin)

    def bind(self) -> int:
        """Takes the address and returns its port. Raises AddressInUse."""
        return self._listener.bind(is_shared=self._is_shared)

    async def start(self) -> None:
        """Starts to serve."""
        for name in ("", *Service):
            self._health.set(name, True)
        await self._listener.start()

    async def set_serving(self, name: str, serving: bool) -> None:
        """Sets what health checks of a service return. The service without a name is SERVING until `leave`."""
        self._health.set(name, serving)

    def leave(self) -> None:
        """Answers all health checks with NOT_SERVING from now on, whatever is set later. Calls are still served."""
        self._health.leave()

    def show_warnings(self, warnings: Sequence[str]) -> None:
        """Adds warnings for operators to the answers of health checks, as trailing metadata."""
        self._health.show(warnings)

    async def stop(self, grace_seconds: float) -> None:
        """Lets clients begin no more calls, and ends those in progress after so many seconds.

        What a client begins before it has heard of that is served: it could not know.
        """
        self.leave()
        self._health.close()
        await self._listener.stop(grace_seconds)
        self._calls.stop()
        for call in list(self._in_progress.values()):
            call.leave(server_stopping())
        await asyncio.gather(*self._in_progress, return_exceptions=True)
        await self._listener.close()
        self._health.report_unread()

    async def abandon(self) -> None:
        """Releases the address when the start of the process has failed."""
        self._calls.stop()
        await self._listener.stop(0)
        await self._listener.close()

    def _begin(self, stream: Stream, peer: Peer) -> None:
        """Begins to serve what a client has begun to send."""
        if stream.head.method != b"POST" or not is_call(stream):
            _answer_without_call(stream)
            return
        call = Call(stream, peer)
        task = call.serve(self._handlers.get(stream.head.path, self._unknown))
        self._in_progress[task] = call
        task.add_done_callback(self._in_progress.pop)


def _answer_without_call(stream: Stream) -> None:
    """Answers what is HTTP/2 and no call of gRPC."""
    status = b"405" if stream.head.method != b"POST" else b"415"
    try:
        stream.finish(refusal(status), b"this port speaks gRPC\n", trailers(Code.INTERNAL, "this is no call of gRPC"))
    except StreamEnded:
        stream.reset(Reason.CANCEL)


async def _refuse_unknown(call: Call) -> None:
    call.abort(Code.UNIMPLEMENTED, "Method not found!")


async def _anybody(_: Sequence[str | bytes], __: CertificateNames) -> Caller:
    return ANONYMOUS
