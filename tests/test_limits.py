"""What a server allows is found out by what gets through: servers of many kinds, played against a clock that is a number."""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from personalab.errors import RateLimited
from personalab.limits import Limits, Ticket
from personalab.pace import Pace
from personalab.slots import Slots

THERE_SECONDS = (0.001, 0.003)
REFUSED_SECONDS = 0.002
EXACT = -1.0


@dataclass
class Server:
    """Takes so many at once, or so many in a window; `asks` is the Retry-After: a number, None, or the true one."""

    at_once: int | None = None
    count: int | None = None
    seconds: float = 60.0
    kind: str = "sliding"
    burst: int = 0
    asks: float | None = EXACT
    inside: int = 0
    inside_most: int = 0
    log: deque[float] = field(default_factory=deque)
    spent: float = 0.0
    at: float = 0.0

    def enter(self, now: float) -> RateLimited | None:
        """Let in, or refused."""
        wait = self._wait(now)
        if wait is None:
            self.inside += 1
            self.inside_most = max(self.inside, self.inside_most)
            return None
        return RateLimited("no", endpoint="", model="", retry_after=wait if self.asks == EXACT else self.asks)

    def _wait(self, now: float) -> float | None:
        if self.at_once is not None and self.inside >= self.at_once:
            return 1.0
        if self.count is None:
            return None
        if self.kind == "bucket":
            self.spent = max(0.0, self.spent - (now - self.at) * self.count / self.seconds)
            self.at = now
            if self.spent > self.burst - 1:
                return (self.spent - self.burst + 1) * self.seconds / self.count
            self.spent += 1
            return None
        begin = now - now % self.seconds if self.kind == "fixed" else now - self.seconds
        while self.log and self.log[0] < begin:
            self.log.popleft()
        if len(self.log) >= self.count:
            return self.log[0] + self.seconds - now if self.kind == "sliding" else begin + self.seconds - now
        self.log.append(now)
        return None


def play(
    server: Server, calls: int, limit: int, latency: Callable[[], float], chance: random.Random
) -> tuple[float, int]:
    """Seconds until all calls are done, and refusals; a refused call comes back as the pool's do."""
    now = 0.0
    limits = Limits(limit, clock=lambda: now)
    queue, events, numbers = deque(range(calls)), [], itertools.count()
    done = refused = 0

    def at(seconds: float, what: str, *rest: Any) -> None:
        heapq.heappush(events, (now + seconds, next(numbers), what, rest))

    def admit() -> None:
        while queue:
            wait = limits.wait(0)
            if wait == 0:
                ticket = gone(limits)
                at(chance.uniform(*THERE_SECONDS), "there", queue.popleft(), ticket)
                continue
            if wait is not None:
                at(wait, "look")
            return

    admit()
    while events:
        now, _, what, rest = heapq.heappop(events)
        if what == "there":
            call, ticket = rest
            error = server.enter(now)
            if error:
                at(REFUSED_SECONDS, "refused", call, ticket, error)
            else:
                at(latency(), "answered", ticket)
            continue
        if what == "answered":
            done, server.inside = done + 1, server.inside - 1
            limits.succeeded(rest[0], len(queue))
            limits.leave(rest[0])
        elif what == "refused":
            call, ticket, error = rest
            refused += 1
            limits.refused(ticket, error)
            limits.leave(ticket)
            if limits.closed_seconds is None:
                at((error.retry_after or 0.5) * chance.uniform(1, 1.25), "back", call)
            else:
                queue.append(call)
        elif what == "back":
            queue.append(rest[0])
        admit()
        if done == calls:
            break
    assert done == calls
    return now, refused


def steady(seconds: float) -> Callable[[random.Random], float]:
    return lambda chance: seconds


def varied(low: float, high: float) -> Callable[[random.Random], float]:
    return lambda chance: chance.uniform(low, high)


ONCE = {"at_once": 5}
SECOND = {"count": 20, "seconds": 1.0}
BUCKET = {"count": 1200, "kind": "bucket", "burst": 20}
MINUTE = {"count": 100}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("rule", "calls", "limit", "latency", "best", "times", "wasted"),
    [
        pytest.param(ONCE | {"asks": 1.0}, 200, 20, steady(0.1), 4.0, 1.1, 25, id="five at once"),
        pytest.param(ONCE | {"asks": None}, 200, 20, steady(0.1), 4.0, 1.1, 25, id="five at once, silent"),
        pytest.param(ONCE | {"asks": 1.0}, 1000, 20, steady(0.1), 20.0, 1.1, 30, id="five at once, longer"),
        pytest.param(ONCE | {"asks": 1.0}, 1000, 20, varied(0.1, 0.3), 40.0, 1.1, 30, id="five at once, varied"),
        pytest.param({"at_once": 20, "asks": 1.0}, 2000, 100, steady(0.2), 20.0, 1.1, 95, id="twenty of a hundred"),
        pytest.param(SECOND, 600, 20, steady(0.2), 29.2, 1.1, 35, id="twenty a second"),
        pytest.param(SECOND, 600, 20, varied(0.1, 0.3), 29.2, 1.1, 35, id="twenty a second, varied"),
        pytest.param(SECOND | {"asks": 1.0}, 600, 20, steady(0.2), 29.2, 1.11, 35, id="twenty a second, asks 1"),
        pytest.param(SECOND | {"asks": None}, 600, 20, steady(0.2), 29.2, 1.11, 40, id="twenty a second, silent"),
        pytest.param(SECOND, 600, 100, steady(0.2), 29.2, 1.1, 115, id="twenty a second, by a hundred"),
        pytest.param(BUCKET, 600, 20, steady(0.2), 29.2, 1.1, 35, id="bucket"),
        pytest.param(BUCKET, 600, 20, varied(0.1, 0.3), 29.2, 1.1, 50, id="bucket, varied"),
        pytest.param(BUCKET | {"asks": None}, 600, 100, steady(0.2), 29.2, 1.1, 115, id="bucket, by a hundred"),
        pytest.param(MINUTE, 450, 20, steady(0.1), 240.3, 1.1, 25, id="a minute"),
        pytest.param(MINUTE | {"kind": "fixed"}, 450, 20, steady(0.1), 240.3, 1.1, 25, id="a fixed minute"),
        pytest.param(MINUTE | {"asks": None}, 450, 20, steady(0.1), 240.3, 1.1, 50, id="a minute, silent"),
        pytest.param(MINUTE | {"asks": 1.0}, 450, 20, steady(0.1), 240.3, 1.1, 50, id="a minute, asks 1"),
        pytest.param(MINUTE, 450, 20, varied(3, 9), 250.0, 1.1, 10, id="a minute, slow"),
    ],
)  # fmt: skip
def test_what_a_server_allows_is_used(
    seed: int,
    rule: dict[str, Any],
    calls: int,
    limit: int,
    latency: Callable[[random.Random], float],
    best: float,
    times: float,
    wasted: int,
) -> None:
    """Nine tenths of it or more, with few requests wasted, whatever is counted and whatever the server says."""
    chance = random.Random(seed)
    server = Server(**rule)
    seconds, refused = play(server, calls, limit, lambda: latency(chance), chance)
    assert seconds <= times * best
    assert refused <= wasted


