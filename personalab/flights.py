"""Single flight: work asked for twice at once is done once, whichever task, thread or event loop asks."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from personalab.errors import PersonalabError

Result = TypeVar("Result")


class Flights(Generic[Result]):
    """Work under way, by key. The first who asks does it in their own task; the others wait for the result.

    An error of the work is everybody's. If the owner is cancelled, one of those who wait takes over.
    """

    def __init__(self) -> None:
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Nothing is under way."""
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Result]] = {}

    async def once(self, key: str, work: Callable[[], Awaitable[Result]]) -> tuple[Result, bool]:
        """The result, and whether it was somebody else's work."""
        while True:
            with self._lock:
                flight = self._under_way.get(key)
                if flight is None:
                    mine = self._under_way[key] = Future()
            if flight is None:
                return await self._own(key, mine, work), False
            result = asyncio.wrap_future(flight)
            # Read even if this one is cancelled meanwhile, or asyncio would complain of an error nobody looked at.
            result.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                return await asyncio.shield(result), True
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not flight.cancelled() or (task is not None and task.cancelling()):
                    raise

    async def _own(self, key: str, flight: Future[Result], work: Callable[[], Awaitable[Result]]) -> Result:
        try:
            result = await work()
        except PersonalabError as error:
            self._land(key)
            flight.set_exception(error)
            raise
        except BaseException:  # cancelled, or a bug: nothing to share, another one may try
            self._land(key)
            flight.cancel()
            raise
        self._land(key)
        flight.set_result(result)
        return result

    def _land(self, key: str) -> None:
        # Before the result is told, so that whoever is woken and asks again finds the way free.
        with self._lock:
            self._under_way.pop(key, None)  # in a fork's child it is there no more


_all: weakref.WeakSet[Flights[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    # What a parent's threads were doing comes to no end in its child.
    for flights in list(_all):
        flights.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
