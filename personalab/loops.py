"""Coroutines from synchronous code: one loop in a thread of its own.

`run(coro)` works in a script, in a widget callback and inside a running notebook loop, without patching asyncio:
under *Run All* on ipykernel 7 a nested loop drops every queued cell (docs/decisions/0002-loop-thread.md).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_SETTLE_SECONDS = 5.0


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, waited for here. An interrupt cancels it, waits for its end and is passed on.

    Raises:
        RuntimeError: called from inside a coroutine that `run` itself is running: write `await` there.
        Exception: whatever the coroutine raises.
    """
    if threading.current_thread() is _runner.thread:
        coroutine.close()
        raise RuntimeError("personalab.run() was called inside a coroutine it is running: use 'await' there")
    loop, call = _runner.loop(), _Call(coroutine)
    try:
        # run_coroutine_threadsafe takes the caller's context along, so what is displayed lands in the caller's cell.
        return asyncio.run_coroutine_threadsafe(call.outcome(), loop).result()
    except BaseException:
        call.stop(loop)
        raise


async def together(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Results in order, of coroutines that run at once; the first error cancels the others and is raised as it is."""
    tasks: list[asyncio.Task[Result]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]


async def as_finished(
    items: AsyncIterator[Item], work: Callable[[Item], Awaitable[Result]], window: int
) -> AsyncIterator[Result]:
    """Results as they finish, with at most `window` items taken and not finished.

    An error of one stops all: what succeeded is given out, the rest is cancelled, and it is raised.
    """
    under_way: set[asyncio.Future[Result]] = set()
    more = True
    try:
        while True:
            while more and len(under_way) < window:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    more = False
                else:
                    under_way.add(asyncio.ensure_future(work(item)))
            if not under_way:
                return
            finished, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(finished, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def numbered(items: Iterable[Item]) -> AsyncIterator[tuple[int, Item]]:
    """Items with their places, one at a time, for `as_finished`."""
    for place, item in enumerate(items):
        yield place, item


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, out of whatever groups it stands in."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def allow_nested() -> None:
    """Let other people's code call `asyncio.run` inside a notebook cell.

    personalab itself never needs this and never calls it. It patches asyncio for the whole process. The maintained
    successor of nest-asyncio is used where it is installed, as ipykernel 7 needs it: with nest-asyncio 1.6 every cell
    queued behind the first is silently lost.

    Raises:
        ImportError: neither nest-asyncio2 nor nest-asyncio is installed: `pip install nest-asyncio2`.
    """
    try:
        import nest_asyncio2 as nest
    except ImportError:
        import nest_asyncio as nest
    nest.apply()


class _Call(Generic[Result]):
    """A coroutine that can be stopped from another thread at any moment, also just before it starts."""

    def __init__(self, coroutine: Coroutine[Any, Any, Result]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._stopped = False
        self._ended = threading.Event()

    async def outcome(self) -> Result:
        if self._stopped:
            self._coroutine.close()
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            return await self._coroutine
        finally:
            self._ended.set()

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel it and wait until it has ended."""
        self._stopped = True
        if not self._ended.is_set():
            loop.call_soon_threadsafe(self._cancel)
            self._ended.wait(_SETTLE_SECONDS)

    def _cancel(self) -> None:
        if self._task is None:
            self._ended.set()
        else:
            self._task.cancel()


class _Runner:
    """The loop and its thread, started when first needed."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self.thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="personalab-loop", daemon=True
                )
                self.thread.start()
            return self._loop

    def stop(self) -> None:
        """Cancel everything, close the loop's clients and end the thread."""
        with self._lock:
            loop, thread, self._loop, self.thread = self._loop, self.thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_SETTLE_SECONDS)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


_runner = _Runner()


def _after_fork() -> None:
    # A fork copies neither the thread nor what it was doing.
    global _runner
    _runner = _Runner()


atexit.register(lambda: _runner.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