def test_a_limit_that_is_gone_is_forgotten() -> None:
    """Where the server takes more again, so does the pool, in a few hundred answers."""
    chance = random.Random(0)
    server = Server(at_once=5, asks=1.0)
    latency = lambda: 0.1 if server.log else server.log.append(0) or 0.1  # noqa: E731
    seconds = 0.0

    def lifted() -> float:
        nonlocal seconds
        seconds += 1
        if seconds == 200:
            server.at_once = None
        return latency()

    play(server, 1500, 20, lifted, chance)
    assert server.inside_most == 20


def gone(limits: Limits) -> Ticket:
    """A request that was let in and went."""
    ticket = limits.enter(0)
    limits.go(ticket)
    return ticket


def test_a_slot_is_all_that_one_refusal_takes() -> None:
    """A refusal with more in flight than ever got through narrows by one; success widens again, not above the limit."""
    now = 0.0
    limits = Limits(3, clock=lambda: now)
    tickets = [gone(limits) for _ in range(3)]
    assert limits.wait(0) is None
    limits.refused(tickets[2], RateLimited("no", endpoint="", model="", retry_after=7))
    limits.leave(tickets.pop())
    assert (limits.allowed, limits.closed_seconds) == (2, None)
    for _ in range(40):
        now += 1
        ticket = tickets.pop(0)
        limits.succeeded(ticket, waiting=1000)
        limits.leave(ticket)
        while limits.wait(0) == 0:
            tickets.append(gone(limits))
    assert limits.allowed == 3


@pytest.mark.skipif(sys.platform == "win32", reason="file locks of this kind are POSIX's")
@pytest.mark.parametrize("others", [True, False])
def test_what_gets_through_elsewhere_is_no_matter_of_time(tmp_path: Path, others: bool) -> None:
    """Nothing of this process gets through, but of another's: it is the number at once, and no window is learnt from it."""
    now = 1.0
    limits, elsewhere = (Limits(3, slots=Slots(tmp_path), clock=lambda: now) for _ in range(2))
    first = gone(limits)
    limits.succeeded(first, waiting=0)
    limits.leave(first)
    now = 1.5
    for _ in range(3):
        ticket = gone(limits)
        limits.refused(ticket, RateLimited("no", endpoint="", model="", retry_after=2))
        limits.leave(ticket)
    assert limits.closed_seconds == 2
    now = 2.0
    if others:
        elsewhere.succeeded(gone(elsewhere), waiting=0)
    now = 3.5
    trial = gone(limits)
    limits.succeeded(trial, waiting=0)
    limits.leave(trial)
    assert limits.closed_seconds is None
    assert (limits.wait(0) == 0) == others


def test_a_paced_request_counts_from_when_it_goes() -> None:
    """Nobody is let in before it went, and the next comes a whole step after that, however late it was."""
    now = 0.0
    limits = Limits(3, pace=Pace(60, None, clock=lambda: now), clock=lambda: now)
    assert limits.wait(0) == 0
    ticket = limits.enter(0)
    now = 5.0
    assert limits.wait(0) is None
    limits.go(ticket)
    assert limits.wait(0) == pytest.approx(1, abs=0.05)
    never = limits.enter(0)
    limits.leave(never)  # one that was stopped before it went holds up nobody
    now = 6.1
    assert limits.wait(0) == 0


def test_nothing_goes_while_nothing_gets_through() -> None:
    """Three refusals though no more were in flight than got through: closed as long as asked, then one tries alone."""
    now = 0.0
    limits = Limits(3, clock=lambda: now)
    for _ in range(3):
        assert limits.wait(0) == 0
        ticket = gone(limits)
        limits.refused(ticket, RateLimited("no", endpoint="", model="", retry_after=7))
        limits.leave(ticket)
    assert limits.closed_seconds == limits.wait(0) == 7
    now = 7.0
    assert limits.wait(0) == 0
    trial = gone(limits)
    assert limits.wait(0) > 0
    limits.succeeded(trial, waiting=0)
    assert limits.closed_seconds is None
