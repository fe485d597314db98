"""The window in which an endpoint counts, as far as it is known: so many requests in so many seconds, by what got through."""

from __future__ import annotations

import math
from bisect import bisect_right
from ctypes import Structure
from typing import Annotated

from personalab.allowance import Allowance
from personalab.board import laid_out

_SECONDS_MAX = 60.0
"""The longest window that is kept to; of longer ones only the refusals are obeyed."""
_SHORT_SECONDS = 5.0
"""A window up to this long is gone through evenly, so that a little too much is one refusal and not a whole burst's."""
_STEPS = 100
"""Into how many steps a rate is divided when more or less of it is tried."""
_EVEN_SUCCESSES = 20
"""Until one step more of a rate is tried."""
_SPARE = 1.01
"""Two requests do not take equally long to the endpoint, so the window is taken a little longer than it seems."""
_ROUND_SECONDS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0)
"""Windows are as long as this, mostly, so that is when it is worth trying whether one is over."""
_ROUND_SPARE, _ROUND_SPARE_SECONDS = 1.025, 0.05
"""A try that comes a moment too soon costs the time until the next, and first connections take their time."""
_TIMES = 32_768
"""Requests that are remembered, at most; a limit of more than half of that in a window is not kept to."""


@laid_out
class Window(Structure):
    """What was let in lately, and how much that may be.

    An endpoint that let in some number of requests until it refused, and again some seconds after the first of them,
    lets in that number in those seconds, be its window fixed or sliding or a bucket that is filled again.
    """

    times: Annotated[list[float], _TIMES]
    many: int  # of them
    began: float  # no number before the first request
    known: bool  # whether a limit was found
    count: int
    seconds: float
    allowance: Allowance
    held: bool

    def begin(self) -> None:
        """Nothing was let in yet, and no limit is known."""
        self.many = 0
        self.began = math.nan
        self.known = self.held = False
        self.seconds = _SECONDS_MAX

    def wait(self, now: float) -> float:
        """Seconds until there is room for one more."""
        if not self.known:
            return 0.0
        if self.seconds <= _SHORT_SECONDS:
            back, seconds = 1, self.seconds / self.count * _STEPS / self.allowance.number
        else:
            back, seconds = int(self.allowance.number), self.seconds
        if self.many < back:
            return 0.0
        wait = self.times[self.many - back] + seconds - now
        if wait > 0:
            self.held = True
        return max(0.0, wait)

    def enter(self, now: float, *, alone: bool) -> None:
        """One is let in; `alone` says that nothing was in flight, so that what came before is over."""
        if math.isnan(self.began) or (alone and not self.held):
            self.began = now
        if self.many == _TIMES or (self.many and self.times[0] < now - 2 * _SECONDS_MAX):
            self._forget(now - _SECONDS_MAX * _SPARE)
        self.times[self.many] = now
        self.many += 1

    def move(self, entered: float, now: float) -> None:
        """One that was let in at that time goes only now."""
        times, last = self.times, self.many - 1
        if last < 0 or times[last] != entered:  # others were let in since
            self.take_back(entered)
            last, self.many = self.many, self.many + 1
        times[last] = now

    def take_back(self, entered: float) -> None:
        """One that was let in at that time did not go, or the endpoint refused it."""
        at = bisect_right(self.times, entered, 0, self.many) - 1
        if at >= 0 and self.times[at] == entered:
            self.times[at : self.many - 1] = self.times[at + 1 : self.many]
            self.many -= 1

    def learn(self, closed: float, reopened: float) -> None:
        """Nothing got through from `closed` on until `reopened`, so what did before is what a window holds."""
        began = closed if math.isnan(self.began) else self.began
        seconds = min(_SECONDS_MAX, reopened - began) * _SPARE
        count = self._until(closed) - self._until(closed - seconds)
        self.began = reopened
        self.held = False
        if not count:
            return
        self.known, self.count, self.seconds = True, count, seconds
        if seconds <= _SHORT_SECONDS:
            self.allowance.begin(_STEPS, successes=_EVEN_SUCCESSES)
        else:
            self.allowance.begin(count, successes=count)

    def likely(self, now: float, seconds: float) -> float:
        """When to try whether the window is over, in about so many seconds: when one of a usual length is, if one is near."""
        for usual in _ROUND_SECONDS:
            wait = self.began + _ROUND_SPARE * usual + _ROUND_SPARE_SECONDS - now
            if seconds / 4 <= wait <= 1.5 * seconds:
                return wait
        return seconds

    def less(self, sent: float, now: float) -> None:
        """One that was sent at that time was refused though there seemed to be room."""
        if self.known and sent >= self.allowance.since:
            self.allowance.less(now)

    def more(self, sent: float, now: float) -> None:
        """One that was sent at that time got through."""
        if self.known and self.held:
            self.held = not self.allowance.more(sent, now)

    def _until(self, time: float) -> int:
        """How many were let in until then."""
        return bisect_right(self.times, time, 0, self.many)

    def _forget(self, before: float) -> None:
        first = max(self._until(before), self.many // 2 if self.many == _TIMES else 0)
        self.times[0 : self.many - first] = self.times[first : self.many]
        self.many -= first
