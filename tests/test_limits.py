"""What a server allows is found out by what gets through: servers of many kinds, played against a clock that is a number."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from personalab.board import Board
from personalab.errors import RateLimited
from personalab.gate import Gate
from personalab.limits import Known, Limits, Ticket
from personalab.pace import Pace

THERE_SECONDS = (0.001, 0.003)
RUNG_SECONDS = 0.0005
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


@dataclass
class Pool:
    """One of several that ask a server beside each other: its limits, and the calls that wait."""

    limits: Limits
    queue: deque[int]
    looks_at: float = math.inf


class Bells:
    """Calls pools by their numbers, as `Bell` does processes."""

    def __init__(self, number: int, called: Callable[[int], None]) -> None:
        self.number = number
        self.ring = called


def play(
    server: Server,
    calls: int,
    limit: int,
    latency: Callable[[], float],
    chance: random.Random,
    folder: Path | None = None,
    processes: int = 1,
    killed: float = math.inf,
) -> tuple[float, int]:
    """Seconds until all calls are done, and refusals; a refused call comes back as the pool's do.

    Several pools share a board in the folder, and the calls. The first of them is killed at that time: what it had in
    flight is answered to nobody, and the second asks it again with all that waited.
    """
    now = 0.0
    clock = lambda: now  # noqa: E731
    events, numbers = [], itertools.count()
    done = refused = 0
    flying: set[int] = set()

    def at(seconds: float, what: str, *rest: Any) -> None:
        heapq.heappush(events, (now + seconds, next(numbers), what, rest))

    def pool_of(number: int) -> Pool:
        limits = Limits(limit, Board(Known, folder, clock) if folder else Board(Known, clock=clock))
        limits.called_by(Bells(number, lambda other: at(RUNG_SECONDS, "rung", other)))
        return Pool(limits, deque(range(number, calls, processes)))

    pools = [pool_of(number) for number in range(processes)]

    def admit(number: int) -> None:
        pool = pools[number]
        while pool.queue:
            ticket = pool.limits.enter(0, len(pool.queue) - 1)
            if not isinstance(ticket, Ticket):
                if now + ticket < pool.looks_at:
                    pool.looks_at = now + ticket
                    at(ticket, "look", number)
                return
            pool.limits.go(ticket)
            call = pool.queue.popleft()
            if number == 0:
                flying.add(call)
            at(chance.uniform(*THERE_SECONDS), "there", number, call, ticket)

    for number in range(processes):
        admit(number)
    if killed < math.inf:
        at(killed, "killed")
    while done < calls:
        now, _, what, rest = heapq.heappop(events)
        if what == "killed":
            pools[1].queue.extend(sorted(flying))
            pools[1].queue.extend(pools[0].queue)
            pools[0].queue.clear()
            pools[0].limits._board._let_go()
            killed = now
            admit(1)
            continue
        number, *others = rest
        dead = number == 0 and killed <= now
        if what == "look":
            if now >= pools[number].looks_at:
                pools[number].looks_at = math.inf
                admit(number)
            continue
        if what == "there":
            error = server.enter(now)
            at(REFUSED_SECONDS, "refused", *rest, error) if error else at(latency(), "answered", *rest)
            continue
        server.inside -= what == "answered"
        if dead:
            refused += what == "refused"
            continue
        pool = pools[number]
        if what == "answered":
            done += 1
            flying.discard(others[0])
            pool.limits.succeeded(others[1], len(pool.queue))
        elif what == "refused":
            call, ticket, error = others
            refused += 1
            pool.limits.refused(ticket, error)
            if pool.limits.closed_seconds is None:
                at((error.retry_after or 0.5) * chance.uniform(1, 1.25), "back", number, call)
            else:
                pool.queue.append(call)
        elif what == "back":
            pool.queue.append(others[0])
        admit(number)
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
        pytest.param(SECOND, 600, 20, steady(0.2), 29.2, 1.1, 20, id="twenty a second"),
        pytest.param(SECOND, 600, 20, varied(0.1, 0.3), 29.2, 1.1, 20, id="twenty a second, varied"),
        pytest.param(SECOND | {"asks": 1.0}, 600, 20, steady(0.2), 29.2, 1.11, 20, id="twenty a second, asks 1"),
        pytest.param(SECOND | {"asks": None}, 600, 20, steady(0.2), 29.2, 1.11, 20, id="twenty a second, silent"),
        pytest.param(SECOND, 600, 100, steady(0.2), 29.2, 1.1, 105, id="twenty a second, by a hundred"),
        pytest.param(BUCKET, 600, 20, steady(0.2), 29.2, 1.1, 20, id="bucket"),
        pytest.param(BUCKET, 600, 20, varied(0.1, 0.3), 29.2, 1.1, 20, id="bucket, varied"),
        pytest.param(BUCKET | {"asks": None}, 600, 100, steady(0.2), 29.2, 1.1, 110, id="bucket, by a hundred"),
        pytest.param(MINUTE, 450, 20, steady(0.1), 240.3, 1.1, 10, id="a minute"),
        pytest.param(MINUTE | {"kind": "fixed"}, 450, 20, steady(0.1), 240.3, 1.1, 10, id="a fixed minute"),
        pytest.param(MINUTE | {"asks": None}, 450, 20, steady(0.1), 240.3, 1.1, 25, id="a minute, silent"),
        pytest.param(MINUTE | {"asks": 1.0}, 450, 20, steady(0.1), 240.3, 1.1, 25, id="a minute, asks 1"),
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


def alone(limit: int, clock: Callable[[], float], **given: Any) -> Limits:
    """Limits that nobody shares."""
    return Limits(limit, Board(Known, clock=clock), **given)


def let_in(limits: Limits) -> Ticket:
    """A request that may enter."""
    ticket = limits.enter(0)
    assert isinstance(ticket, Ticket)
    return ticket


def gone(limits: Limits) -> Ticket:
    """A request that was let in and went."""
    ticket = let_in(limits)
    limits.go(ticket)
    return ticket


def refusal(retry_after: float | None) -> RateLimited:
    return RateLimited("no", endpoint="", model="", retry_after=retry_after)


def test_a_slot_is_all_that_one_refusal_takes() -> None:
    """A refusal with more in flight than ever got through narrows by one; success widens again, not above the limit."""
    now = 0.0
    limits = alone(3, lambda: now)
    tickets = [gone(limits) for _ in range(3)]
    assert limits.enter(0) == math.inf
    limits.refused(tickets.pop(), refusal(7))
    assert (limits.allowed, limits.closed_seconds) == (2, None)
    for _ in range(40):
        now += 1
        limits.succeeded(tickets.pop(0), waiting=1000)
        while isinstance(ticket := limits.enter(0), Ticket):
            limits.go(ticket)
            tickets.append(ticket)
    assert limits.allowed == 3


def test_a_paced_request_counts_from_when_it_goes() -> None:
    """Nobody is let in before it went, and the next comes a whole step after that, however late it was."""
    now = 0.0
    limits = alone(3, lambda: now, pace=Pace(60))
    ticket = let_in(limits)
    now = 5.0
    assert limits.enter(0) == math.inf
    limits.go(ticket)
    assert limits.enter(0) == pytest.approx(1, abs=0.05)
    now = 6.1
    never = let_in(limits)
    limits.ended(never)  # one that was stopped before it went holds up nobody
    now = 7.2
    let_in(limits)


def test_nothing_goes_while_nothing_gets_through() -> None:
    """Three refusals though no more were in flight than got through: closed as long as asked, then one tries alone."""
    now = 0.0
    limits = alone(3, lambda: now)
    for _ in range(3):
        limits.refused(gone(limits), refusal(7))
    assert limits.closed_seconds == limits.enter(0) == 7
    now = 7.0
    trial = gone(limits)
    assert 0 < limits.enter(0) < 1
    limits.succeeded(trial, waiting=0)
    assert limits.closed_seconds is None


async def test_a_trial_that_is_not_refused_lets_others_in_before_its_answer() -> None:
    """An answer may take a minute and a refusal does not, so it is not waited for, by who shares nothing either."""
    limits = Limits(3)
    for _ in range(3):
        limits.refused(gone(limits), refusal(0.01))
    gate, inside = Gate((limits,)), asyncio.Barrier(2)

    async def ask() -> None:
        async with gate.slot():
            await inside.wait()

    async with asyncio.timeout(20):
        await asyncio.gather(ask(), ask())


def test_a_loop_that_was_closed_gives_a_place_back_once() -> None:
    """Who waited in it may be collected only after the place was passed on."""
    limits = Limits(1)
    gate, loop = Gate((limits,)), asyncio.new_event_loop()

    async def ask() -> None:
        async with gate.slot():
            pass

    async def asked() -> None:
        async with gate.slot():
            waiting.append(loop.create_task(ask()))
            await asyncio.to_thread(loop.run_until_complete, asyncio.sleep(0))
            loop.close()

    waiting: list[asyncio.Task[None]] = []
    asyncio.run(asked())
    waiting.pop().get_coro().close()  # type: ignore[union-attr]
    assert limits.load == 0


def test_asking_whether_it_is_closed_changes_nothing() -> None:
    """Not even in the middle of another thread's change, as whoever asks holds no lock."""
    board = Board(Known, clock=lambda: 0.0)
    limits = Limits(3, board)
    for _ in range(3):
        limits.refused(gone(limits), refusal(7))
    with board:
        assert limits.closed_seconds == 7
    assert limits.closed_seconds == limits.enter(0) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="file locks of this kind are POSIX's")
