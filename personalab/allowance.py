"""How much an endpoint lets in, found out by trying: one less after a refusal, more after some successes."""

from __future__ import annotations

import math
from ctypes import Structure

from personalab.board import laid_out

_SUCCESSES_MAX = 1_000
"""That are waited for, at most, where one more has been refused again and again."""


@laid_out
class Allowance(Structure):
    """A number from 1 on.

    After so many successes one more is tried. If that is refused, the next try waits twice as long; if it is not, twice
    as many more are tried. So a fixed limit is passed ever more seldom, and one that is gone is soon forgotten. A
    request counts only if it was sent since the number last changed. Times are in seconds, of any one clock.
    """

    number: float
    first: int
    needed: int
    left: int
    step: int
    trying: bool
    since: float  # when the number last changed

    def begin(self, number: float, successes: int) -> None:
        """A number that nothing is known against yet."""
        self.number = number
        self.first = self.needed = self.left = successes
        self.step = 1
        self.trying = False
        self.since = -math.inf

    def less(self, now: float) -> None:
        """Something was refused: one less, or what it was before the try."""
        number = self.number - (self.step if self.trying else 1)
        if self.trying:
            self.needed = min(2 * self.needed, _SUCCESSES_MAX)
        self._change(max(1, number), now, trying=False)
        self.step = 1

    def more(self, sent: float, now: float, most: float = math.inf) -> bool:
        """Something that was sent at that time was let in; whether more is tried from now on."""
        if sent < self.since or self.number >= most:
            return False
        self.left -= 1
        if self.left > 0:
            return False
        if self.trying:
            self.needed = self.first
            self.step *= 2
        self._change(min(most, self.number + self.step), now, trying=True)
        return True

    def restore(self, number: float, now: float) -> None:
        """The refusals since it was `number` were about something else."""
        self._change(number, now, trying=False)
        self.step = 1

    def _change(self, number: float, now: float, *, trying: bool) -> None:
        self.number = number
        self.left = self.needed
        self.trying = trying
        self.since = now
