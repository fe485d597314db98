"""The window in which an endpoint counts, as far as it is known: so many requests in so many seconds, by what got through."""

from __future__ import annotations

from bisect import bisect_right

from personalab.allowance import Allowance

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


class Window:
    """What was let in lately, and how much that may be.

    An endpoint that let in some number of requests until it refused, and again some seconds after the first of them,
    lets in that number in those seconds, be its window fixed or sliding or a bucket that is filled again.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._began: float | None = None
        self._allowance: Allowance | None = None
        self._count = 0
        self._seconds = _SECONDS_MAX
        self._held = False

    @property
    def known(self) -> bool:
        """Whether a limit was found."""
        return self._allowance is not None

    def wait(self, now: float) -> float:
        """Seconds until there is room for one more."""
        if self._allowance is None:
            return 0.0
        if self._seconds <= _SHORT_SECONDS:
            back, seconds = 1, self._seconds / self._count * _STEPS / self._allowance.number
        else:
            back, seconds = self._allowance.number, self._seconds
        if len(self._times) < back:
            return 0.0
        wait = self._times[-back] + seconds - now
        self._held = self._held or wait > 0
        return max(0.0, wait)

    def entered(self, now: float, *, alone: bool) -> None:
        """One was let in here; `alone` says that nothing was in flight, so that what came before is over."""
        if self._began is None or (alone and not self._held):
            self._began = now
        if self._times and self._times[0] < now - 2 * _SECONDS_MAX:
            del self._times[: bisect_right(self._times, now - _SECONDS_MAX * _SPARE)]
        self._times.append(now)

    def refused(self, entered: float) -> None:
        """One that was let in here at that time was refused by the endpoint."""
        at = bisect_right(self._times, entered) - 1
        if at >= 0 and self._times[at] == entered:
            del self._times[at]

    def learn(self, closed: float, reopened: float) -> None:
        """Nothing got through from `closed` on until `reopened`, so what did before is what a window holds."""
        began = self._began if self._began is not None else closed
        seconds = min(_SECONDS_MAX, reopened - began) * _SPARE
        count = bisect_right(self._times, closed) - bisect_right(self._times, closed - seconds)
        self._began = reopened
        self._held = False
        if not count:
            return
        self._count, self._seconds = count, seconds
        if seconds <= _SHORT_SECONDS:
            self._allowance = Allowance(_STEPS, successes=_EVEN_SUCCESSES)
        else:
            self._allowance = Allowance(count, successes=count)

    def less(self, sent: float, now: float) -> None:
        """One that was sent at that time was refused though there seemed to be room."""
        if self._allowance is not None and sent >= self._allowance.since:
            self._allowance.less(now)

    def more(self, sent: float, now: float) -> None:
        """One that was sent at that time got through."""
        if self._allowance is not None and self._held:
            self._held = not self._allowance.more(sent, now)
