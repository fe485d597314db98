"""How much an endpoint lets in, found out by trying: one less after a refusal, more after some successes."""

from __future__ import annotations

_SUCCESSES_MAX = 1_000
"""That are waited for, at most, where one more has been refused again and again."""


class Allowance:
    """A number from 1 to `most`, or without an upper end.

    After so many successes one more is tried. If that is refused, the next try waits twice as long; if it is not, twice
    as many more are tried. So a fixed limit is passed ever more seldom, and one that is gone is soon forgotten. A
    request counts only if it was sent since the number last changed. Times are in seconds, of any one clock.
    """

    def __init__(self, number: int, successes: int, most: int | None = None) -> None:
        self.number = number
        self._most = most
        self._first = self._needed = self._left = successes
        self._step = 1
        self._trying = False
        self._since = float("-inf")

    def less(self, now: float) -> None:
        """Something was refused: one less, or what it was before the try."""
        number = self.number - (self._step if self._trying else 1)
        if self._trying:
            self._needed = min(2 * self._needed, _SUCCESSES_MAX)
        self._change(max(1, number), now, trying=False)
        self._step = 1

    @property
    def since(self) -> float:
        """When the number last changed."""
        return self._since

    def more(self, sent: float, now: float) -> bool:
        """Something that was sent at that time was let in; whether more is tried from now on."""
        if sent < self._since or self.number == self._most:
            return False
        self._left -= 1
        if self._left > 0:
            return False
        if self._trying:
            self._needed = self._first
            self._step *= 2
        self._change(self.number + self._step, now, trying=True)
        return True

    def restore(self, number: int, now: float) -> None:
        """The refusals since it was `number` were about something else."""
        self._change(number, now, trying=False)
        self._step = 1

    def _change(self, number: int, now: float, *, trying: bool) -> None:
        self.number = number if self._most is None else min(number, self._most)
        self._left = self._needed
        self._trying = trying
        self._since = now
