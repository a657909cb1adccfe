"""Whether this process can take calls, as every door says it in its own way.

Where several processes share their addresses (`serve --processes`), a service serves if it does in each of them: a
caller may meet any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from webhook_grpc.domain.progress import Service

Listener = Callable[[str, bool], Awaitable[None]]


class Readiness:
    """Keeps what the monitor has found, and passes it on to the doors that keep it themselves."""

    def __init__(self, doors: Sequence[Listener], siblings: Sequence[Listener] = ()) -> None:
        """`doors` get the readiness of all processes together; `siblings` that of this process alone."""
        self._doors = tuple(doors)
        self._siblings = tuple(siblings)
        self._serving = dict.fromkeys(Service, True)
        self._unwell: Mapping[str, Collection[str]] = {}  # services of other processes that do not serve
        self._is_leaving = False

    @property
    def is_ready(self) -> bool:
        """Whether calls can be answered. Deliveries that stall do not count: calls are answered meanwhile."""
        return self.serves(Service.WEBHOOKS)

    def serves(self, service: Service) -> bool:
        """Returns whether health checks say of the service that it serves."""
        return self.serves_here(service) and not self._unwell_siblings(service)

    def serves_here(self, service: Service) -> bool:
        """Returns whether the service serves in this process, whatever the others do."""
        return not self._is_leaving and self._serving[service]

    @property
    def why_not_ready(self) -> str:
        """Which other processes can't answer calls, as text. Empty if there are none, or this one can't either."""
        unwell = self._unwell_siblings(Service.WEBHOOKS)
        return f"process {', '.join(unwell)}" if unwell and self.serves_here(Service.WEBHOOKS) else ""

    async def set_serving(self, name: str, serving: bool) -> None:
        """Takes in whether a service of this process serves."""
        self._serving[Service(name)] = serving
        for sibling in self._siblings:
            await sibling(name, serving)
        await self._open_doors(Service(name))

    async def set_unwell(self, services: Mapping[str, Collection[str]]) -> None:
        """Takes in which services do not serve in other processes, by the number of the process."""
        self._unwell = services
        for service in Service:
            await self._open_doors(service)

    def leave(self) -> None:
        """Says that the process takes no more calls, whatever else is set."""
        self._is_leaving = True

    async def _open_doors(self, service: Service) -> None:
        serving = self._serving[service] and not self._unwell_siblings(service)
        for door in self._doors:
            await door(service.value, serving)

    def _unwell_siblings(self, service: Service) -> list[str]:
        return sorted(number for number, services in self._unwell.items() if service.value in services)
