"""A known rate: so many requests and tokens a minute, spread evenly, for all processes of this machine.

Evenly, as endpoints count in windows of any length: sixty a minute may be enforced as one a second. The state is
the time at which the next may go, in a small file that is changed under a lock.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_MINUTE = 60.0
_LATE_SECONDS = 0.01
"""So much later than its time a request may go without those behind it going later too: timers are late."""
_SPARE = 1.02
"""Two requests do not take equally long to the endpoint, so they go a little further apart than they must.

Over a second, the shortest time that endpoints count by, it is twice what timers may be late.
"""
_DEBT_SECONDS_MAX = 120.0
"""However much was taken before, the next goes after this."""
_STATE = struct.Struct("<dd")
_POLL_SECONDS = 0.001


class Pace:
    """A pace for requests, for tokens, or both; None is no limit. Without a file it holds for this process only.

    Raises:
        OSError: the file cannot be written or locked.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._request_seconds = _SPARE * _MINUTE / requests_per_minute if requests_per_minute else 0.0
        self._token_seconds = _SPARE * _MINUTE / tokens_per_minute if tokens_per_minute else 0.0
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._next = [0.0, 0.0]  # when a request may go, by requests and by tokens
        self._file_lock: FileLock | None = None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file_lock = FileLock(f"{file}.lock")

    @property
    def counts_tokens(self) -> bool:
        """Whether the number of tokens matters."""
        return self._token_seconds > 0

    def take(self, tokens: int) -> float:
        """0 and a request of so many tokens may go, or the seconds after which to ask again."""
        now = self._clock()
        with self._state() as state:
            for index, at in enumerate(state):
                if (
                    not at <= now + _DEBT_SECONDS_MAX
                ):  # nobody writes such a time: the clock was set back since
                    state[index] = now
            wait = max(state) - now
            if wait > 0:
                return wait
            self._add(state, now, self._request_seconds, tokens * self._token_seconds)
            return 0.0

    def gone(self, tokens: int, late: float) -> None:
        """A request of so many tokens went so many seconds after it was let in: what is late goes on from there."""
        if late > _LATE_SECONDS:
            now = self._clock()
            with self._state() as state:
                for index, more in enumerate((self._request_seconds, tokens * self._token_seconds)):
                    state[index] = min(max(state[index], now + more), now + _DEBT_SECONDS_MAX)

    def settle(self, tokens: int) -> None:
        """A request took so many tokens more than was thought, or fewer, if negative."""
        if tokens and self._token_seconds:
            with self._state() as state:
                self._add(state, self._clock(), 0.0, tokens * self._token_seconds)

    def _add(self, state: list[float], now: float, *seconds: float) -> None:
        for index, more in enumerate(seconds):
            state[index] = min(max(state[index], now - _LATE_SECONDS) + more, now + _DEBT_SECONDS_MAX)

    @contextmanager
    def _state(self) -> Iterator[list[float]]:
        with self._lock:
            if self._file is None or self._file_lock is None:
                yield self._next
                return
            with self._file_lock.acquire(poll_interval=_POLL_SECONDS):
                self._next = _read(self._file)
                before = list(self._next)
                yield self._next
                if self._next != before:
                    self._file.write_bytes(_STATE.pack(*self._next))


def _read(file: Path) -> list[float]:
    try:
        return list(_STATE.unpack(file.read_bytes()))
    except (FileNotFoundError, struct.error):  # not yet there, or its writer died: nothing is owed
        return [0.0, 0.0]
