"""Who is in flight in a whole cluster, and who waits: the scheduler's book of places.

Pure: it is told who asks, gives back or leaves, and says who may go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Ticket = tuple[str, str]
"""A worker's address, and which of its requests."""


@dataclass
class _Line:
    """Those of one endpoint: in flight, and waiting with the limit that each knows, first come first."""

    held: set[Ticket] = field(default_factory=set)
    waiting: dict[Ticket, int] = field(default_factory=dict)


class PlaceBook:
    """Places in flight by endpoint. Who waits goes when fewer are in flight than its own limit, after those before it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._endpoints: dict[Ticket, str] = {}

    def ask(self, endpoint: str, ticket: Ticket, limit: int) -> list[Ticket]:
        """One asks for a place. Gives those who may go now."""
        self._endpoints[ticket] = endpoint
        self._lines.setdefault(endpoint, _Line()).waiting[ticket] = limit
        return self._admitted(endpoint)

    def back(self, ticket: Ticket) -> list[Ticket]:
        """One gives its place back, or waits no longer. Gives those who may go now."""
        endpoint = self._endpoints.pop(ticket, None)
        if endpoint is None:  # given back before
            return []
        line = self._lines[endpoint]
        line.held.discard(ticket)
        line.waiting.pop(ticket, None)
        return self._admitted(endpoint)

    def of(self, worker: str) -> dict[Ticket, bool]:
        """What a worker has asked for and not given back: True where it is in flight, False where it waits."""
        return {
            ticket: ticket in self._lines[endpoint].held
            for ticket, endpoint in self._endpoints.items()
            if ticket[0] == worker
        }

    def _admitted(self, endpoint: str) -> list[Ticket]:
        line, admitted = self._lines[endpoint], []
        while line.waiting:
            ticket, limit = next(iter(line.waiting.items()))
            if len(line.held) >= limit:
                break
            del line.waiting[ticket]
            line.held.add(ticket)
            admitted.append(ticket)
        if not line.held and not line.waiting:
            del self._lines[endpoint]
        return admitted
