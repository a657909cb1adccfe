"""Whether this process can take calls, as every door says it in its own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from webhook_grpc.domain.progress import Service


class Readiness:
    """Keeps what the monitor has found, and passes it on to the doors that keep it themselves."""

    def __init__(self, listeners: Sequence[Callable[[str, bool], Awaitable[None]]]) -> None:
        self._listeners = tuple(listeners)
        self._serving = dict.fromkeys(Service, True)
        self._is_leaving = False

    @property
    def is_ready(self) -> bool:
        """Whether calls can be answered. Deliveries that stall do not count: calls are answered meanwhile."""
        return self.serves(Service.WEBHOOKS)

    def serves(self, service: Service) -> bool:
        """Returns whether health checks say of the service that it serves."""
        return not self._is_leaving and self._serving[service]

    async def set_serving(self, name: str, serving: bool) -> None:
        """Takes in whether a service serves."""
        self._serving[Service(name)] = serving
        for listener in self._listeners:
            await listener(name, serving)

    def leave(self) -> None:
        """Says that the process takes no more calls, whatever else is set."""
        self._is_leaving = True
