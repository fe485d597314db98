"""What one endpoint lets in at present: how many at once, how many in a while, and whether anything at all.

Too many at once and too many a minute are both answered 429. They are told apart by what got through before. A refusal
with more in flight than ever got through takes a slot away, and the others go on. Refusals with no more in flight
than got through before are about time: when several come in a row, nothing goes until the window has passed, which
single requests find out, and from then on as much in as long a time as got through. Measured in docs/log.md.

All that is known stands on a board that the processes of a machine share, so they find out together what one would.
"""

from __future__ import annotations

import ctypes
import math
import socket
from typing import Protocol

from personalab.allowance import Allowance
from personalab.board import Board, laid_out
from personalab.cluster_places import ClusterPlaces
from personalab.config import BACKOFF_FIRST_SECONDS
from personalab.errors import RateLimited
from personalab.pace import Owed, Pace
from personalab.quotas import Quota, Quotas, Sent
from personalab.turns import Turns
from personalab.windows import Window

_RECOVERY = 5
"""Successes after which one slot more is tried."""
_BACK = 1.5
"""A refused request is back after so many times what the endpoint asked to wait, about."""
_PROOF = 3
"""Refusals in a row that are not about the number at once, until nothing is sent for a while."""
_CLOSED_FIRST_SECONDS = 0.02
_CLOSED_GROWTH = 1.85
_CLOSED_GUESS_SECONDS_MAX = 10.0
"""Where the endpoint does not say how long to wait, somebody tries again at least this often."""
_CLOSED_MAX_SECONDS = 60.0
"""However long an endpoint asks to wait, somebody tries again after this."""
_REST_FIRST_SECONDS = 1.0
_REST_SECONDS_MAX = 60.0
_REFUSAL_SECONDS_MIN = 0.05
_REFUSAL_SECONDS_MAX = 2.0
_APART_SECONDS_MIN, _APART_SECONDS_MAX = 0.001, 0.005
"""Requests go so far apart where answers take long enough for it: a refusal of the first stops the others."""
_LOOK_SECONDS = 0.1
"""The dead tell nobody that they left, so whoever waits looks this often."""


@laid_out
class Known(ctypes.Structure):
    """What stands on the board of an endpoint: who is there, and what was learnt."""

    turns: Turns
    width: Allowance
    window: Window
    quotas: Quotas
    owed: Owed
    tickets: int
    through: int
    """Most that were in flight when one got through."""
    proof: int
    proof_at: float
    width_before_proof: float
    closures: int
    closed_at: float
    closed_until: float
    trial: int
    """The ticket of the one that tries whether the endpoint lets in again, or 0; from which seat, and when it went."""
    trial_seat: int
    trial_at: float
    refusal_seconds: float
    back_seconds: float
    failures: int
    rests_until: float
    answer_seconds: float
    entered_at: float

    def begin(self) -> None:
        """Nothing was learnt yet."""
        self.turns.count()
        self.width.begin(math.inf, successes=_RECOVERY)
        self.window.begin()
        self.quotas.begin()
        self.owed.begin()
        self.through = 1
        self.proof = self.closures = self.trial = self.failures = 0
        self.refusal_seconds = _REFUSAL_SECONDS_MIN
        self.back_seconds = self.answer_seconds = 0.0

    def clear(self, seat: int) -> None:
        """Whoever had this seat is gone, with all that was in flight."""
        self.turns.clear(seat)
        if self.trial_seat == seat:
            self.trial = 0


class Caller(Protocol):
    """Wakes those who wait elsewhere: a `Bell`."""

    number: int

    def ring(self, number: int) -> None:
        """Wake whoever has that number."""


class Ticket:
    """One request on its way: when it was let in and when it went, how many were in flight with it, what its answer tells."""

    def __init__(self, limits: Limits, number: int, tokens: int, now: float, sent: Sent) -> None:
        self.limits = limits
        self.number = number
        self.tokens = tokens
        self.entered = self.at = now
        self.gone = False
        self.sent = sent
        self.beside = 0
        self.line: socket.socket | None = None
        self.quotas: tuple[Quota, ...] = ()
        self.used: int | None = None


