"""Who is working on which key, among the processes that share a cache folder.

One lock file a folder; a key is one byte of it, locked by the operating system, which frees it the moment its holder
dies. So there is one open file however many keys are under way, and nothing to clean up afterwards.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: work is shared within a process only
    fcntl = None  # type: ignore[assignment]

from personalab.records import Reply

_POLL_FIRST_SECONDS, _POLL_MAX_SECONDS = 0.01, 0.2
_OFFSET_DIGITS = 15  # hexadecimal: 60 bits fit a file offset


class NotPaidOnce(UserWarning):
    """A request is paid once within this process only, not among all that share the cache folder."""


class Claims:
    """The claims of this process in one folder. Use `claims_in`, so that a folder has one however many pools there are.

    POSIX locks belong to a process and end when it closes any handle of the file, so there must not be two.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".claims"
        self._lock = threading.Lock()
        self._mine: set[str] = set()
        self._file: int | None = None
        self._alone = False  # nothing can be locked here

    @asynccontextmanager
    async def claim(
        self, key: str, look: Callable[[], Reply | None], pause_seconds: float | None = None
    ) -> AsyncIterator[Reply | None]:
        """The right to work on a key; or the reply, if another process finished it while this one waited.

        `pause_seconds` is how long it sleeps between looks at most, where that may be longer than usual.

        If the other one dies or fails, exactly one of those who wait gets the right.
        """
        pause = _POLL_FIRST_SECONDS
        while not self._taken(key):
            await asyncio.sleep(pause)
            pause = min(pause_seconds or _POLL_MAX_SECONDS, 1.5 * pause)
            if reply := look():
                yield reply
                return
        try:
            yield look()
        finally:
            self._release(key)

    def _taken(self, key: str) -> bool:
        with self._lock:
            if key in self._mine:
                return False
            if not self._alone and not self._locked(key):
                return False
            self._mine.add(key)
            return True

    def _locked(self, key: str) -> bool:
        """Whether no other process works on a key, as far as that can be known here."""
        if fcntl is None:
            self._warn("this system has no file locks of the kind needed")
        elif (file := self._opened()) is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
            except (BlockingIOError, PermissionError):
                return False
            except OSError as error:
                self._warn(f"{self._path} cannot be locked: {error.strerror or error}")
        return True

    def _warn(self, why: str) -> None:
        self._alone = True
        warnings.warn(
            f"what several processes ask at once may be paid by each of them: {why}",
            NotPaidOnce,
            stacklevel=2,
        )

    def _release(self, key: str) -> None:
        with self._lock:
            self._mine.discard(key)
            if fcntl is not None and self._file is not None and not self._alone:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))

    def _opened(self) -> int | None:
        """The lock file; None where the folder cannot be written, of which storing will warn."""
        if self._file is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                if self._path.exists():  # another user's, say
                    self._warn(f"{self._path} cannot be opened: {error.strerror or error}")
                return None
        return self._file


def claims_in(folder: Path) -> Claims:
    """The claims of this process in a folder, by whatever path or link it is reached."""
    folder = folder.absolute()
    with _registry_lock:
        if (there := _registry.get(folder)) is None:
            real = folder.resolve()
            there = _registry[folder] = _registry.setdefault(real, Claims(real))
        return there


def _offset(key: str) -> int:
    return int(key[:_OFFSET_DIGITS], 16)


_registry: dict[Path, Claims] = {}
_registry_lock = threading.Lock()


def _after_fork() -> None:
    # A child has none of its parent's locks.
    global _registry, _registry_lock
    _registry, _registry_lock = {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