@pytest.mark.parametrize("processes", [4, 8])
@pytest.mark.parametrize(
    ("rule", "calls", "latency", "best", "times", "wasted"),
    [
        pytest.param(ONCE | {"asks": 1.0}, 200, steady(0.1), 4.0, 1.15, 25, id="five at once"),
        pytest.param(ONCE | {"asks": None}, 200, steady(0.1), 4.0, 1.15, 25, id="five at once, silent"),
        pytest.param(SECOND, 600, steady(0.2), 29.2, 1.1, 20, id="twenty a second"),
        pytest.param(SECOND, 600, varied(0.1, 0.3), 29.2, 1.1, 20, id="twenty a second, varied"),
        pytest.param(SECOND | {"asks": None}, 600, steady(0.2), 29.2, 1.11, 20, id="twenty a second, silent"),
        pytest.param(BUCKET, 600, varied(0.1, 0.3), 29.2, 1.1, 20, id="bucket, varied"),
        pytest.param(MINUTE, 450, steady(0.1), 240.3, 1.1, 10, id="a minute"),
        pytest.param(MINUTE | {"asks": None}, 450, steady(0.1), 240.3, 1.1, 25, id="a minute, silent"),
    ],
)  # fmt: skip
def test_several_find_out_what_one_would(
    tmp_path: Path,
    processes: int,
    rule: dict[str, Any],
    calls: int,
    latency: Callable[[random.Random], float],
    best: float,
    times: float,
    wasted: int,
) -> None:
    """Pools that share a board waste no more than one, and are as fast."""
    chance = random.Random(processes)
    server = Server(**rule)
    seconds, refused = play(server, calls, 20, lambda: latency(chance), chance, tmp_path, processes)
    assert seconds <= times * best
    assert refused <= wasted
    assert server.inside_most <= 20


@pytest.mark.skipif(sys.platform == "win32", reason="file locks of this kind are POSIX's")
@pytest.mark.parametrize(("rule", "calls", "best"), [(ONCE | {"asks": 1.0}, 200, 4.0), (SECOND, 300, 14.2)])
def test_what_a_killed_pool_had_in_flight_heals(
    tmp_path: Path, rule: dict[str, Any], calls: int, best: float
) -> None:
    """One of four is killed on the way: its places are free within a tenth of a second, and what was learnt stays."""
    chance = random.Random(0)
    seconds, refused = play(Server(**rule), calls, 20, lambda: 0.1, chance, tmp_path, 4, killed=1.55)
    assert seconds <= 1.15 * best
    assert refused <= 25
