"""How much an endpoint lets in, found out by trying: one less after a refusal, one more after many successes."""

from __future__ import annotations

_BACKED_OFF_MAX = 16
"""Times as many successes that are waited for, at most, where one more has been refused again and again."""


class Allowance:
    """A number from 1 to `most`, or without an upper end.

    One more is tried after `successes` in a row. If that is refused, the next try waits twice as long; if it is not,
    the one after it waits half as long. So a fixed limit is passed ever more seldom, and one that is gone soon forgotten.
    """

    def __init__(self, number: int, successes: int, most: int | None = None) -> None:
        self.number = number
        self._most = most
        self._first = self._needed = max(1, successes)
        self._left = self._first
        self._trying = False

    def less(self) -> None:
        """Something was refused."""
        self.number = max(1, self.number - 1)
        self._needed = min(2 * self._needed, _BACKED_OFF_MAX * self._first) if self._trying else self._first
        self._left = self._needed
        self._trying = False

    def more(self) -> None:
        """Something was let in."""
        if self.number == self._most:
            return
        self._left -= 1
        if self._left > 0:
            return
        if self._trying:
            self._needed = max(1, self._needed // 2)
        self.number += 1
        self._left = self._needed
        self._trying = True

    def restore(self, number: int) -> None:
        """The refusals since it was `number` were about something else."""
        self.number = number
        self._needed = self._left = self._first
        self._trying = False
