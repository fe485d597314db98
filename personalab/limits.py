"""What one endpoint lets in at present: how many at once, how many in a while, and whether anything at all.

Too many at once and too many a minute are both answered 429. They are told apart by what got through before. A refusal
with more in flight than ever got through takes a slot away, and the others go on. Refusals with no more in flight
than got through before are about time: when several come in a row, nothing goes until the window has passed, which
single requests find out, and from then on as much in as long a time as got through. Measured in docs/log.md.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from personalab.allowance import Allowance
from personalab.cluster_places import ClusterPlaces
from personalab.config import BACKOFF_FIRST_SECONDS
from personalab.errors import RateLimited
from personalab.pace import Pace
from personalab.quotas import Quota, Quotas, Sent
from personalab.slots import Slots
from personalab.windows import Window

_RECOVERY = 5
"""Successes after which one slot more is tried."""
_BACK = 1.5
"""A refused request is back after so many times what the endpoint asked to wait, about."""
_PROOF = 3
"""Refusals in a row that are not about the number at once, until nothing is sent for a while."""
_CLOSED_FIRST_SECONDS = 0.02
_CLOSED_GROWTH = 1.5
_CLOSED_GUESS_SECONDS_MAX = 4.0
"""Where the endpoint does not say how long to wait, somebody tries again at least this often."""
_CLOSED_MAX_SECONDS = 60.0
"""However long an endpoint asks to wait, somebody tries again after this."""
_REST_FIRST_SECONDS = 1.0
_REST_SECONDS_MAX = 60.0
_REFUSAL_SECONDS_MIN = 0.05
_REFUSAL_SECONDS_MAX = 2.0


class Ticket:
    """One request on its way: when it was let in and when it went, how many were in flight with it, what its answer tells."""

    def __init__(self, limits: Limits, tokens: int, now: float, sent: Sent) -> None:
        self.limits = limits
        self.tokens = tokens
        self.entered = self.at = now
        self.gone = False
        self.sent = sent
        self.beside = 0
        self.place: int | None = None
        self.line: socket.socket | None = None
        self.quotas: tuple[Quota, ...] = ()
        self.used: int | None = None


class Limits:
    """The limits of one endpoint. Not safe by itself: the gate holds its lock around every call."""

    def __init__(
        self,
        limit: int,
        slots: Slots | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        cluster: ClusterPlaces | None = None,
    ) -> None:
        self.limit = limit
        self.slots = slots
        self.cluster = cluster
        self._pace = pace
        self._clock = clock
        self._entered = 0
        self._gone = 0  # of them; the others wait for another process to leave, or for their loop
        self._width = Allowance(limit, successes=_RECOVERY, most=limit)
        self._window = Window()
        self._quotas = Quotas()
        self._through = 1  # most that were in flight, here, when one got through
        self._proof = 0
        self._proof_at = 0.0
        self._width_before_proof = limit
        self._closures = 0
        self._closed_at = 0.0
        self._closed_until = 0.0
        self._trial: Ticket | None = None
        self._time_is_up = True  # not so when others got through since it was closed
        self._refusal_seconds = _REFUSAL_SECONDS_MIN
        self._back_seconds = 0.0
        self._failures = 0
        self._rests_until = 0.0

    @property
    def in_flight(self) -> int:
        """Requests at the endpoint now."""
        return self._gone

    @property
    def outside(self) -> int:
        """Requests that were let in and have not gone: they wait for a place that all processes of the machine share."""
        return self._entered - self._gone

    @property
    def one_by_one(self) -> bool:
        """Whether each has to go before the next is let in, so that those let in one after the other do not go together."""
        return self._pace is not None or self._window.known

    @property
    def allowed(self) -> int:
        """Requests let in at once at present, 1 to `limit`."""
        return self._width.number

    @property
    def load(self) -> float:
        """How full it is, from 0 to 1."""
        return self._entered / self._width.number

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a request takes."""
        return self._quotas.count_tokens or (self._pace is not None and self._pace.counts_tokens)

    @property
    def rests(self) -> bool:
        """Whether it is left alone, as it did not answer."""
        return self._failures > 0

    @property
    def closed_seconds(self) -> float | None:
        """Seconds for which nothing goes, as nothing gets through; None while something does."""
        return max(0.0, self._closed_until - self._clock()) if self._closures else None

    def wait(self, tokens: int) -> float | None:
        """0 if a request of so many tokens may enter, and has to; else the seconds until it might, None for unknown."""
        now = self._clock()
        if self._entered >= self._width.number or (self.outside and self.one_by_one):
            return None
        if self._failures and (self._entered or now < self._rests_until):
            return self._rests_until - now if now < self._rests_until else None
        if self._closures:
            if now < self._closed_until:
                return self._closed_until - now
            if self._trial is not None:
                if not self._trial.gone:
                    return None
                # A refusal is quick, an answer is not: what was not refused by now has got through.
                if now < (through := self._trial.at + self._refusal_seconds):
                    return through - now
                self._open(self._trial)
        wait = max(self._window.wait(now), self._quotas.wait(tokens, now))
        if wait > 0 or self._pace is None:
            return wait
        return self._pace.take(tokens)

    def enter(self, tokens: int) -> Ticket:
        """Let a request in; `go`, when it does, and `leave` have to follow."""
        self._entered += 1
        ticket = Ticket(self, tokens, self._clock(), self._quotas.send(tokens))
        if self._closures:
            self._trial = ticket
            self._time_is_up = not self._others_got_through()
        return ticket

    def go(self, ticket: Ticket) -> None:
        """It has its place and is sent."""
        ticket.at = self._clock()
        ticket.gone = True
        self._window.entered(ticket.at, alone=self._gone == 0 and not self._closures)
        self._gone += 1
        ticket.beside = self._gone
        if self._pace is not None:
            self._pace.gone(ticket.tokens, late=ticket.at - ticket.entered)

    def leave(self, ticket: Ticket) -> None:
        """A request is over, however it ended."""
        self._entered -= 1
        self._gone -= ticket.gone
        if ticket is self._trial:  # it ended in neither way that teaches: the next one tries
            self._trial = None
        if self._pace is not None and ticket.used is not None:
            self._pace.settle(ticket.used - ticket.tokens)

    def refused(self, ticket: Ticket, error: RateLimited) -> None:
        """A request met a rate limit."""
        now = self._clock()
        ticket.used = 0
        self._window.refused(ticket.at)
        self._quotas.told(error.quotas, ticket.sent, now)
        self._refusal_seconds = min(_REFUSAL_SECONDS_MAX, max(_REFUSAL_SECONDS_MIN, 2 * (now - ticket.at)))
        self._back_seconds = _BACK * (error.retry_after or BACKOFF_FIRST_SECONDS)
        if self._closures:
            if ticket is self._trial:
                self._close(now, error.retry_after)
        elif ticket.beside > self._through:
            self._width.less(now)
        else:
            self._not_the_number(ticket, now, error.retry_after)

    def succeeded(self, ticket: Ticket, waiting: int) -> None:
        """A request got through while so many wait."""
        now = self._clock()
        self._quotas.told(ticket.quotas, ticket.sent, now)
        self._through = max(self._through, ticket.beside)
        if self.slots is not None and ticket is not self._trial:
            self.slots.got_through(ticket.at)
        self._failures = 0
        # One more is tried only while there is so much to do that the refused one is back before the others are done.
        if waiting * (now - ticket.at) / self._width.number >= self._back_seconds:
            self._width.more(ticket.at, now)
            self._window.more(ticket.at, now)
        if self._closures:
            if ticket is self._trial:
                self._open(ticket)
        elif ticket.at > self._proof_at:
            self._proof = 0

    def rest(self) -> None:
        """It did not answer: it is left alone for a while, and then one request tries."""
        now = self._clock()
        if now < self._rests_until:  # others that were in flight with the first say the same
            return
        rest = min(_REST_SECONDS_MAX, _REST_FIRST_SECONDS * 2**self._failures)
        self._failures += 1
        self._rests_until = now + rest

    def _not_the_number(self, ticket: Ticket, now: float, retry_after: float | None) -> None:
        if self._proof == 0:
            self._proof_at, self._width_before_proof = now, self._width.number
        self._proof += 1
        if self._proof >= _PROOF:
            self._width.restore(self._width_before_proof, now)
            self._closed_at = self._proof_at
            self._close(now, retry_after)
        elif self._window.known:
            self._window.less(ticket.at, now)
        else:
            self._width.less(now)

    def _others_got_through(self) -> bool:
        """Whether a request of another process got through that was sent since nothing of this one does."""
        return self.slots is not None and self._closed_at < self.slots.through <= self._clock()

    def _close(self, now: float, retry_after: float | None) -> None:
        guess = _CLOSED_FIRST_SECONDS * _CLOSED_GROWTH**self._closures
        wait = max(retry_after or 0.0, min(_CLOSED_GUESS_SECONDS_MAX, guess))
        self._closures += 1
        self._closed_until = now + min(_CLOSED_MAX_SECONDS, wait)
        self._trial = None

    def _open(self, trial: Ticket) -> None:
        if self._time_is_up:
            self._window.learn(self._closed_at, trial.at)
        self._closures = self._proof = 0
        self._trial = None


class NoLimits(Limits):
    """Where requests go into batches: they wait together, so that all may enter, and nothing that comes of it teaches."""

    @property
    def closed_seconds(self) -> float | None:
        """It is never closed."""
        return None

    def wait(self, tokens: int) -> float | None:
        """There is always room."""
        return 0.0

    def refused(self, ticket: Ticket, error: RateLimited) -> None:
        """A limit that a line of a batch met is the provider's concern."""

    def succeeded(self, ticket: Ticket, waiting: int) -> None:
        """It says nothing of how many may go at once."""

    def rest(self) -> None:
        """A batch that cannot be had is told to those who wait for it."""
