"""How many requests are in flight at once: in all event loops and threads of this process, and, by way of `slots`, in
all processes of this machine.

A 429 takes a slot away, each success gives a little of one back, and the refused request waits outside while the
others go on. Only when nothing gets through any more does the gate close, until the endpoint's window has passed.
Measured in docs/log.md, 2026-11-23.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from personalab.errors import RateLimited
from personalab.slots import Slots

_RECOVERY = 5
"""Successes per slot of the limit that give one slot back."""
_CLOSED_DEFAULT_SECONDS = 1.0
_CLOSED_MAX_SECONDS = 60.0
"""However long an endpoint asks to wait, somebody tries again after this."""


class _Turn:
    """One who waits. `given` is set under the gate's lock, so a place is never lost between giving and taking."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        self.loop, self.future, self.given, self.gone = loop, future, False, False

    def tell(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Gate:
    """At most `limit` at once; fewer while the endpoint says that is too many."""

    def __init__(
        self, limit: int, slots: Slots | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._slots = slots
        self._outside = 0  # let in here, waiting for another process to leave
        self._clock = clock
        self._lock = threading.Lock()
        self._in_flight = 0
        self._allowed = float(limit)
        self._allowed_at_success = float(limit)
        self._closed_until = 0.0
        self._waiting: list[tuple[int, int, _Turn]] = []  # a heap: highest rank, then first come
        self._arrivals = itertools.count()

    @property
    def in_flight(self) -> int:
        """Requests inside now."""
        return self._in_flight - self._outside

    @property
    def allowed(self) -> int:
        """Requests let in at once at present, 1 to `limit`."""
        return int(self._allowed)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place now."""
        with self._lock:
            return self._outside + sum(not turn.gone for _, _, turn in self._waiting)

    @asynccontextmanager
    async def slot(self, rank: int = 0) -> AsyncIterator[None]:
        """A place in flight; of those who wait the highest rank is first, then who came first.

        What happens inside narrows or widens the gate.
        """
        await self._enter(rank)
        place: int | None = None
        try:
            if self._slots is not None:
                place = await self._place(self._slots)
            yield
        except RateLimited as error:
            self._refused(error.retry_after)
            raise
        else:
            self._succeeded()
        finally:
            if self._slots is not None and place is not None:
                self._slots.free(place)
            self._leave()

    async def _place(self, slots: Slots) -> int:
        with self._lock:
            self._outside += 1
        try:
            return await slots.take(self.limit)
        finally:
            with self._lock:
                self._outside -= 1

    async def _enter(self, rank: int) -> None:
        with self._lock:
            while self._waiting and self._waiting[0][2].gone:
                heapq.heappop(self._waiting)
            if not self._waiting and self._has_room():
                self._in_flight += 1
                return
            loop = asyncio.get_running_loop()
            turn = _Turn(loop, loop.create_future())
            heapq.heappush(self._waiting, (-rank, next(self._arrivals), turn))
        try:
            await turn.future
        except BaseException:
            with self._lock:
                if turn.given:  # the place cannot be used: pass it on
                    self._in_flight -= 1
                    self._admit()
                else:
                    turn.gone = True
            raise

    def _leave(self) -> None:
        with self._lock:
            self._in_flight -= 1
            self._admit()

    def _has_room(self) -> bool:
        return self._in_flight < int(self._allowed) and self._clock() >= self._closed_until

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            _, _, turn = heapq.heappop(self._waiting)
            if turn.gone:
                continue
            try:
                turn.loop.call_soon_threadsafe(turn.tell)
            except RuntimeError:  # that loop has ended, and who waited with it
                continue
            turn.given = True
            self._in_flight += 1

    def _refused(self, retry_after: float | None) -> None:
        with self._lock:
            if self._allowed > 1 or self._in_flight > 1:
                self._allowed = max(1.0, self._allowed - 1)
                return
            # Alone and still refused: it is not the number at once but a window that has to pass.
            wait = min(_CLOSED_MAX_SECONDS, _CLOSED_DEFAULT_SECONDS if retry_after is None else retry_after)
            self._closed_until = self._clock() + wait
            self._allowed = self._allowed_at_success
        timer = threading.Timer(wait, self._reopen)
        timer.daemon = True
        timer.start()

    def _reopen(self) -> None:
        with self._lock:
            self._closed_until = 0.0
            self._admit()

    def _succeeded(self) -> None:
        with self._lock:
            self._allowed = min(float(self.limit), self._allowed + 1 / (_RECOVERY * self.limit))
            self._allowed_at_success = self._allowed
