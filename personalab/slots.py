"""Places in flight that all processes of this machine share: one file each, locked by the operating system.

A lock is freed the moment its holder dies. Whoever finds no free place queues: one lock file is the head of the queue,
on which a thread of each process blocks, and its holder sleeps on a pipe into which each freed place is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: the limit holds within a process only
    fcntl = None  # type: ignore[assignment]

_DEAD_HOLDER_MILLISECONDS = 100
"""A holder that died tells nobody, so whoever is next looks this often."""
_PIPE_BYTES = 4096
_TIME_BYTES = 20


class _Waiter:
    def __init__(self, loop: asyncio.AbstractEventLoop, limit: Callable[[], int]) -> None:
        self.loop, self.limit = loop, limit
        self.future: asyncio.Future[int] = loop.create_future()
        self.given: int | None = None
        self.gone = False

    def tell(self) -> None:
        if not self.future.done():
            assert self.given is not None
            self.future.set_result(self.given)


class Slots:
    """The places of one endpoint, as this process sees them. Use `slots_of`: two of one folder would share no count.

    A process with a lower limit uses the lower places only; so the number in flight never passes the highest limit, and
    no process has more in flight than its own.

    Raises:
        OSError: the folder cannot be written or locked.
    """

    def __init__(self, folder: Path) -> None:
        self._opened: list[int] = []
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._files: list[int] = []
        self._held: set[int] = set()
        self._waiting: deque[_Waiter] = deque()
        self._thread: threading.Thread | None = None
        self._head = self._open("head")  # for a look without waiting
        self._queue = self._open("head")  # for the thread that waits; locks of two handles exclude each other
        pipe = self._folder / "freed"
        if not pipe.exists():
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkfifo(pipe, 0o600)
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._opened.append(self._pipe)
        self._through = self._open("through")

    @property
    def through(self) -> float:
        """When the request that got through last, of any process, was sent, in seconds of `time.monotonic`."""
        try:
            return float(os.pread(self._through, _TIME_BYTES, 0))
        except ValueError:  # nobody wrote it yet
            return float("-inf")

    def got_through(self, sent: float) -> None:
        """Let all processes know that a request got through which was sent at that time."""
        os.pwrite(self._through, f"{sent:{_TIME_BYTES}.6f}".encode(), 0)

    async def take(self, limit: Callable[[], int]) -> int:
        """A place below what `limit` says when one is free; `free` has to follow. Waits its turn behind other processes."""
        with self._lock:
            if not self._waiting and self._thread is None and (place := self._at_once(limit())) is not None:
                return place
            waiter = _Waiter(asyncio.get_running_loop(), limit)
            self._waiting.append(waiter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="personalab-slots", daemon=True)
                self._thread.start()
        try:
            return await waiter.future
        except BaseException:
            with self._lock:
                waiter.gone = True
                if waiter.given is not None:
                    self._unlock(waiter.given)
            raise

    def free(self, place: int) -> None:
        """Give a place back."""
        with self._lock:
            self._unlock(place)

    def begin_again(self) -> None:
        """In a fork's child: other handles of the files, and no place held, as those it was born with are its parent's."""
        self.close()
        self._begin()

    def close(self) -> None:
        """Close every file."""
        opened, self._opened = self._opened, []
        for file in opened:
            os.close(file)

    def __del__(self) -> None:
        # Nobody has this endpoint any more: a process that goes through many does not run out of files.
        self.close()

    def _at_once(self, limit: int) -> int | None:
        try:
            fcntl.flock(self._head, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody waits already: behind them
            return None
        try:
            return self._lock_one(limit)
        finally:
            fcntl.flock(self._head, fcntl.LOCK_UN)

    def _lock_one(self, limit: int) -> int | None:
        while len(self._files) < limit:
            self._files.append(self._open(f"{len(self._files):04}"))
        for place in range(limit):
            if place not in self._held:
                try:
                    fcntl.flock(self._files[place], fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                self._held.add(place)
                return place
        return None

    def _unlock(self, place: int) -> None:
        self._held.discard(place)
        fcntl.flock(self._files[place], fcntl.LOCK_UN)
        with contextlib.suppress(BlockingIOError):  # full of news already
            os.write(self._pipe, b".")

    def _serve(self) -> None:
        news = select.poll()  # select() cannot watch a file whose number is above 1,023
        news.register(self._pipe, select.POLLIN)
        while True:
            fcntl.flock(self._queue, fcntl.LOCK_EX)
            try:
                while not self._given():
                    news.poll(_DEAD_HOLDER_MILLISECONDS)
                    self._drain()
            finally:
                fcntl.flock(self._queue, fcntl.LOCK_UN)
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return

    def _given(self) -> bool:
        """Whether the first who waits here has a place now, or nobody waits."""
        with self._lock:
            while self._waiting and self._waiting[0].gone:
                self._waiting.popleft()
            if not self._waiting:
                return True
            place = self._lock_one(self._waiting[0].limit())
            if place is None:
                return False
            waiter = self._waiting.popleft()
            waiter.given = place
            try:
                waiter.loop.call_soon_threadsafe(waiter.tell)
            except RuntimeError:  # that loop has ended, and who waited with it
                waiter.gone = True
                self._unlock(place)
            return True

    def _drain(self) -> None:
        try:
            os.read(self._pipe, _PIPE_BYTES)
        except BlockingIOError:
            return

    def _open(self, name: str) -> int:
        file = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        self._opened.append(file)
        return file


def slots_of(endpoint: str, key: str) -> Slots | None:
    """The places of an endpoint and key on this machine, for every process of this user; None on Windows.

    Raises:
        OSError: the folder cannot be written or locked.
    """
    if fcntl is None:
        return None
    folder = folder_of(endpoint, key)
    with _registry_lock:
        if (slots := _registry.get(folder)) is None:
            slots = _registry[folder] = Slots(folder)
        return slots


def folder_of(endpoint: str, key: str) -> Path:
    """Where processes of this machine and user share what they know of an endpoint and key.

    Its name is a hash: the key is nowhere on disk.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # The machine's name, as a home folder may be shared by the nodes of a cluster.
    name = hashlib.sha256(f"{platform.node()}\n{endpoint}\n{key}".encode()).hexdigest()[:24]
    return home / "personalab" / "slots" / name


_registry: weakref.WeakValueDictionary[Path, Slots] = weakref.WeakValueDictionary()
_registry_lock = threading.Lock()


def _after_fork() -> None:
    # Closing a child's copies frees nothing of the parent's; keeping them would hold its places after its death.
    global _registry_lock
    _registry_lock = threading.Lock()
    for slots in list(_registry.values()):
        slots.begin_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
