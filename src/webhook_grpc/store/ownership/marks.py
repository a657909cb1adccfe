"""What distinguishes a process from all others on its machine, as it stands in its row of `workers`."""

from __future__ import annotations

from webhook_grpc.domain.record import record


@record
class ProcessMark:
    """A process: no other one, before or after, has the same mark.

    `machine`: the boot id and the name of the machine. `namespaces`: in which process ids, and times, are counted.
    `started_ticks`: when the process started, in ticks since the boot.
    """

    machine: str
    namespaces: str
    pid: int
    started_ticks: int
