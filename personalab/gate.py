"""Who goes next, and where to: a queue before one or several endpoints, in all event loops and threads of this process.

What an endpoint lets in is for its `limits` to say.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from personalab.errors import ProviderUnreachable, RateLimited
from personalab.limits import Limits, Ticket


class _Turn:
    """One who waits. `given` is set under the gate's lock, so a place is never lost between giving and taking."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Ticket], tokens: int) -> None:
        self.loop, self.future, self.tokens = loop, future, tokens
        self.given: Ticket | None = None
        self.gone = False

    def tell(self) -> None:
        if not self.future.done():
            assert self.given is not None
            self.future.set_result(self.given)


Doors = tuple[Limits, ...]
_Line = list[tuple[int, int, _Turn]]  # a heap: highest rank, then first come


class Gate:
    """Lets requests in where there is room, the highest rank first, then who came first.

    Requests stand in lines by their model; `doors_of` says through which doors a line may go at present, one at least.
    """

    def __init__(
        self,
        doors: Doors,
        doors_of: Callable[[str], Doors] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doors = doors
        self._doors_of = doors_of or (lambda model: doors)
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._arrivals = itertools.count()
        self._looks_at = math.inf

    @property
    def in_flight(self) -> int:
        """Requests inside now."""
        return sum(door.in_flight for door in self._doors)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place now."""
        with self._lock:
            here = sum(not turn.gone for line in self._lines.values() for _, _, turn in line)
            return here + sum(door.outside for door in self._doors)

    @asynccontextmanager
    async def slot(self, rank: int = 0, tokens: int = 0, model: str = "") -> AsyncIterator[Ticket]:
        """A place in flight behind one of the doors; what happens inside teaches its limits."""
        ticket = await self._enter(rank, tokens, model)
        limits = ticket.limits
        try:
            if limits.slots is not None:
                ticket.place = await limits.slots.take(lambda: limits.allowed)
            if limits.cluster is not None:
                ticket.line = await limits.cluster.take()
            self._go(ticket)
            yield ticket
        except RateLimited as error:
            with self._lock:
                limits.refused(ticket, error)
            raise
        except ProviderUnreachable:
            with self._lock:
                if len(self._doors_of(model)) > 1:
                    limits.rest()
            raise
        else:
            with self._lock:
                limits.succeeded(ticket, sum(map(len, self._lines.values())))
        finally:
            if limits.cluster is not None and ticket.line is not None:
                limits.cluster.free(ticket.line)
            if limits.slots is not None and ticket.place is not None:
                limits.slots.free(ticket.place)
            self._leave(ticket)

    async def _enter(self, rank: int, tokens: int, model: str) -> Ticket:
        with self._lock:
            line = self._lines.setdefault(model, [])
            if not _first(line) and (door := self._open_one(model, tokens)) is not None:
                return door.enter(tokens)
            loop = asyncio.get_running_loop()
            turn = _Turn(loop, loop.create_future(), tokens)
            heapq.heappush(line, (-rank, next(self._arrivals), turn))
        try:
            return await turn.future
        except BaseException:
            with self._lock:
                turn.gone = True
                if turn.given is not None:  # the place cannot be used: pass it on
                    turn.given.limits.leave(turn.given)
                self._admit()
            raise

    def _go(self, ticket: Ticket) -> None:
        with self._lock:
            ticket.limits.go(ticket)
            if ticket.limits.one_by_one:
                self._admit()

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            ticket.limits.leave(ticket)
            self._admit()

    def _admit(self) -> None:
        while any(self._admit_one(model, line) for model, line in self._by_head()):
            pass

    def _by_head(self) -> list[tuple[str, _Line]]:
        """The lines in which somebody waits, the one whose first goes before the others' first."""
        lines = [(model, line) for model, line in self._lines.items() if _first(line)]
        return sorted(lines, key=lambda one: one[1][0][:2]) if len(lines) > 1 else lines

    def _admit_one(self, model: str, line: _Line) -> bool:
        turn = _first(line)
        if turn is None or (door := self._open_one(model, turn.tokens)) is None:
            return False
        heapq.heappop(line)
        turn.given = door.enter(turn.tokens)
        try:
            turn.loop.call_soon_threadsafe(turn.tell)
        except RuntimeError:  # that loop has ended, and who waited with it
            turn.gone = True
            door.leave(turn.given)
        return True

    def _open_one(self, model: str, tokens: int) -> Limits | None:
        """A door that lets one in now, the emptiest first; else somebody looks again as soon as one might."""
        soonest, doors = math.inf, self._doors_of(model)
        for door in sorted(doors, key=lambda door: door.load) if len(doors) > 1 else doors:
            wait = door.wait(tokens)
            if wait == 0:
                return door
            soonest = min(soonest, math.inf if wait is None else wait)
        self._look_after(soonest)
        return None

    def _look_after(self, seconds: float) -> None:
        at = self._clock() + seconds
        if at >= self._looks_at:
            return
        self._looks_at = at
        # A thread, as the loop of whoever waits may end before.
        timer = threading.Timer(seconds, self._look, (at,))
        timer.daemon = True
        timer.start()

    def _look(self, at: float) -> None:
        with self._lock:
            if at == self._looks_at:
                self._looks_at = math.inf
            self._admit()


def _first(line: _Line) -> _Turn | None:
    while line and line[0][2].gone:
        heapq.heappop(line)
    return line[0][2] if line else None
