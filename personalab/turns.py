"""Whose turn it is among the pools of one endpoint, in whatever process: of those who wait, who has the fewest in flight."""

from __future__ import annotations

import math
from ctypes import Structure
from typing import Annotated

from personalab.board import SEATS, laid_out

_STAY_SECONDS = 1.0
"""A place goes from one to another with as many in flight only if that one has waited so long: each move takes time."""
_PATIENCE_SECONDS = 0.02
"""Whoever was called has so long to come; then another may go first, until it has come."""


@laid_out
class Seat(Structure):
    """What one pool has let in, and whether it waits."""

    limit: int
    """Most that it has in flight."""
    entered: int
    """Requests let in."""
    gone: int
    """Of them: requests at the endpoint."""
    waiting: int
    """Requests that wait, as far as the others have to know."""
    wants: float
    """From when on it could let one in; infinite while it is held up by itself."""
    since: float
    """When it last let one in, or began to wait."""
    called: float
    """When it was called and has not come yet, or 0."""
    port: int
    """Where it is called."""


@laid_out
class Turns(Structure):
    """The seats of a board, and their sums."""

    entered: int
    gone: int
    waiting: int
    many: int  # seats, the empty ones between others too
    limit: int  # the highest
    equal: bool  # whether all have the same
    seats: Annotated[list[Seat], SEATS]

    def sit(self, number: int, limit: int) -> Seat:
        """A seat's new holder, who may have so many in flight."""
        seat = self.seats[number]
        seat.limit = limit
        seat.wants = math.inf
        self.count()
        return seat

    def clear(self, number: int) -> None:
        """Nobody sits there any more."""
        self.seats[number] = Seat()
        self.count()

    def count(self) -> None:
        """The sums anew."""
        there = [seat for seat in self.seats if seat.limit]
        self.many = max((number + 1 for number, seat in enumerate(self.seats) if seat.limit), default=0)
        self.entered = sum(seat.entered for seat in there)
        self.gone = sum(seat.gone for seat in there)
        self.waiting = sum(seat.waiting for seat in there)
        self.limit = max((seat.limit for seat in there), default=0)
        self.equal = len({seat.limit for seat in there}) <= 1

    def room(self, seat: Seat) -> bool:
        """Whether one more is within every pool's limit.

        Those of a lower limit together keep to it; one of a higher limit goes beyond it, and leaves them theirs.
        """
        if seat.entered >= seat.limit:
            return False
        if self.equal:
            return self.entered < seat.limit
        there = [one for one in self.seats[: self.many] if one.limit]
        return all(
            sum(one.entered for one in there if one.limit <= limit) < limit
            for limit in {one.limit for one in there if one.limit >= seat.limit}
        )

    def enter(self, seat: Seat, now: float) -> None:
        """One is let in."""
        seat.entered += 1
        self.entered += 1
        seat.since = now

    def go(self, seat: Seat) -> None:
        """It is sent."""
        seat.gone += 1
        self.gone += 1

    def leave(self, seat: Seat, *, gone: bool) -> None:
        """It is over."""
        seat.entered -= 1
        self.entered -= 1
        if gone:
            seat.gone -= 1
            self.gone -= 1

    def wait(self, seat: Seat, waiting: int, wants: float, now: float) -> None:
        """So many wait at this seat, and one could go from then on."""
        if waiting and not seat.waiting:
            seat.since = now
        self.waiting += waiting - seat.waiting
        seat.waiting = waiting
        seat.wants = wants if waiting else math.inf
        seat.called = 0.0

    def first(self, seat: Seat, now: float, *, mine: bool) -> Seat | None:
        """Who comes first of those who wait elsewhere; with `mine`, of those who come before this seat."""
        found, before = None, (math.inf, math.inf)
        if mine:  # nobody who has waited for less: two of them would let each other go first
            longest = now - _STAY_SECONDS
            before = seat.entered, min(longest, seat.since) if seat.waiting else longest
        for other in self.seats[: self.many]:
            its = (other.entered, other.since)
            late = 0 < other.called < now - _PATIENCE_SECONDS
            if other.waiting and its < before and other.wants <= now and not late and self.room(other):
                found, before = other, its
        return found

    def patience(self, called: Seat, now: float) -> float:
        """Seconds until whoever was called is not waited for any longer."""
        return max(0.001, called.called + _PATIENCE_SECONDS - now)
