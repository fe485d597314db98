"""Who goes next, and where to: a queue before one or several endpoints, in all event loops and threads of this process.

What an endpoint lets in is for its `limits` to say.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from personalab.bell import Bell
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
        self._begin()
        _gates.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._arrivals = itertools.count()
        self._bell = Bell()
        self._watch: threading.Thread | None = None
        self._looks_at = math.inf
        for door in self._doors:
            door.called_by(self._bell)

    def begin_again(self) -> None:
        """In a fork's child: nobody of its parent's waits or is in flight here."""
        self._bell.close()
        for door in self._doors:
            door.begin_again()
        self._begin()

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
            if limits.cluster is not None:
                ticket.line = await limits.cluster.take()
            self._go(ticket)
            yield ticket
        except RateLimited as error:
            refusal = error
            self._leave(lambda: limits.refused(ticket, refusal))
            raise
        except ProviderUnreachable:
            others = len(self._doors_of(model)) > 1
            self._leave(lambda: limits.unanswered(ticket) if others else limits.ended(ticket))
            raise
        except BaseException:
            self._leave(lambda: limits.ended(ticket))
            raise
        else:
            self._leave(lambda: limits.succeeded(ticket, self._waiting()))
        finally:
            if limits.cluster is not None and ticket.line is not None:
                limits.cluster.free(ticket.line)

    async def _enter(self, rank: int, tokens: int, model: str) -> Ticket:
        with self._lock:
            line = self._lines.setdefault(model, [])
            if not _first(line) and (ticket := self._let_in(model, tokens, self._waiting())) is not None:
                return ticket
            loop = asyncio.get_running_loop()
            turn = _Turn(loop, loop.create_future(), tokens)
            heapq.heappush(line, (-rank, next(self._arrivals), turn))
        try:
            return await turn.future
        except BaseException:
            with self._lock:
                turn.gone = True
                if turn.given is not None:  # the place cannot be used: pass it on
                    turn.given.limits.ended(turn.given)
                self._admit()
            raise

    def _go(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket.limits.go(ticket):
                self._admit()

    def _leave(self, end: Callable[[], None]) -> None:
        with self._lock:
            end()
            self._admit()

    def _waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    def _admit(self) -> None:
        while any(self._admit_one(model, line) for model, line in self._by_head()):
            pass

    def _by_head(self) -> list[tuple[str, _Line]]:
        """The lines in which somebody waits, the one whose first goes before the others' first."""
        lines = [(model, line) for model, line in self._lines.items() if _first(line)]
        return sorted(lines, key=lambda one: one[1][0][:2]) if len(lines) > 1 else lines

    def _admit_one(self, model: str, line: _Line) -> bool:
        turn = _first(line)
        if turn is None or (ticket := self._let_in(model, turn.tokens, self._waiting() - 1)) is None:
            return False
        heapq.heappop(line)
        turn.given = ticket
        try:
            turn.loop.call_soon_threadsafe(turn.tell)
        except RuntimeError:  # that loop has ended, and who waited with it
            turn.gone, turn.given = True, None  # or it would be ended again when that task is collected
            ticket.limits.ended(ticket)
        return True

    def _let_in(self, model: str, tokens: int, waiting: int) -> Ticket | None:
        """Through the door that lets one in now, the emptiest first; else somebody looks again as soon as one might."""
        soonest, doors = math.inf, self._doors_of(model)
        for door in sorted(doors, key=lambda door: door.load) if len(doors) > 1 else doors:
            found = door.enter(tokens, waiting)
            if isinstance(found, Ticket):
                return found
            soonest = min(soonest, found)
        self._look_after(soonest)
        return None

    def _look_after(self, seconds: float) -> None:
        if seconds == math.inf:
            return
        at = self._clock() + seconds
        if self._watch is None:
            # A thread, as the loop of whoever waits may end before.
            self._watch = threading.Thread(target=self._look, name="personalab-gate", daemon=True)
            self._looks_at = at
            self._watch.start()
        elif at < self._looks_at:
            self._looks_at = at
            if threading.current_thread() is not self._watch:
                self._bell.ring(self._bell.number)

    def _look(self) -> None:
        bell = self._bell
        while True:
            bell.sleep(self._looks_at - self._clock())
            with self._lock:
                self._looks_at = math.inf
                self._admit()
                if not any(map(_first, self._lines.values())):
                    self._watch = None
                    for door in self._doors:
                        door.nobody_waits()
                    return


def _first(line: _Line) -> _Turn | None:
    while line and line[0][2].gone:
        heapq.heappop(line)
    return line[0][2] if line else None


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _after_fork() -> None:
    for gate in list(_gates):
        gate.begin_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