class Limits:
    """The limits of one endpoint, for one pool. Not safe by itself: the gate holds its lock around every call."""

    def __init__(
        self,
        limit: int,
        board: Board[Known] | None = None,
        pace: Pace | None = None,
        cluster: ClusterPlaces | None = None,
    ) -> None:
        self.limit = limit
        self.cluster = cluster
        self._board = board or Board(Known)
        self._pace = pace or Pace()
        self._caller: Caller | None = None
        self._sit()

    def _sit(self) -> None:
        known = self._known = self._board.page
        # A structure inside of another is an object made anew each time that it is asked for.
        self._turns, self._width, self._window = known.turns, known.width, known.window
        self._quotas, self._owed = known.quotas, known.owed
        with self._board:
            self._seat = self._turns.sit(self._board.seat, self.limit)
            self._seat.port = self._caller.number if self._caller else 0

    def called_by(self, caller: Caller) -> None:
        """Where this pool is called when it is its turn, and by which it calls others."""
        self._caller = caller
        self._seat.port = caller.number

    def begin_again(self) -> None:
        """In a fork's child: none of its parent's requests are in flight here."""
        self._board.begin_again()
        self._sit()

    @property
    def in_flight(self) -> int:
        """Requests of this pool at the endpoint now."""
        return self._seat.gone

    @property
    def outside(self) -> int:
        """Requests that were let in and have not gone: their loop has not come to them yet."""
        return self._seat.entered - self._seat.gone

    @property
    def one_by_one(self) -> bool:
        """Whether each has to go before the next is let in, so that those let in one after the other do not go together."""
        return self._pace.given or self._window.known

    @property
    def allowed(self) -> int:
        """Requests let in at once at present, by all pools together, 1 to `limit`."""
        return int(min(self.limit, self._width.number))

    @property
    def load(self) -> float:
        """How full it is, from 0 to 1."""
        return self._turns.entered / min(self._turns.limit, self._width.number)

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens a request takes."""
        return self._quotas.count_tokens or self._pace.counts_tokens

    @property
    def rests(self) -> bool:
        """Whether it is left alone, as it did not answer."""
        return self._known.failures > 0

    @property
    def closed_seconds(self) -> float | None:
        """Seconds for which nothing goes, as nothing gets through; None while something does.

        Only read, so that whoever asks needs no lock: a second change beside that of another thread would spoil the page.
        """
        return max(0.0, self._known.closed_until - self._board.clock()) if self._known.closures else None

    def enter(self, tokens: int, waiting: int = 0) -> Ticket | float:
        """Let a request of so many tokens in, beside which so many wait here; else the seconds until it might be.

        A ticket has to `go`, and to end in one of the ways below. Infinite seconds: something has to happen here first.
        """
        with self._board as now:
            full = not self._turns.room(self._seat) or self._turns.entered >= self._width.number
            wait = math.inf if full else self._wait(tokens, now)
            if wait == 0:
                wait = self._call(now, mine=True)
            if wait > 0:
                held_up = self._seat.entered >= self.limit or (self.outside and self.one_by_one)
                wants = math.inf if held_up else now if wait == math.inf else now + wait
                self._turns.wait(self._seat, waiting + 1, wants, now)
                if wait == math.inf and self._board.shared:
                    self._board.look(now, _LOOK_SECONDS)
                    return _LOOK_SECONDS
                return wait
            self._turns.enter(self._seat, now)
            if waiting or self._seat.waiting:
                self._turns.wait(self._seat, waiting, now, now)
            ticket = self._ticket(tokens, now)
            if not waiting:
                self._call(now, mine=False)
            return ticket

    def go(self, ticket: Ticket) -> bool:
        """It is sent; whether others have waited for that, so that somebody has to look again."""
        with self._board as now:
            ticket.gone, ticket.at = True, now
            self._window.move(ticket.entered, now)
            self._turns.go(self._seat)
            ticket.beside = self._turns.gone
            self._pace.go(self._owed, ticket.tokens, now - ticket.entered, now)
            if trial := ticket.number == self._known.trial:
                self._known.trial_at = now
            return trial or self.one_by_one

    def refused(self, ticket: Ticket, error: RateLimited) -> None:
        """It met a rate limit."""
        with self._board as now:
            known = self._known
            ticket.used = 0
            self._window.take_back(ticket.at)
            self._quotas.told(error.quotas, ticket.sent, now)
            known.refusal_seconds = min(
                _REFUSAL_SECONDS_MAX, max(_REFUSAL_SECONDS_MIN, 2 * (now - ticket.at))
            )
            known.back_seconds = _BACK * (error.retry_after or BACKOFF_FIRST_SECONDS)
            if known.closures:
                if ticket.number == known.trial:
                    self._close(now, error.retry_after)
            elif ticket.beside > known.through:
                self._less(now)
            else:
                self._not_the_number(ticket, now, error.retry_after)
            self._leave(ticket, now)

    def succeeded(self, ticket: Ticket, waiting: int) -> None:
        """It got through, while so many wait here."""
        with self._board as now:
            known = self._known
            self._quotas.told(ticket.quotas, ticket.sent, now)
            # What several processes send at once arrives in any order, so the last to go may get through where those
            # beside it are refused: these have left by now.
            known.through = max(known.through, min(ticket.beside, self._turns.gone))
            known.failures = 0
            known.answer_seconds = now - ticket.at
            waiting += self._turns.waiting - self._seat.waiting
            # One more is tried only while there is so much to do that the refused one is back before the others are done.
            width = min(self._turns.limit, self._width.number)
            if waiting * (now - ticket.at) / width >= known.back_seconds:
                self._width.more(ticket.at, now, self._turns.limit)
                self._window.more(ticket.at, now)
            if known.closures:
                if ticket.number == known.trial:
                    self._open(ticket.at)
            elif ticket.at > known.proof_at:
                known.proof = 0
            self._leave(ticket, now)

    def unanswered(self, ticket: Ticket) -> None:
        """The endpoint did not answer: it is left alone for a while, and then one request tries."""
        with self._board as now:
            known = self._known
            if now >= known.rests_until:  # else others that were in flight with the first have said the same
                known.rests_until = now + min(_REST_SECONDS_MAX, _REST_FIRST_SECONDS * 2**known.failures)
                known.failures += 1
            self._leave(ticket, now)

    def ended(self, ticket: Ticket) -> None:
        """It is over, in a way that teaches nothing, or did not go at all."""
        with self._board as now:
            if not ticket.gone:
                self._window.take_back(ticket.entered)
            self._leave(ticket, now)

    def nobody_waits(self) -> None:
        """Nothing waits here any more."""
        with self._board as now:
            self._turns.wait(self._seat, 0, math.inf, now)
            self._call(now, mine=False)

    def _wait(self, tokens: int, now: float) -> float:
        """Seconds until the endpoint lets one in; infinite if that is to be told by one that is on its way."""
        known = self._known
        if self.outside and self.one_by_one:
            return math.inf
        if known.failures and (self._turns.entered or now < known.rests_until):
            return known.rests_until - now if now < known.rests_until else math.inf
        if known.closures:
            if now < known.closed_until:
                return known.closed_until - now
            if known.trial:
                # A refusal is quick, an answer is not: what was not refused by now has got through.
                if now < (through := known.trial_at + known.refusal_seconds):
                    return through - now
                self._open(known.trial_at)
        return max(
            self._apart(now),
            self._window.wait(now),
            self._quotas.wait(tokens, now),
            self._pace.wait(self._owed, now),
        )

    def _apart(self, now: float) -> float:
        """Seconds until one may go after the last, so that a whole burst is not on its way when the first is refused."""
        if self._window.known or self._pace.given:
            return 0.0
        known = self._known
        apart = min(_APART_SECONDS_MAX, known.answer_seconds / min(self._turns.limit, self._width.number) / 3)
        return max(0.0, known.entered_at + apart - now) if apart >= _APART_SECONDS_MIN else 0.0

    def _call(self, now: float, *, mine: bool) -> float:
        """0 if nobody elsewhere comes first; else who does is called, and has so many seconds to come."""
        if self._turns.waiting == self._seat.waiting:
            return 0.0
        first = self._turns.first(self._seat, now, mine=mine)
        if first is None:
            return 0.0
        if not first.called and self._caller is not None:
            first.called = now
            self._caller.ring(first.port)
        return self._turns.patience(first, now)

    def _ticket(self, tokens: int, now: float) -> Ticket:
        known = self._known
        known.tickets += 1
        known.entered_at = now
        if known.closures:
            known.trial, known.trial_seat, known.trial_at = known.tickets, self._board.seat, math.inf
        self._window.enter(now, alone=self._turns.gone == 0 and not known.closures)
        self._pace.take(self._owed, tokens, now)
        return Ticket(self, known.tickets, tokens, now, self._quotas.send(tokens))

    def _leave(self, ticket: Ticket, now: float) -> None:
        self._turns.leave(self._seat, gone=ticket.gone)
        if ticket.number == self._known.trial:  # it ended in neither way that teaches: the next one tries
            self._known.trial = 0
        if ticket.used is not None:
            self._pace.settle(self._owed, ticket.used - ticket.tokens, now)
        if not self._seat.waiting:
            self._call(now, mine=False)

    def _less(self, now: float) -> None:
        self._width.number = min(self._width.number, self._turns.limit)
        self._width.less(now)

    def _not_the_number(self, ticket: Ticket, now: float, retry_after: float | None) -> None:
        known = self._known
        if known.proof == 0:
            known.proof_at, known.width_before_proof = now, self._width.number
        known.proof += 1
        if known.proof >= _PROOF:
            self._width.restore(known.width_before_proof, now)
            known.closed_at = known.proof_at
            self._close(now, retry_after)
        elif self._window.known:
            self._window.less(ticket.at, now)
        else:
            self._less(now)

    def _close(self, now: float, retry_after: float | None) -> None:
        known = self._known
        guess = min(_CLOSED_GUESS_SECONDS_MAX, _CLOSED_FIRST_SECONDS * _CLOSED_GROWTH**known.closures)
        wait = (
            max(retry_after or 0.0, self._window.likely(now, guess))
            if known.closures
            else retry_after or guess
        )
        known.closures += 1
        known.closed_until = now + min(_CLOSED_MAX_SECONDS, wait)
        known.trial = 0

    def _open(self, tried: float) -> None:
        """One that was sent at that time got through."""
        known = self._known
        self._window.learn(known.closed_at, tried)
        known.closures = known.proof = known.trial = 0


class NoLimits(Limits):
    """Where requests go into batches: they wait together, so that all may enter, and nothing that comes of it teaches."""

    @property
    def closed_seconds(self) -> float | None:
        """It is never closed."""
        return None

    def enter(self, tokens: int, waiting: int = 0) -> Ticket | float:
        """There is always room."""
        with self._board as now:
            self._turns.enter(self._seat, now)
            return self._ticket(tokens, now)

    def refused(self, ticket: Ticket, error: RateLimited) -> None:
        """A limit that a line of a batch met is the provider's concern."""
        self.ended(ticket)

    def succeeded(self, ticket: Ticket, waiting: int) -> None:
        """It says nothing of how many may go at once."""
        self.ended(ticket)

    def unanswered(self, ticket: Ticket) -> None:
        """A batch that cannot be had is told to those who wait for it."""
        self.ended(ticket)
