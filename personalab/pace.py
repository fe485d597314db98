"""A known rate: so many requests and tokens a minute, spread evenly.

Evenly, as endpoints count in windows of any length: sixty a minute may be enforced as one a second.
"""

from __future__ import annotations

import math
from ctypes import Structure

from personalab.board import laid_out

_MINUTE = 60.0
_LATE_SECONDS = 0.01
"""So much later than its time a request may go without those behind it going later too: timers are late."""
_SPARE = 1.02
"""Two requests do not take equally long to the endpoint, so they go a little further apart than they must.

Over a second, the shortest time that endpoints count by, it is twice what timers may be late.
"""
_DEBT_SECONDS_MAX = 120.0
"""However much was taken before, the next goes after this."""


@laid_out
class Owed(Structure):
    """When the next request may go, by requests and by tokens."""

    requests: float
    tokens: float

    def begin(self) -> None:
        """Nothing is owed."""
        self.requests = self.tokens = -math.inf


class Pace:
    """A pace for requests, for tokens, or both; None is no limit. What is owed may be shared with others."""

    def __init__(self, requests_per_minute: int | None = None, tokens_per_minute: int | None = None) -> None:
        self._request_seconds = _SPARE * _MINUTE / requests_per_minute if requests_per_minute else 0.0
        self._token_seconds = _SPARE * _MINUTE / tokens_per_minute if tokens_per_minute else 0.0
        self.counts_tokens = self._token_seconds > 0
        self.given = self.counts_tokens or self._request_seconds > 0

    def wait(self, owed: Owed, now: float) -> float:
        """Seconds until the next may go."""
        if not self.given:
            return 0.0
        return max(0.0, max(owed.requests, owed.tokens) - now)

    def take(self, owed: Owed, tokens: int, now: float) -> None:
        """A request of so many tokens is let in."""
        if self.given:
            owed.requests = _later(owed.requests, now, self._request_seconds)
            owed.tokens = _later(owed.tokens, now, tokens * self._token_seconds)

    def go(self, owed: Owed, tokens: int, late: float, now: float) -> None:
        """It goes, so many seconds after it was let in: what is late goes on from there."""
        if self.given and late > _LATE_SECONDS:
            owed.requests = min(max(owed.requests, now + self._request_seconds), now + _DEBT_SECONDS_MAX)
            owed.tokens = min(max(owed.tokens, now + tokens * self._token_seconds), now + _DEBT_SECONDS_MAX)

    def settle(self, owed: Owed, tokens: int, now: float) -> None:
        """A request took so many tokens more than was thought, or fewer, if negative."""
        if self.counts_tokens and tokens:
            owed.tokens = _later(owed.tokens, now, tokens * self._token_seconds)


def _later(at: float, now: float, seconds: float) -> float:
    return min(max(at, now - _LATE_SECONDS) + seconds, now + _DEBT_SECONDS_MAX)
