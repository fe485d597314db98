"""A page of numbers that all processes of this machine share, and who is there.

The page is a file that every process maps into its memory, or memory of this process alone. One at a time changes it,
under a lock, and whoever uses it holds the lock of a seat. The system frees both the moment their holder dies: a seat
that is not locked is empty, and a change that was left half done makes the page begin anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar, get_args, get_origin, get_type_hints

try:
    import fcntl
except ImportError:  # Windows: nothing is shared between processes
    fcntl = None  # type: ignore[assignment]

SEATS = 256
"""Pools of one endpoint that share a page, at most."""
_KEPT_SECONDS = 120.0
"""A page that nobody used for longer begins anew; the longest windows and debts are over by then."""
_KINDS: dict[object, type] = {float: ctypes.c_double, int: ctypes.c_int64, bool: ctypes.c_bool}


class NotShared(UserWarning):
    """Limits hold for this process only, not for all of this machine."""


Struct = TypeVar("Struct", bound=ctypes.Structure)


def laid_out(kind: type[Struct]) -> type[Struct]:
    """Give a structure the fields that its annotations name: numbers, structures, or so many of one kind.

    `Annotated[list[float], 8]` are eight numbers.
    """
    hints = get_type_hints(kind, include_extras=True)
    kind._fields_ = [(name, _field(hints[name])) for name in kind.__annotations__]
    return kind


def _field(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        many, count = get_args(hint)
        return _field(get_args(many)[0]) * count
    return _KINDS.get(hint, hint)


class Page(Protocol):
    """What a board can hold."""

    def begin(self) -> None:
        """Forget everything but who is there; a page of zeros becomes a new one."""

    def clear(self, seat: int) -> None:
        """Whoever had this seat is gone, with all that was in flight."""


AnyPage = TypeVar("AnyPage", bound=Page)


@laid_out
class _Head(ctypes.Structure):
    begun: bool
    changing: bool
    seats: int  # the highest that was ever taken, and one
    used: float
    looked: float


class Board(Generic[AnyPage]):
    """One page, and one seat at it. Not safe by itself between threads.

    `with board as now:` around every change: it gives the time, which no other process's change is later than.

    Raises:
        OSError: the folder cannot be written or locked, or all seats are taken.
    """

    def __init__(
        self, kind: type[AnyPage], folder: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        # With the seats, as those that are taken beside a page of another form are free beside this one.
        self._folder = folder / _form(kind) if folder is not None else None
        self._files: list[int] = []
        self._lock: int | None = None
        self.seat = 0
        self._kind = kind
        self._map()
        if self._folder is None:
            self._begin()
        else:
            self._sit()

    @property
    def shared(self) -> bool:
        """Whether other processes see it."""
        return self._folder is not None

    def __enter__(self) -> float:
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            now = self.clock()
            if self._head.changing:  # whoever changed it last died on the way
                self._begin()
            self._head.changing = True
        except BaseException:
            self._unlock()
            raise
        return now

    def __exit__(self, *error: object) -> None:
        self._head.used = self.clock()
        self._head.changing = False
        self._unlock()

    def look(self, now: float, every: float) -> None:
        """Clear the seats of the dead, if nobody did within the last `every` seconds; inside of a change.

        A seat of which that cannot be told is left as it is: no file may be opened any more, or somebody cleared the folder.
        """
        if self._folder is None or self._head.looked <= now < self._head.looked + every:
            return
        self._head.looked = now
        for seat in range(self._head.seats):
            with suppress(OSError):
                if seat != self.seat and (file := self._taken(seat, os.O_RDWR)) is not None:
                    os.close(file)
                    self.page.clear(seat)

    def begin_again(self) -> None:
        """In a fork's child: another seat, as the one it was born with is its parent's; without one, a page of its own."""
        if self._folder is None:
            self.page.clear(self.seat)
            return
        self._let_go()
        try:
            self._sit()
        except OSError as error:
            self._let_go()
            self._folder, self.seat = None, 0
            self._map()
            self._begin()
            warnings.warn(f"limits hold for this process only: {error}", NotShared, stacklevel=2)

    def close(self) -> None:
        """Give the seat back."""
        if self._lock is not None:
            try:  # without waiting: this may be called at any moment, also while this thread is in a change
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # others will find the seat empty
                pass
            else:
                self.page.clear(self.seat)
                self._unlock()
        self._let_go()

    def __del__(self) -> None:
        # Nobody has this endpoint any more: a process that goes through many does not run out of files.
        if hasattr(self, "page"):
            self.close()
        else:
            self._let_go()

    def _map(self) -> None:
        assert issubclass(self._kind, ctypes.Structure)
        start = ctypes.sizeof(_Head)
        size = start + ctypes.sizeof(self._kind)
        # Alone it is no anonymous mapping: a fork's child would share that with its parent, without a lock.
        memory = bytearray(size) if self._folder is None else self._mapped(self._folder, size)
        self._head = _Head.from_buffer(memory)
        self.page: AnyPage = self._kind.from_buffer(memory, start)

    def _mapped(self, folder: Path, size: int) -> mmap.mmap:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(folder / "page", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if (there := os.fstat(file).st_size) < size:
                # Written and not only made longer: a full disk has to be found out now, not when a number is set.
                os.pwrite(file, bytes(size - there), there)
            return mmap.mmap(file, size)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # the memory keeps the file open, and with it the lock
            os.close(file)

    def _sit(self) -> None:
        assert self._folder is not None
        self._lock = self._open("lock")
        with self as now:
            there = range(min(SEATS, self._head.seats + 1))
            empty = {seat: file for seat in there if (file := self._taken(seat)) is not None}
            if not empty:
                raise OSError(f"all {SEATS} seats of {self._folder} are taken")
            self.seat = min(empty)
            self._files.append(empty[self.seat])
            for seat, file in empty.items():
                self.page.clear(seat)
                if seat != self.seat:
                    os.close(file)
            self._head.seats = 1 + max([self.seat, *(seat for seat in there if seat not in empty)])
            old = not 0 <= now - self._head.used <= _KEPT_SECONDS
            if old and len(empty) == len(there):
                # All of it: after a power cut nobody knows which parts of the file are from when.
                assert isinstance(self.page, ctypes.Structure)
                ctypes.memset(ctypes.addressof(self.page), 0, ctypes.sizeof(self.page))
                self._head.begun = False
            if not self._head.begun:
                self._begin()

    def _begin(self) -> None:
        self._head.begun = True
        self.page.begin()

    def _taken(self, seat: int, how: int = os.O_RDWR | os.O_CREAT) -> int | None:
        """The lock of a seat, as an open file, if nobody has it."""
        assert self._folder is not None
        file = os.open(self._folder / f"{seat:04}", how, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError:
            os.close(file)
            raise
        return file

    def _open(self, name: str) -> int:
        assert self._folder is not None
        file = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        self._files.append(file)
        return file

    def _unlock(self) -> None:
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _let_go(self) -> None:
        files, self._files, self._lock = self._files, [], None
        for file in files:
            os.close(file)


def folder_of(endpoint: str, key: str) -> Path:
    """Where processes of this machine and user share what they know of an endpoint and key.

    Its name is a hash: the key is nowhere on disk.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # The machine's name, as a home folder may be shared by the nodes of a cluster.
    name = hashlib.sha256(f"{platform.node()}\n{endpoint}\n{key}".encode()).hexdigest()[:24]
    return home / "personalab" / "limits" / name


def can_share() -> bool:
    """Whether this system has locks of the kind needed."""
    return fcntl is not None


def _form(kind: type) -> str:
    """A name for what a page looks like, so that versions of another form do not read it."""

    def words(kind: Any) -> str:
        if issubclass(kind, ctypes.Array):
            return f"{kind._length_}*{words(kind._type_)}"
        if issubclass(kind, ctypes.Structure):
            return f"({','.join(f'{name}:{words(part)}' for name, part, *_ in kind._fields_)})"
        return str(kind.__name__)

    return f"{zlib.crc32(words(kind).encode()):08x}"
